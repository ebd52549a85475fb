//! Byte and progress streams between async clients and the crates that block.
//!
//! Both directions are bounded, so that a client that reads slowly slows the work down instead of
//! filling memory, and one that goes away ends it: the next write fails.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use seacow_spec::docker::build::{ErrorDetail, JsonMessage};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::blocking::{self, Interrupted};

/// Pieces between a client and a thread: enough that neither waits for the other at each piece.
const PIECES: usize = 8;
/// Size of a piece: a few system calls' worth.
const PIECE: usize = 64 << 10;
/// Progress messages that may wait for a slow client.
const MESSAGES: usize = 256;

/// Streams that are worked on at a time, each on a thread of its own for as long as its client takes;
/// further ones wait. The runtime must have more blocking threads than these: the work of a stream
/// itself waits for short work on others.
pub const MAX_STREAMS: usize = 128;

static STREAMS: Semaphore = Semaphore::const_new(MAX_STREAMS);

/// Runs work that lasts as long as a client takes.
///
/// # Errors
/// The work panicked, or the runtime is shutting down.
pub(crate) async fn run<T, F>(step: &'static str, work: F) -> Result<T, Interrupted>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    // Fails only when the semaphore is closed, which nobody does.
    let _permit = STREAMS.acquire().await;
    blocking::run(step, work).await
}

/// The same in the background; what goes wrong with the thread itself is logged.
fn run_in_background(step: &'static str, work: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = run(step, work).await {
            tracing::error!(%error, "a stream");
        }
    });
}

/// Bytes for a client. An error ends the stream, and shows as a body cut short.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
/// Progress for a client; a failure is its last message.
pub type Progress = Pin<Box<dyn Stream<Item = JsonMessage> + Send>>;

/// Reads an upload from a thread that may block.
pub(crate) struct UploadReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Makes an upload readable. Nothing of it is fetched before it is read but a few pieces.
pub(crate) fn upload(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> UploadReader {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(piece) = stream.next().await {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    UploadReader { pieces, current: Bytes::new() }
}

impl Read for UploadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

/// Writes a download from a thread that may block.
pub(crate) struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
    sent: bool,
}

impl PieceWriter {
    fn send(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        if piece.is_empty() {
            return Ok(());
        }
        self.sent = true;
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Has `work` write on a thread of its own; what it writes is the stream. A failure before the
/// first piece is the caller's, with its class; a later one breaks the stream.
///
/// # Errors
/// The work failed before it wrote anything.
pub(crate) async fn download<F, E>(work: F) -> Result<ByteStream, E>
where
    F: FnOnce(&mut PieceWriter) -> Result<(), E> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let (pieces, mut receiver) = mpsc::channel(PIECES);
    let (early, failed) = oneshot::channel();
    run_in_background("write a stream", move || {
        let mut writer = PieceWriter { pieces, buffer: BytesMut::with_capacity(PIECE), sent: false };
        let message = match work(&mut writer) {
            Ok(()) => writer.flush().err().map(|error| error.to_string()),
            Err(error) if writer.sent => Some(error.to_string()),
            Err(error) => {
                // Nobody hears it when the request was dropped.
                let _ = early.send(error);
                return;
            }
        };
        if let Some(message) = message {
            // Fails when the client is gone, who then needs no reason.
            let _ = writer.pieces.blocking_send(Err(io::Error::other(message)));
        }
    });
    match receiver.recv().await {
        Some(first) => Ok(Box::pin(stream::iter([first]).chain(receiving(receiver)))),
        None => match failed.await {
            Ok(error) => Err(error),
            Err(_) => Ok(Box::pin(stream::empty())),
        },
    }
}

/// Nobody listens any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client went away")]
pub struct Disconnected;

/// Sends progress from a thread that may block.
#[derive(Clone)]
pub(crate) struct ProgressSender {
    messages: mpsc::Sender<JsonMessage>,
    sent: Arc<AtomicBool>,
}

impl ProgressSender {
    /// Sends one message.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(crate) fn send(&self, message: JsonMessage) -> Result<(), Disconnected> {
        self.sent.store(true, Ordering::Relaxed);
        self.messages.blocking_send(message).map_err(|_| Disconnected)
    }

    /// Sends one message from where nobody may wait; it is lost when many wait already.
    pub(crate) fn offer(&self, message: JsonMessage) {
        self.sent.store(true, Ordering::Relaxed);
        // A full queue has newer progress behind it, and a closed one nobody in front.
        let _ = self.messages.try_send(message);
    }

    /// Sends text.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(crate) fn stream(&self, text: impl Into<String>) -> Result<(), Disconnected> {
        self.send(JsonMessage { stream: Some(text.into()), ..JsonMessage::default() })
    }

    /// Sends a status.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(crate) fn status(&self, text: impl Into<String>) -> Result<(), Disconnected> {
        self.send(JsonMessage { status: Some(text.into()), ..JsonMessage::default() })
    }

    /// Resolves when nobody listens any more.
    pub(crate) async fn disconnected(&self) {
        self.messages.closed().await;
    }
}

