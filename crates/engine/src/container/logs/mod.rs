//! `GET /containers/{id}/logs`.
//!
//! Files are read on blocking threads, one bounded chunk at a time and only as fast as the client
//! takes them; following waits for inotify between chunks. Nothing is held but one chunk.

mod entry;
mod files;
mod tail;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use seacow_spec::{ContainerId, Timestamp};
use tokio::sync::watch::Receiver;

use self::entry::Format;
use self::files::Cursor;
use super::{Container, ContainerError, Life};
use crate::error::EngineError;
use crate::{Engine, apitime, blocking};

/// How long a change that inotify did not tell of stays unnoticed.
const POLL: Duration = Duration::from_secs(2);

/// What a client wants to read. Texts are the query string's.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on while the container runs.
    pub follow: bool,
    /// Not before.
    pub since: String,
    /// Not after.
    pub until: String,
    /// Begin every line with its time.
    pub timestamps: bool,
    /// So many of the last lines; all when it is no number.
    pub tail: String,
    /// Begin every line with its attributes, of which there are none.
    pub details: bool,
}

/// A log as it is sent.
pub struct LogStream {
    /// Raw bytes of a terminal instead of frames.
    pub tty: bool,
    /// Chunks of whole frames.
    pub body: std::pin::Pin<Box<dyn Stream<Item = Bytes> + Send>>,
}

impl Engine {
    /// A container's log.
    ///
    /// # Errors
    /// There is no such container, it keeps no log, or no stream was chosen.
    pub fn logs(&self, reference: &str, options: LogOptions) -> Result<LogStream, EngineError> {
        if !options.stdout && !options.stderr {
            return Err(ContainerError::NoStream.into());
        }
        let container = self.0.containers.find(reference)?;
        let (tty, kind, running) = {
            let cell = container.cell();
            let record = &cell.record;
            (record.config.tty, record.host_config.log_config.kind.clone(), cell.is_alive())
        };
        if kind != "json-file" {
            return Err(ContainerError::UnreadableLogs.into());
        }
        let since = apitime::parse(&options.since)?;
        let until = apitime::parse(&options.until)?;
        // Like Docker, nobody waits for the log of a container that does not run.
        let life = (options.follow && running).then(|| container.watch());
        let mut reader = Reader::new(self, &container.id, &options, tty, None);
        reader.format.since = since;
        reader.format.until = until;
        let follow = life.map(|life| Follow { life, container });
        let body = stream::unfold((reader, follow), |(mut reader, mut follow)| async move {
            let chunk = reader.next(follow.as_mut()).await?;
            Some((chunk, (reader, follow)))
        });
        Ok(LogStream { tty, body: Box::pin(body) })
    }
}

/// The log of one container up to an offset of its newest file, for `attach?logs=1`.
pub(super) struct Replay(Reader);

impl Replay {
    /// `end` is the size of the newest file at which to stop; `None` is its end.
    pub(super) fn new(
        engine: &Engine,
        id: &ContainerId,
        options: LogOptions,
        tty: bool,
        end: Option<u64>,
    ) -> Self {
        Self(Reader::new(engine, id, &options, tty, end))
    }

    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.0.next(None).await
    }
}

/// Keeps a reader going after the end of the file.
struct Follow {
    life: Receiver<Life>,
    container: Arc<Container>,
}

struct Reader {
    directory: std::path::PathBuf,
    /// `None` while a blocking thread has it, or after that thread failed.
    cursor: Option<Cursor>,
    format: Format,
    /// The container ended: the next end of file is the last.
    last_round: bool,
    watch: Option<watch::DirectoryWatch>,
    over: bool,
}

impl Reader {
    fn new(engine: &Engine, id: &ContainerId, options: &LogOptions, tty: bool, end: Option<u64>) -> Self {
        // No number, or a negative one, is everything; Docker takes it so.
        let tail = options.tail.parse::<u64>().ok();
        let format = Format {
            stdout: options.stdout,
            stderr: options.stderr,
            timestamps: options.timestamps,
            details: options.details,
            framed: !tty,
            since: None,
            until: None,
        };
        Self {
            directory: engine.config().container_dir(id),
            cursor: Some(Cursor::new(engine.config().log_path(id), tail, end)),
            format,
            last_round: false,
            watch: None,
            over: false,
        }
    }

    /// The next chunk that has something in it.
    async fn next(&mut self, mut follow: Option<&mut Follow>) -> Option<Bytes> {
        if let Some(follow) = &follow
            && self.watch.is_none()
        {
            // Before the first read: what is written after it is noticed.
            self.watch = watch::DirectoryWatch::new(&self.directory)
                .inspect_err(|error| tracing::debug!(id = follow.container.id.short(), %error, "watch a log"))
                .ok();
        }
        loop {
            if self.over {
                return None;
            }
            let mut cursor = self.cursor.take()?;
            let format = self.format.clone();
            let read = blocking::run("read a log", move || {
                let chunk = cursor.read(&format);
                (cursor, chunk)
            });
            let (cursor, chunk) = match read.await {
                Ok((cursor, Ok(chunk))) => (cursor, chunk),
                Ok((_, Err(error))) => {
                    tracing::warn!(%error, "read a log");
                    return None;
                }
                Err(_) => return None,
            };
            self.cursor = Some(cursor);
            self.over = chunk.past_until;
            if !chunk.bytes.is_empty() {
                return Some(Bytes::from(chunk.bytes));
            }
            if chunk.at_end && !self.over {
                match &mut follow {
                    Some(follow) if !self.last_round => self.wait(follow).await,
                    Some(_) | None => return None,
                }
            }
        }
    }

    /// Waits for more, for the container's end, or for the moment after which nothing is wanted.
    async fn wait(&mut self, follow: &mut Follow) {
        let until = self.format.until.map(|until| until.unix_nanos() - Timestamp::now().unix_nanos());
        if until.is_some_and(|left| left <= 0) {
            self.over = true;
            return;
        }
        let left = until.and_then(|left| u64::try_from(left).ok()).map_or(POLL, Duration::from_nanos);
        let changed = async {
            match &mut self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            _ = follow.life.wait_for(|life| !life.is_running()) => self.last_round = true,
            () = tokio::time::sleep(left.min(POLL)) => {}
        }
    }
}

#[cfg(test)]
mod tests;
