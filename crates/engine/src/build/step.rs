//! The container of one `RUN`: created, attached to, started, waited for, committed, removed.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use seacow_build::Cancel;
use seacow_build::executor::{Change, RunStep, StepContainer, StepOutput, Stream};
use seacow_spec::docker::container::{CreateRequest, NetworkingConfig};
use seacow_spec::docker::host_config::LogConfig;
use seacow_spec::{ErrorClass, ErrorReport, Timestamp};

use super::executor::{BuildExecutor, report};
use super::finish::Finish;
use super::leftovers::STEP_LABEL;
use super::mounts::Furniture;
use crate::{AttachOptions, ClientSocket, RemoveOptions, WaitCondition};

/// Header of a frame: stream, three zeros, length.
const HEADER: usize = 8;
/// Largest frame that a shim sends.
const MAX_FRAME: usize = 1 << 20;

/// A step's container.
pub(super) struct Step<'a> {
    build: &'a BuildExecutor,
    id: String,
    warnings: Vec<String>,
    /// Goes when the step's container has gone.
    furniture: Furniture<'a>,
}

impl<'a> Step<'a> {
    /// Creates the container, not started.
    pub(super) fn create(build: &'a BuildExecutor, step: &RunStep) -> Result<Self, ErrorReport> {
        let Some(image) = &step.image else {
            let text =
                "RUN needs a program, and an image FROM scratch has none before something is copied into it";
            return Err(ErrorReport::new(ErrorClass::InvalidArgument, text));
        };
        let mut config = step.config.clone();
        config.image = image.to_string();
        config.labels.get_or_insert_default().insert(STEP_LABEL.into(), String::new());
        let mut host_config = step.host_config.clone();
        // Its output goes to the client of the build and nowhere else.
        host_config.log_config = LogConfig { kind: "none".into(), ..LogConfig::default() };
        let Some(furniture) = Furniture::make(build, &step.mounts, &mut host_config)? else {
            return Err(ErrorReport::new(ErrorClass::Conflict, "the build was cancelled"));
        };
        let request = CreateRequest { config, host_config, networking_config: NetworkingConfig::default() };
        let created = build.engine.create_step(request, build.caller, step.secret_env.clone());
        let created = build.runtime.block_on(created).map_err(report)?;
        Ok(Self { build, id: created.id, warnings: created.warnings, furniture })
    }

    /// Connects a socket to the container's output.
    fn attach(&self) -> Result<UnixStream, ErrorReport> {
        let failed = |error: std::io::Error| {
            ErrorReport::new(ErrorClass::Internal, format!("make a socket for the output of a step: {error}"))
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let options = AttachOptions { stdout: true, stderr: true, stream: true, ..AttachOptions::default() };
        let pending = self.build.engine.attach_begin(&self.id, options).map_err(report)?;
        pending.finish(ClientSocket { fd: theirs.into(), initial: Vec::new() }).map_err(report)?;
        Ok(ours)
    }

    fn kill(&self) {
        let (engine, id) = (self.build.engine.clone(), self.id.clone());
        self.build.runtime.spawn(async move {
            // One that has ended meanwhile needs no killing.
            if let Err(error) = engine.kill(&id, Some("SIGKILL".into())).await {
                tracing::debug!(id, %error, "kill a build step");
            }
        });
    }
}

impl StepContainer for Step<'_> {
    fn id(&self) -> &str {
        &self.id
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn run(&mut self, output: &mut dyn StepOutput, cancel: &Cancel) -> Result<i32, ErrorReport> {
        let engine = &self.build.engine;
        let _inside = self.build.runtime.enter();
        let mut stream = self.attach()?;
        let ended = engine.wait(&self.id, WaitCondition::NextExit).map_err(report)?;
        self.build.runtime.block_on(engine.start(&self.id)).map_err(report)?;
        let (killer, id, runtime) = (engine.clone(), self.id.clone(), self.build.runtime.clone());
        cancel.on_cancel(move || {
            runtime.spawn(async move { killer.kill(&id, Some("SIGKILL".into())).await });
        });
        if !pass_on(&mut stream, output) {
            self.kill();
            // So that the container does not wait for us to read while it dies.
            drop(stream);
        }
        let ended = self.build.runtime.block_on(ended);
        i32::try_from(ended.status_code).map_err(|_| {
            ErrorReport::new(ErrorClass::Internal, format!("impossible exit status {}", ended.status_code))
        })
    }

    fn commit(&mut self, epoch: Option<Timestamp>) -> Result<Change, ErrorReport> {
        let finish = Finish { targets: std::mem::take(&mut self.furniture.targets), epoch };
        let layer = self.build.engine.take_changes(&self.id, self.build.takes_layers, finish);
        match self.build.runtime.block_on(layer).map_err(report)? {
            Some(layer) => Ok(self.build.keep(layer)),
            None => Ok(Change::Empty),
        }
    }

    fn remove(self: Box<Self>) -> Result<(), ErrorReport> {
        let options = RemoveOptions { force: true, volumes: true, link: false };
        self.build.runtime.block_on(self.build.engine.remove(&self.id, options)).map_err(report)
    }
}

/// Passes frames on until the stream ends; false when nobody listens any more.
fn pass_on(stream: &mut impl Read, output: &mut dyn StepOutput) -> bool {
    let mut payload = Vec::new();
    while let Some(kind) = next_frame(stream, &mut payload) {
        let kind = if kind == 2 { Stream::Stderr } else { Stream::Stdout };
        if output.write(kind, &payload).is_err() {
            return false;
        }
    }
    true
}

/// Reads one frame. A stream that ends within one has lost its shim, which the wait reports.
fn next_frame(stream: &mut impl Read, payload: &mut Vec<u8>) -> Option<u8> {
    let mut header = [0; HEADER];
    read_exact(stream, &mut header)?;
    let [kind, _, _, _, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= MAX_FRAME)?;
    payload.resize(length, 0);
    read_exact(stream, payload)?;
    Some(kind)
}

fn read_exact(stream: &mut impl Read, buffer: &mut [u8]) -> Option<()> {
    match stream.read_exact(buffer) {
        Ok(()) => Some(()),
        Err(error) => {
            if error.kind() != ErrorKind::UnexpectedEof {
                tracing::warn!("read the output of a build step: {error}");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use seacow_build::Disconnected;

    use super::*;

    #[derive(Default)]
    struct Heard(Vec<(Stream, Vec<u8>)>, usize);

    impl StepOutput for Heard {
        fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Disconnected> {
            self.0.push((stream, bytes.to_vec()));
            if self.0.len() == self.1 { Err(Disconnected) } else { Ok(()) }
        }
    }

    #[test]
    fn frames_are_told_apart() {
        let bytes = b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n\x01\0\0\0\0\0\0\x09cut";
        let mut heard = Heard::default();
        assert!(pass_on(&mut &bytes[..], &mut heard));
        assert_eq!(heard.0, [(Stream::Stdout, b"out\n".to_vec()), (Stream::Stderr, b"err\n".to_vec())]);
        let mut deaf = Heard(Vec::new(), 1);
        assert!(!pass_on(&mut &bytes[..], &mut deaf));
    }
}
