//! A connection to one shim.
//!
//! Requests are written from the caller's own thread, without a task between: the start path is
//! three of them in a row. A request that does not fit into the socket's buffer is finished by a
//! task, so that a caller who gives up half-way leaves no half frame behind. One task reads: it
//! hands answers to whoever asked and everything else to the connection's [`Sink`].

mod launch;
mod program;
mod write;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seacow_spec::shim::{
    Answer, Decoder, Event, FrameError, FromShim, PROTOCOL_VERSION, Request, Status, ToShim,
};
use seacow_spec::{Classified, ErrorClass, ErrorReport, Timestamp};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::blocking::lock;

pub(crate) use launch::{cleanup, connect, spawn};
pub(crate) use program::Program;

/// How long a shim may take for any one request. A container's root file system may lie on a slow
/// disk; a shim that needs longer than this is lost.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const READ_CHUNK: usize = 4 << 10;

/// What can go wrong between engine and shim.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The program could not be started.
    #[error("start {program}: {source}")]
    Spawn {
        /// Its path.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Its socket could not be reached.
    #[error("connect to the shim at {path}: {source}")]
    Connect {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection ended.
    #[error("the container's shim is gone")]
    Lost,
    /// The connection is stuck.
    #[error("the container's shim does not read its requests")]
    Congested,
    /// No answer came.
    #[error("the container's shim did not answer within {}s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// A frame could not be made.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An answer of another request.
    #[error("the container's shim answered a request for {asked} with something else")]
    Unexpected {
        /// What was asked.
        asked: &'static str,
    },
    /// The shim reports a failure.
    #[error("{0}")]
    Refused(ErrorReport),
    /// `seacow-shim --cleanup` failed.
    #[error("clean up after a lost shim in {dir}: {text}")]
    Cleanup {
        /// The exec directory.
        dir: String,
        /// What it said.
        text: String,
    },
}

impl ShimError {
    /// What the shim reported, with the exit status that belongs to it; of anything else a report.
    pub(crate) fn into_report(self) -> ErrorReport {
        match self {
            Self::Refused(report) => report,
            other => ErrorReport::of(&other),
        }
    }
}

impl Classified for ShimError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(report) => report.class,
            Self::Spawn { .. }
            | Self::Connect { .. }
            | Self::Lost
            | Self::Congested
            | Self::Silent
            | Self::Frame(_)
            | Self::Unexpected { .. }
            | Self::Cleanup { .. } => ErrorClass::Internal,
        }
    }
}

/// What a shim says unasked.
#[derive(Debug)]
pub(crate) enum Signal {
    /// An event.
    Event(Event),
    /// The connection ended; nothing will follow.
    Lost,
}

/// Receives what a shim says unasked, on the reading task: it must not block.
pub(crate) type Sink = Arc<dyn Fn(Signal) + Send + Sync>;

struct Shared {
    stream: UnixStream,
    writer: Mutex<write::Writer>,
    /// `None` once the connection ended.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    seq: AtomicU64,
    /// The shim's version of the protocol.
    version: AtomicU32,
    sink: Mutex<Option<Sink>>,
}

/// A connection to one shim. Cheap to clone; the connection ends with its last clone, which a
/// shim without a started container takes as its own end.
#[derive(Clone)]
pub(crate) struct ShimClient(Arc<Handle>);

/// Ends the writing half when the last client goes; the reading task keeps the rest until the
/// shim has closed its side, so that its exit status is collected.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        // ENOTCONN: the shim was faster.
        let _ = rustix::net::shutdown(&self.0.stream, rustix::net::Shutdown::Write);
    }
}

impl std::fmt::Debug for ShimClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShimClient").field("lost", &self.is_lost()).finish()
    }
}

/// An answer that has not come yet. Dropping it does not take the request back.
pub(crate) struct Pending(oneshot::Receiver<Answer>);

impl Pending {
    /// The answer; a failure the shim reports is an error.
    pub(crate) async fn answer(self) -> Result<Answer, ShimError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.0).await {
            Ok(Ok(Answer::Failed(report))) => Err(ShimError::Refused(report)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ShimError::Lost),
            Err(_) => Err(ShimError::Silent),
        }
    }

    /// The answer of a request that has nothing to tell.
    pub(crate) async fn done(self) -> Result<(), ShimError> {
        match self.answer().await? {
            Answer::Done => Ok(()),
            _ => Err(ShimError::Unexpected { asked: "an action" }),
        }
    }

    /// The answer of [`Request::Prepare`] and [`Request::Create`].
    pub(crate) async fn made(self) -> Result<i32, ShimError> {
        match self.answer().await? {
            Answer::Prepared { pid } | Answer::Created { pid } => Ok(pid),
            _ => Err(ShimError::Unexpected { asked: "a container" }),
        }
    }

    /// The answer of [`Request::Start`] and [`Request::Exec`].
    pub(crate) async fn started(self) -> Result<(i32, Timestamp), ShimError> {
        match self.answer().await? {
            Answer::Started { pid, at } => Ok((pid, at)),
            _ => Err(ShimError::Unexpected { asked: "a start" }),
        }
    }

    /// The answer of [`Request::Clone`].
    pub(crate) async fn held(self) -> Result<i32, ShimError> {
        match self.answer().await? {
            Answer::Held { pid } => Ok(pid),
            _ => Err(ShimError::Unexpected { asked: "a clone" }),
        }
    }

    /// The answer of [`Request::Attach`]: the size of the newest log file.
    pub(crate) async fn attached(self) -> Result<u64, ShimError> {
        match self.answer().await? {
            Answer::Attached { log_offset } => Ok(log_offset),
            _ => Err(ShimError::Unexpected { asked: "an attachment" }),
        }
    }
}

