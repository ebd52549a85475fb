//! Programs of the caller's that run at stages of a container's life, with its state on standard
//! input.
//!
//! | stage | when | where | failure |
//! |---|---|---|---|
//! | prestart, createRuntime | mounts are there, the root not yet entered | the runtime's namespaces | ends the container |
//! | createContainer | right after those | the container's, the host's files | ends the container |
//! | startContainer | last before the program | the container, its user and capabilities | ends the container |
//! | poststart | the program runs | the runtime's namespaces | the caller's to judge |
//! | poststop | the container is deleted, or was never completed | the runtime's namespaces | the caller's to tell |
//!
//! The first four are run by [`crate::init`] where `spec.hooks` of the request names them, the
//! others by whoever starts and deletes the container, with [`run`] or [`run_all`].

use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use seacow_spec::oci::runtime::{Hook, Hooks};
use seacow_spec::oci::state::State;
use seacow_sys::{Errno, process};

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names are the specification's")]
pub enum Stage {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Stage {
    /// The specification's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// Its hooks.
    pub fn of(self, hooks: &Hooks) -> &[Hook] {
        match self {
            Self::Prestart => &hooks.prestart,
            Self::CreateRuntime => &hooks.create_runtime,
            Self::CreateContainer => &hooks.create_container,
            Self::StartContainer => &hooks.start_container,
            Self::Poststart => &hooks.poststart,
            Self::Poststop => &hooks.poststop,
        }
    }
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error("error running {} hook #{index}: {path}: {why}", .stage.name())]
pub struct Error {
    /// When.
    pub stage: Stage,
    /// Which of that stage, from 0.
    pub index: usize,
    /// Its program.
    pub path: String,
    /// What happened.
    pub why: Failure,
}

/// What happened to a hook.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be started or watched.
    #[error("{0}")]
    Start(std::io::Error),
    /// It said no.
    #[error("{status}{}", words(.output))]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it printed.
        output: String,
    },
    /// It took longer than its `timeout`, and was killed.
    #[error("not ended after {limit:?}{}", words(.output))]
    Late {
        /// The time it had.
        limit: Duration,
        /// The beginning of what it printed.
        output: String,
    },
}

fn words(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(", output: {output}") }
}

/// Runs a stage's hooks in order; the first failure ends it.
pub fn run(stage: Stage, hooks: &Hooks, state: &State) -> Result<(), Error> {
    run_in(None, stage, hooks, state)
}

/// As [`run`], in a working directory.
pub(crate) fn run_in(dir: Option<&Path>, stage: Stage, hooks: &Hooks, state: &State) -> Result<(), Error> {
    stage.of(hooks).iter().enumerate().try_for_each(|(index, hook)| one(dir, stage, index, hook, state))
}

/// Runs a stage's hooks in order, also those after a failure: for what cannot be stopped any more.
pub fn run_all(stage: Stage, hooks: &Hooks, state: &State) -> Vec<Error> {
    let hooks = stage.of(hooks).iter().enumerate();
    hooks.filter_map(|(index, hook)| one(None, stage, index, hook, state).err()).collect()
}

fn one(dir: Option<&Path>, stage: Stage, index: usize, hook: &Hook, state: &State) -> Result<(), Error> {
    execute(dir, hook, state).map_err(|why| Error { stage, index, path: hook.path.clone(), why })
}

fn execute(dir: Option<&Path>, hook: &Hook, state: &State) -> Result<(), Failure> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(start_errno)?;
    rustix::io::ioctl_fionbio(&read, true).map_err(start_errno)?;
    let second = write.try_clone().map_err(Failure::Start)?;
    let mut command = Command::new(&hook.path);
    command.args(hook.args.iter().skip(1)).env_clear();
    if let Some(name) = hook.args.first() {
        command.arg0(name);
    }
    command.envs(hook.env.iter().filter_map(|e| e.split_once('=')));
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    // A group of its own: what it started ends with it when it is late.
    command.process_group(0).stdin(stdin(state)?).stdout(write).stderr(second);
    let child = command.spawn().map_err(Failure::Start)?;
    // Holds the writing ends, which would keep the pipe open.
    drop(command);
    watch(child, read, hook.timeout.and_then(|t| u64::try_from(t).ok()).map(Duration::from_secs))
}

/// The state as a file in memory: a hook that does not read it blocks nobody.
fn stdin(state: &State) -> Result<std::fs::File, Failure> {
    let memory = rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::CLOEXEC).map_err(start_errno)?;
    let mut file = std::fs::File::from(memory);
    let json = serde_json::to_vec(state).map_err(|e| Failure::Start(e.into()))?;
    file.write_all(&json).and_then(|()| file.rewind()).map_err(Failure::Start)?;
    Ok(file)
}

/// Bytes of a hook's output that an error shows.
const SHOWN: usize = 4096;

fn watch(mut child: Child, output: OwnedFd, limit: Option<Duration>) -> Result<(), Failure> {
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let pidfd = process::pidfd_open(pid).map_err(start_errno)?;
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut output = Output { file: output.into(), shown: Vec::new(), open: true };
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            if let Some(group) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            child.wait().map_err(Failure::Start)?;
            return Err(Failure::Late { limit: limit.unwrap_or_default(), output: output.text() });
        }
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if output.open {
            fds.push(PollFd::new(&output.file, PollFlags::IN));
        }
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(start_errno(errno)),
        }
        let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        output.take();
        // Not the end of its output: a daemon that it left behind may hold that for ever.
        if ended {
            let status = child.wait().map_err(Failure::Start)?;
            return if status.success() {
                Ok(())
            } else {
                Err(Failure::Ended { status, output: output.text() })
            };
        }
    }
}

/// What a hook printed, read so that it does not wait for us.
struct Output {
    file: std::fs::File,
    shown: Vec<u8>,
    open: bool,
}

impl Output {
    fn take(&mut self) {
        let mut buffer = [0; 4096];
        while self.open {
            match self.file.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(len) => {
                    let room = SHOWN.saturating_sub(self.shown.len()).min(len);
                    self.shown.extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.open = error.kind() == std::io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).trim_end().to_owned()
    }
}

fn start_errno(errno: Errno) -> Failure {
    Failure::Start(errno.into())
}
