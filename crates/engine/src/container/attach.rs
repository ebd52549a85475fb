//! `POST /containers/{id}/attach`: a client's own socket goes to the shim.
//!
//! In two steps, because the socket is the daemon's until the 101 is written: [`Engine::attach_begin`]
//! announces the client, so that a start that follows waits for it; [`PendingAttach::finish`] hands
//! the socket over, now or when there is a shim.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use seacow_spec::shim::{Attach, Request, Target};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::logs::{LogOptions, Replay};
use super::{Container, ContainerError, QueuedAttach};
use crate::Engine;
use crate::error::EngineError;
use crate::shim::ShimClient;

/// Clients that may wait for one container's start.
const MAX_WAITING: usize = 64;
/// ctrl-p, ctrl-q.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// What a client wants to be attached to.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Forward what it sends.
    pub stdin: bool,
    /// Send standard output.
    pub stdout: bool,
    /// Send standard error.
    pub stderr: bool,
    /// Attach to the running streams.
    pub stream: bool,
    /// Send what was logged so far first.
    pub logs: bool,
    /// Detach keys as the client writes them; empty is Docker's default.
    pub detach_keys: String,
}

/// A client's socket after the upgrade.
#[derive(Debug)]
pub struct ClientSocket {
    /// The client's own Unix socket, or one end of a pair that the daemon pumps.
    pub fd: OwnedFd,
    /// What was read from it already.
    pub initial: Vec<u8>,
}

/// An announced attachment. Dropping it takes the announcement back.
pub struct PendingAttach {
    engine: Engine,
    announced: Announced,
    options: AttachOptions,
    keys: Vec<u8>,
    tty: bool,
}

/// Keeps a start waiting.
struct Announced(Arc<Container>);

impl Announced {
    fn new(container: Arc<Container>) -> Self {
        container.cell().announced += 1;
        Self(container)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.0.cell().announced -= 1;
        self.0.arrived.notify_waiters();
    }
}

/// Waits for announced clients to arrive, a bounded time.
pub(super) async fn await_announced(container: &Container, limit: Duration) {
    let all_here = async {
        loop {
            let arrived = container.arrived.notified();
            tokio::pin!(arrived);
            // Registered before the look, so that no arrival is missed.
            arrived.as_mut().enable();
            if container.cell().announced == 0 {
                return;
            }
            arrived.await;
        }
    };
    if container.cell().announced > 0 && tokio::time::timeout(limit, all_here).await.is_err() {
        tracing::warn!(id = container.id.short(), "an announced client did not come");
    }
}

impl Engine {
    /// Announces a client.
    ///
    /// # Errors
    /// There is no such container, it is paused, or the detach keys are malformed.
    pub fn attach_begin(
        &self,
        reference: &str,
        options: AttachOptions,
    ) -> Result<PendingAttach, EngineError> {
        let container = self.0.containers.find(reference)?;
        let keys = detach_keys(&options.detach_keys)?;
        let (tty, paused, waiting) = {
            let mut cell = container.cell();
            if cell.queue.len() + cell.announced >= MAX_WAITING {
                cell.queue.retain(QueuedAttach::is_there);
            }
            (cell.record.config.tty, cell.is_paused_for_good(), cell.queue.len() + cell.announced)
        };
        if paused {
            return Err(ContainerError::Paused(container.id.to_string(), "attach").into());
        }
        if waiting >= MAX_WAITING {
            return Err(ContainerError::TooManyClients(MAX_WAITING).into());
        }
        Ok(PendingAttach { engine: self.clone(), announced: Announced::new(container), options, keys, tty })
    }
}

impl PendingAttach {
    /// Whether the stream will be a terminal's raw bytes instead of frames.
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// Hands the client over. Returns at once; replaying logs goes on by itself.
    ///
    /// # Errors
    /// The shim is gone or stuck.
    pub fn finish(self, socket: ClientSocket) -> Result<(), EngineError> {
        let Self { engine, announced, options, keys, tty } = self;
        let container = Arc::clone(&announced.0);
        let ClientSocket { fd, initial } = socket;
        let request = Attach {
            target: Target::Init,
            stdin: options.stdin && container.cell().record.config.open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            detach_keys: keys,
            initial_stdin: initial,
        };
        if options.stream {
            engine.emit(container.event("attach", &[]));
        }
        match (options.logs, options.stream) {
            (false, false) => Ok(()),
            (false, true) => attach(&container, QueuedAttach { request, socket: fd, attached: None }),
            (true, stream) => replay_first(&engine, container, &options, tty, request, fd, stream),
        }
    }
}

