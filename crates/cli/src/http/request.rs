//! Sending a request and taking in the head of its answer.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Body, Conn, HttpError, Response, Socket};

/// What follows the request's head.
pub(crate) enum Payload<'a> {
    /// No body. `POST` says so with `Content-Length: 0`.
    None,
    /// A body that can be sent again.
    Bytes { content_type: &'a str, bytes: &'a [u8] },
    /// A body of unknown length, sent in chunks by a thread of its own: the server may answer
    /// (build output) while it is still being sent.
    Stream { content_type: &'a str, reader: Option<Box<dyn Read + Send>> },
}

impl Payload<'_> {
    /// Whether a failed request may be sent again on another connection.
    pub(crate) fn replayable(&self) -> bool {
        !matches!(self, Payload::Stream { .. })
    }
}

/// One request.
pub(crate) struct Request<'a, 'p> {
    pub(crate) method: &'a str,
    /// Path with query, escaped.
    pub(crate) target: &'a str,
    pub(crate) fields: &'a [(&'a str, &'a str)],
    /// Ask for the connection itself after the head (attach, exec).
    pub(crate) hijack: bool,
    pub(crate) payload: Payload<'p>,
}

/// docker's client sends this host for Unix sockets; any non-empty one will do.
const HOST: &str = "api.moby.localhost";

const UPLOAD_CHUNK: usize = 64 << 10;

impl Request<'_, '_> {
    fn head(&self) -> String {
        let mut head = String::with_capacity(512);
        // Writing to a String cannot fail.
        let _ = write!(head, "{} {} HTTP/1.1\r\nHost: {HOST}\r\n", self.method, self.target);
        let _ = write!(head, "User-Agent: {}\r\n", crate::USER_AGENT);
        if self.hijack {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        match &self.payload {
            Payload::None if self.hijack => {
                head.push_str("Content-Type: text/plain\r\nContent-Length: 0\r\n");
            }
            Payload::None if matches!(self.method, "GET" | "HEAD" | "DELETE") => {}
            Payload::None => head.push_str("Content-Length: 0\r\n"),
            Payload::Bytes { content_type, bytes } => {
                let _ = write!(head, "Content-Type: {content_type}\r\nContent-Length: {}\r\n", bytes.len());
            }
            Payload::Stream { content_type, .. } => {
                let _ = write!(head, "Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n");
            }
        }
        for (name, value) in self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head
    }

    /// Writes the request; head and a small body leave in one system call.
    pub(crate) fn send(&mut self, conn: &mut Conn) -> Result<(), HttpError> {
        let mut first = self.head().into_bytes();
        if let Payload::Bytes { bytes, .. } = &self.payload {
            first.extend_from_slice(bytes);
        }
        conn.socket.write_all(&first).map_err(sending)?;
        let Payload::Stream { reader, .. } = &mut self.payload else { return Ok(()) };
        if let Some(reader) = reader.take() {
            let upload = Upload::default();
            let (socket, failure) = (conn.socket.clone(), upload.clone());
            thread::Builder::new()
                .name("upload".to_owned())
                .spawn(move || failure.run(socket, reader))
                .map_err(HttpError::Send)?;
            conn.upload = Some(upload);
        }
        Ok(())
    }

    /// Reads the head of the answer to this request.
    pub(crate) fn receive(&self, mut conn: Conn) -> Result<Response, HttpError> {
        let head = match (conn.read_head(), &conn.upload) {
            (Err(e), Some(upload)) => return Err(upload.failure().unwrap_or(e)),
            (head, _) => head?,
        };
        let body = Body::new(conn, &head, self.method == "HEAD" || head.status == 101)?;
        Ok(Response { head, body })
    }

    pub(crate) fn exchange(&mut self, mut conn: Conn) -> Result<Response, HttpError> {
        self.send(&mut conn)?;
        self.receive(conn)
    }
}

fn sending(error: io::Error) -> HttpError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => HttpError::Closed,
        _ => HttpError::Send(error),
    }
}

/// What became of a streamed request body.
#[derive(Debug, Clone, Default)]
pub(super) struct Upload(Arc<Mutex<Option<io::Error>>>);

impl Upload {
    /// The error of the body's source, if that is what ended the conversation.
    pub(super) fn failure(&self) -> Option<HttpError> {
        self.0.lock().ok()?.take().map(HttpError::Upload)
    }

    fn run(&self, mut socket: Socket, mut reader: Box<dyn Read + Send>) {
        // The server may refuse an upload before its end: its answer says why, so only a body that
        // could not be read is an error of this side.
        if let Err(HttpError::Upload(error)) = send_chunks(&mut socket, &mut *reader) {
            if let Ok(mut slot) = self.0.lock() {
                *slot = Some(error);
            }
            // Without its end the server must not take the body for complete.
            let _ = socket.shut();
        }
    }
}

fn send_chunks(socket: &mut Socket, reader: &mut dyn Read) -> Result<(), HttpError> {
    // Room for the size line before, and the line end after, the data: one write per chunk.
    const SIZE_LINE: usize = 10;
    let mut buf = vec![0; SIZE_LINE + UPLOAD_CHUNK + 2];
    loop {
        let n = match reader.read(&mut buf[SIZE_LINE..SIZE_LINE + UPLOAD_CHUNK]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(HttpError::Upload)?,
        };
        if n == 0 {
            return socket.write_all(b"0\r\n\r\n").map_err(sending);
        }
        let size = format!("{n:x}\r\n");
        let start = SIZE_LINE - size.len();
        buf[start..SIZE_LINE].copy_from_slice(size.as_bytes());
        buf[SIZE_LINE + n..SIZE_LINE + n + 2].copy_from_slice(b"\r\n");
        socket.write_all(&buf[start..SIZE_LINE + n + 2]).map_err(sending)?;
    }
}