impl ShimClient {
    /// Takes over a connected stream; `child` is collected when the connection ends.
    pub(crate) fn new(stream: UnixStream, child: Option<Child>) -> Self {
        let shared = Arc::new(Shared {
            stream,
            writer: Mutex::default(),
            pending: Mutex::new(Some(HashMap::new())),
            seq: AtomicU64::new(1),
            // Of a shim that was started just now; of any other the greeting tells.
            version: AtomicU32::new(PROTOCOL_VERSION),
            sink: Mutex::new(None),
        });
        tokio::spawn(read(Arc::clone(&shared), child));
        Self(Arc::new(Handle(shared)))
    }

    /// From now on, what the shim says unasked goes to `sink`. A connection that ended before is
    /// reported at once.
    pub(crate) fn listen(&self, sink: Sink) {
        *lock(&self.0.0.sink) = Some(Arc::clone(&sink));
        if self.is_lost() && lock(&self.0.0.sink).take().is_some() {
            sink(Signal::Lost);
        }
    }

    /// From now on nobody hears it.
    pub(crate) fn mute(&self) {
        lock(&self.0.0.sink).take();
    }

    /// Whether the connection ended.
    pub(crate) fn is_lost(&self) -> bool {
        lock(&self.0.0.pending).is_none()
    }

    /// Sends a request, with a descriptor if it has one. The shim works off requests in order.
    pub(crate) fn send(&self, request: Request, descriptor: Option<OwnedFd>) -> Result<Pending, ShimError> {
        let shared = &self.0.0;
        let seq = shared.seq.fetch_add(1, Ordering::Relaxed);
        let frame = seacow_spec::shim::encode(&ToShim { seq, request })?;
        let (sender, receiver) = oneshot::channel();
        match lock(&shared.pending).as_mut() {
            Some(pending) => pending.insert(seq, sender),
            None => return Err(ShimError::Lost),
        };
        write::enqueue(shared, frame, descriptor)?;
        Ok(Pending(receiver))
    }

    /// First on every connection; gives what the shim holds.
    pub(crate) async fn hello(&self) -> Result<Status, ShimError> {
        match self.send(Request::Hello { version: PROTOCOL_VERSION }, None)?.answer().await? {
            Answer::Hello { status, version, .. } => {
                self.0.0.version.store(version, Ordering::Relaxed);
                Ok(*status)
            }
            _ => Err(ShimError::Unexpected { asked: "a greeting" }),
        }
    }

    /// Its version of the protocol.
    pub(crate) fn version(&self) -> u32 {
        self.0.0.version.load(Ordering::Relaxed)
    }

    /// What it holds. When this returns, every event the shim sent before was delivered.
    pub(crate) async fn status(&self) -> Result<Status, ShimError> {
        match self.send(Request::Status, None)?.answer().await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(ShimError::Unexpected { asked: "its status" }),
        }
    }

    /// Host pids of the container's processes.
    pub(crate) async fn pids(&self) -> Result<Vec<i32>, ShimError> {
        match self.send(Request::Pids, None)?.answer().await? {
            Answer::Pids(pids) => Ok(pids),
            _ => Err(ShimError::Unexpected { asked: "its processes" }),
        }
    }

    /// Ends shim and container; a shim that is gone already is as good.
    pub(crate) async fn delete(&self) -> Result<(), ShimError> {
        match self.send(Request::Delete, None) {
            Ok(pending) => match pending.done().await {
                Err(ShimError::Lost) => Ok(()),
                other => other,
            },
            Err(ShimError::Lost) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Reads until the shim closes, then tells everyone who waits, then collects the process.
async fn read(shared: Arc<Shared>, child: Option<Child>) {
    if let Err(error) = read_messages(&shared).await {
        tracing::warn!(%error, "shim connection");
    }
    // Dropping the senders wakes everyone who waits for an answer.
    lock(&shared.pending).take();
    let sink = lock(&shared.sink).take();
    if let Some(sink) = sink {
        sink(Signal::Lost);
    }
    if let Some(mut child) = child {
        let _ = tokio::task::spawn_blocking(move || child.wait()).await;
    }
}

async fn read_messages(shared: &Shared) -> Result<(), FrameError> {
    let mut decoder = Decoder::default();
    loop {
        shared.stream.readable().await?;
        match read_some(shared, &mut decoder) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        while let Some(message) = decoder.next_message::<FromShim>()? {
            deliver(shared, message);
        }
    }
}

/// By way of the stack: what is held across a wait, every idle container holds.
fn read_some(shared: &Shared, decoder: &mut Decoder) -> std::io::Result<usize> {
    let mut chunk = [0; READ_CHUNK];
    let count = shared.stream.try_read(&mut chunk)?;
    decoder.push(chunk.get(..count).unwrap_or_default());
    Ok(count)
}

fn deliver(shared: &Shared, message: FromShim) {
    match message {
        FromShim::Answer { seq, answer } => {
            let waiting = lock(&shared.pending).as_mut().and_then(|pending| pending.remove(&seq));
            if let Some(waiting) = waiting {
                // Nobody waits for it any more: fine.
                let _ = waiting.send(answer);
            }
        }
        FromShim::Event(event) => {
            let sink = lock(&shared.sink).clone();
            match sink {
                Some(sink) => sink(Signal::Event(event)),
                None => tracing::debug!(?event, "a shim's event nobody listens to"),
            }
        }
    }
}

/// Whether a live shim listens in `dir`.
pub(crate) fn socket_exists(dir: &Path) -> bool {
    dir.join(seacow_spec::shim::SOCKET_NAME).exists()
}

#[cfg(test)]
mod tests;