/// To the shim, or into the queue until there is one.
fn attach(container: &Container, client: QueuedAttach) -> Result<(), EngineError> {
    match container.live_shim() {
        Ok(shim) => {
            client.hand_over(&shim);
            Ok(())
        }
        Err(_) => {
            container.cell().queue.push(client);
            // The program may have been started between the look and the queueing.
            if let Ok(shim) = container.live_shim() {
                super::start::hand_over_clients(container, &shim);
            }
            Ok(())
        }
    }
}

impl QueuedAttach {
    /// Whether the client has not closed its connection. One that only ended its input has not.
    fn is_there(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut state = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut state, Some(&now)).is_err() || !state[0].revents().contains(PollFlags::HUP)
    }

    /// Sends it to the shim. The client sees a failure as the end of its stream.
    pub(super) fn hand_over(self, shim: &ShimClient) {
        match shim.send(Request::Attach(self.request), Some(self.socket)) {
            Ok(pending) => {
                if let Some(attached) = self.attached {
                    tokio::spawn(async move {
                        if let Ok(offset) = pending.attached().await {
                            let _ = attached.send(offset);
                        }
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "attach a client"),
        }
    }
}

/// The log up to the moment of attachment, then the stream: the shim gets one end of a pair and
/// the client is pumped, since only so can its bytes wait for the log's.
fn replay_first(
    engine: &Engine,
    container: Arc<Container>,
    options: &AttachOptions,
    tty: bool,
    request: Attach,
    fd: OwnedFd,
    stream: bool,
) -> Result<(), EngineError> {
    let failed = |source: std::io::Error| {
        ContainerError::io("attach a client of", std::path::Path::new(container.id.as_str()), source)
    };
    let client = std::os::unix::net::UnixStream::from(fd);
    client.set_nonblocking(true).map_err(failed)?;
    let mut client = UnixStream::from_std(client).map_err(failed)?;
    let wanted = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
    let record = container.record();
    let live = stream.then(|| join(&container, request)).transpose()?;
    let engine = engine.clone();
    tokio::spawn(async move {
        let (inner, offset) = match live {
            Some((inner, offset)) => (Some(inner), offset.await.ok()),
            None => (None, None),
        };
        if record.host_config.log_config.kind == "json-file" {
            let mut replay = Replay::new(&engine, &record.id, wanted, tty, offset);
            while let Some(chunk) = replay.next().await {
                if client.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        }
        if let Some(mut inner) = inner {
            // Each direction ends with its half; both ended closes both sockets.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut inner).await;
        }
    });
    Ok(())
}

/// Attaches one end of a pair; the other comes back with the log's size at that moment.
fn join(
    container: &Container,
    request: Attach,
) -> Result<(UnixStream, oneshot::Receiver<u64>), ContainerError> {
    let failed = |source: std::io::Error| {
        ContainerError::io("attach a client of", std::path::Path::new(container.id.as_str()), source)
    };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let (sender, offset) = oneshot::channel();
    // A container that does not run has no moment yet: all of its log comes first.
    let attached = container.live_shim().is_ok().then_some(sender);
    let client = QueuedAttach { request, socket: theirs.into(), attached };
    match container.live_shim() {
        Ok(shim) => client.hand_over(&shim),
        Err(_) => container.cell().queue.push(client),
    }
    Ok((ours, offset))
}

/// `ctrl-p,ctrl-q`, `a`, `ctrl-@`.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>, ContainerError> {
    if text.is_empty() {
        return Ok(DEFAULT_KEYS.to_vec());
    }
    let key = |word: &str| match word.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => Some(letter - b'a' + 1),
        Some([b'@']) => Some(0),
        Some([symbol @ b'['..=b'_']) => Some(symbol - b'[' + 27),
        Some(_) => None,
        None => match word.as_bytes() {
            [letter] => Some(*letter),
            _ => None,
        },
    };
    text.split(',').map(key).collect::<Option<_>>().ok_or_else(|| ContainerError::DetachKeys(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(detach_keys("").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x,ctrl-@,ctrl-[,ctrl-_").unwrap(), [1, b'x', 0, 27, 31]);
        for bad in ["ctrl-A", "ctrl-", "xy", "ctrl-p,", ","] {
            assert!(detach_keys(bad).is_err(), "{bad}");
        }
    }
}
