//! The body of a response, and the way back to a reusable connection.

use std::io::{self, Read};

use super::{Conn, Head, HttpError, MAX_COLLECTED};

/// How the end of the body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// This many bytes are left.
    Length(u64),
    /// In chunks; this many bytes are left in the current one (0: a chunk header comes next).
    Chunked(u64),
    UntilEof,
    Done,
}

/// A body being read. Dropping it before its end closes the connection.
#[derive(Debug)]
pub(crate) struct Body {
    conn: Conn,
    framing: Framing,
    keep_alive: bool,
}

impl Body {
    pub(super) fn new(conn: Conn, head: &Head, no_body: bool) -> Result<Self, HttpError> {
        let framing = if no_body || matches!(head.status, 204 | 304) {
            Framing::Done
        } else if head.has_token("Transfer-Encoding", "chunked") {
            Framing::Chunked(0)
        } else if let Some(length) = head.field("Content-Length") {
            match length.parse().map_err(|_| HttpError::Malformed("Content-Length is not a number"))? {
                0 => Framing::Done,
                n => Framing::Length(n),
            }
        } else {
            Framing::UntilEof
        };
        let keep_alive = !head.has_token("Connection", "close") && head.status != 101;
        Ok(Self { conn, framing, keep_alive })
    }

    /// Gives the raw connection away after an upgrade.
    pub(crate) fn into_conn(self) -> Conn {
        self.conn
    }

    /// The connection it comes from.
    pub(crate) fn conn(&self) -> &Conn {
        &self.conn
    }

    /// The connection, if the body was read to its end and the server keeps it open.
    pub(crate) fn recycle(mut self) -> Option<Conn> {
        // A streamed request body may still be on its way out.
        if self.framing == Framing::Done && self.keep_alive && self.conn.upload.is_none() {
            self.conn.reused = true;
            Some(self.conn)
        } else {
            None
        }
    }

    /// The error of the streamed request body, if that is what cut the answer short.
    pub(crate) fn upload_failure(&self) -> Option<HttpError> {
        self.conn.upload.as_ref().and_then(super::request::Upload::failure)
    }

    /// Reads all of it into memory.
    pub(crate) fn collect(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut out = Vec::new();
        self.by_ref().take(MAX_COLLECTED as u64 + 1).read_to_end(&mut out).map_err(HttpError::Receive)?;
        if out.len() > MAX_COLLECTED { Err(HttpError::BodyTooLong) } else { Ok(out) }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let line = self.line()?;
        let size = std::str::from_utf8(&line)
            .ok()
            .and_then(|l| l.split(';').next())
            .and_then(|l| u64::from_str_radix(l.trim(), 16).ok())
            .ok_or_else(|| invalid("a chunk without a size"))?;
        if size > 0 {
            self.framing = Framing::Chunked(size);
            return Ok(());
        }
        // Trailer fields are allowed and of no interest; the empty line ends them.
        while !self.line()?.is_empty() {}
        self.framing = Framing::Done;
        Ok(())
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        self.conn.read_line().map_err(|e| match e {
            HttpError::Receive(e) => e,
            HttpError::Closed => io::ErrorKind::UnexpectedEof.into(),
            _ => invalid("malformed chunk"),
        })
    }

    fn read_counted(&mut self, left: u64, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        match self.conn.read(&mut buf[..want])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.framing == Framing::Chunked(0) {
            self.next_chunk()?;
        }
        match self.framing {
            Framing::Done => Ok(0),
            Framing::UntilEof => {
                let n = self.conn.read(buf)?;
                if n == 0 {
                    self.framing = Framing::Done;
                    self.keep_alive = false;
                }
                Ok(n)
            }
            Framing::Length(left) => {
                let n = self.read_counted(left, buf)?;
                let left = left - n as u64;
                self.framing = if left == 0 { Framing::Done } else { Framing::Length(left) };
                Ok(n)
            }
            Framing::Chunked(left) => {
                let n = self.read_counted(left, buf)?;
                let left = left - n as u64;
                self.framing = Framing::Chunked(left);
                if left == 0 && !self.line()?.is_empty() {
                    return Err(invalid("no line end after a chunk"));
                }
                self.settle()?;
                Ok(n)
            }
        }
    }
}

impl Body {
    /// After a chunk: takes in the closing chunk if it has already arrived, so that a reader who
    /// stops at the end of its JSON document still leaves a reusable connection.
    fn settle(&mut self) -> io::Result<()> {
        if self.framing == Framing::Chunked(0) && self.conn.buffered().starts_with(b"0\r\n\r\n") {
            self.next_chunk()?;
        }
        Ok(())
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