/// Has `work` report on a thread of its own; what it reports is the stream, its failure the end.
pub(crate) fn progress<F, E>(work: F) -> Progress
where
    F: FnOnce(&ProgressSender) -> Result<(), E> + Send + 'static,
    E: std::fmt::Display,
{
    let (messages, receiver) = mpsc::channel(MESSAGES);
    let sender = ProgressSender { messages, sent: Arc::default() };
    run_in_background("report progress", move || {
        if let Err(error) = work(&sender) {
            // Fails when the client is gone, who then needs no reason.
            let _ = sender.send(failure(error.to_string(), None));
        }
    });
    Box::pin(receiving(receiver))
}

/// The same, but a failure before the first message is the caller's, with its class: dockerd answers
/// with a status as long as it has not begun to answer otherwise. `message` is what ends the stream
/// after a later one.
///
/// # Errors
/// The work failed before it reported anything.
pub(crate) async fn progress_once_begun<F, E>(
    work: F,
    message: impl FnOnce(&E) -> JsonMessage + Send + 'static,
) -> Result<Progress, E>
where
    F: FnOnce(&ProgressSender) -> Result<(), E> + Send + 'static,
    E: Send + 'static,
{
    let (messages, mut receiver) = mpsc::channel(MESSAGES);
    let sender = ProgressSender { messages, sent: Arc::default() };
    let (early, failed) = oneshot::channel();
    run_in_background("report progress", move || {
        // Nobody hears either when the client is gone.
        if let Err(error) = work(&sender) {
            if sender.sent.load(Ordering::Relaxed) {
                let _ = sender.send(message(&error));
            } else {
                let _ = early.send(error);
            }
        }
    });
    match receiver.recv().await {
        Some(first) => Ok(Box::pin(stream::iter([first]).chain(receiving(receiver)))),
        None => failed.await.map_or_else(|_| Ok(Box::pin(stream::empty()) as Progress), Err),
    }
}

/// The message that ends a stream that failed.
pub(crate) fn failure(message: String, code: Option<i32>) -> JsonMessage {
    JsonMessage {
        error_detail: Some(ErrorDetail { code, message: message.clone() }),
        error: Some(message),
        ..JsonMessage::default()
    }
}

fn receiving<T: Send>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_in_comes_out() {
        let pieces = vec![Ok(Bytes::from_static(b"ab")), Ok(Bytes::new()), Ok(Bytes::from_static(b"cde"))];
        let mut reader = upload(stream::iter(pieces));
        let text = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(text.await.unwrap().unwrap(), "abcde");

        let download = download(|writer| {
            for _ in 0..3 {
                writer.write_all(&[7; PIECE])?;
            }
            writer.write_all(b"end")
        });
        let mut stream = download.await.unwrap();
        let mut total = 0;
        while let Some(piece) = stream.next().await {
            total += piece.unwrap().len();
        }
        assert_eq!(total, 3 * PIECE + 3);
    }

    #[tokio::test]
    async fn a_failure_is_the_caller_s_until_something_was_sent() {
        let early = download(|writer| {
            writer.write_all(b"not sent yet")?;
            Err::<(), _>(io::Error::other("disk on fire"))
        });
        assert_eq!(early.await.err().unwrap().to_string(), "disk on fire");

        let late = download(|writer| {
            writer.write_all(b"begin")?;
            writer.flush()?;
            Err::<(), _>(io::Error::other("disk on fire"))
        });
        let mut stream = late.await.unwrap();
        assert_eq!(&stream.next().await.unwrap().unwrap()[..], b"begin");
        assert_eq!(stream.next().await.unwrap().unwrap_err().to_string(), "disk on fire");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_failure_is_the_last_progress() {
        let mut stream = progress(|sender| {
            sender.status("working").map_err(|error| error.to_string())?;
            Err::<(), _>("no more room".to_owned())
        });
        assert_eq!(stream.next().await.unwrap().status.as_deref(), Some("working"));
        assert_eq!(stream.next().await.unwrap().error.as_deref(), Some("no more room"));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_failure_before_the_first_progress_is_the_caller_s() {
        let early = progress_once_begun(|_| Err("bad wish"), |_| JsonMessage::default());
        assert_eq!(early.await.err(), Some("bad wish"));
        let late = progress_once_begun(
            |sender| {
                sender.status("working").map_err(|_| "gone")?;
                Err("no more room")
            },
            |error| failure((*error).to_owned(), Some(3)),
        );
        let mut stream = late.await.unwrap();
        assert_eq!(stream.next().await.unwrap().status.as_deref(), Some("working"));
        assert_eq!(stream.next().await.unwrap().error_detail.unwrap().code, Some(3));
        assert!(stream.next().await.is_none());
        let silent = progress_once_begun(|_| Ok::<(), ()>(()), |()| JsonMessage::default());
        assert!(silent.await.unwrap().next().await.is_none());
    }

    #[tokio::test]
    async fn work_ends_when_nobody_listens() {
        let (told, ended) = std::sync::mpsc::channel();
        let stream = download(move |writer| {
            let endless = (|| -> io::Result<()> {
                loop {
                    writer.write_all(&[0; PIECE])?;
                }
            })();
            told.send(()).unwrap();
            endless
        });
        drop(stream.await.unwrap());
        tokio::task::spawn_blocking(move || ended.recv().unwrap()).await.unwrap();
    }
}
