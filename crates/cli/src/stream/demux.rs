//! Docker's multiplexed stream: stdout and stderr over one connection.
//!
//! ```text
//! [stream: 1 byte][0 0 0][length: u32 big endian][payload]
//! ```
//! Stream 1 is stdout, 2 stderr, 3 an error of the engine. A terminal's output has no frames.

use std::io::{self, Read, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;

use crate::failure::Failure;

const HEADER: usize = 8;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ENGINE_ERROR: u8 = 3;

/// One of our own standard streams, unbuffered: what a container writes appears at once.
pub(crate) struct StdFd(BorrowedFd<'static>);

impl StdFd {
    pub(crate) fn stdout() -> Self {
        Self(rustix::stdio::stdout())
    }

    pub(crate) fn stderr() -> Self {
        Self(rustix::stdio::stderr())
    }
}

impl Write for StdFd {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.0, buf) {
                // Somebody made the terminal or pipe non-blocking; wait for room.
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.0, PollFlags::OUT)];
                    poll(&mut fds, None)?;
                }
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map_err(io::Error::from),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes frames apart; fed with bytes as they come.
pub(crate) struct Demux<O, E> {
    out: O,
    err: E,
    /// Header bytes collected so far.
    header: [u8; HEADER],
    have: usize,
    /// Payload bytes left of the current frame, and where they go.
    left: usize,
    stream: u8,
    engine_error: Vec<u8>,
}

impl<O: Write, E: Write> Demux<O, E> {
    pub(crate) fn new(out: O, err: E) -> Self {
        Self { out, err, header: [0; HEADER], have: 0, left: 0, stream: 0, engine_error: Vec::new() }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.take_header(bytes)?;
                continue;
            }
            let n = self.left.min(bytes.len());
            let (payload, rest) = bytes.split_at(n);
            match self.stream {
                STDERR => self.err.write_all(payload)?,
                ENGINE_ERROR => self.engine_error.extend_from_slice(payload),
                _ => self.out.write_all(payload)?,
            }
            self.left -= n;
            bytes = rest;
            if self.left == 0 && self.stream == ENGINE_ERROR {
                let text = String::from_utf8_lossy(&self.engine_error).into_owned();
                return Err(Failure::Refused(format!("error from daemon in stream: {text}")));
            }
        }
        Ok(())
    }

    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Failure> {
        let n = (HEADER - self.have).min(bytes.len());
        self.header[self.have..self.have + n].copy_from_slice(&bytes[..n]);
        self.have += n;
        if self.have == HEADER {
            self.have = 0;
            let [stream, _, _, _, a, b, c, d] = self.header;
            if stream > ENGINE_ERROR {
                return Err(Failure::Refused(format!("Unrecognized input header: {stream}")));
            }
            self.stream = stream.max(STDOUT);
            self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        }
        Ok(&bytes[n..])
    }
}

/// Copies a framed body until its end.
pub(crate) fn copy_frames(body: &mut impl Read, out: impl Write, err: impl Write) -> Result<(), Failure> {
    let mut demux = Demux::new(out, err);
    let mut buf = vec![0; 32 << 10];
    loop {
        match body.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => demux.push(&buf[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Failure::Http(crate::http::HttpError::Receive(e))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut f = vec![stream, 0, 0, 0];
        f.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        f.extend_from_slice(payload);
        f
    }

    #[test]
    fn frames_cut_anywhere() {
        let mut bytes = frame(1, b"hello ");
        bytes.extend(frame(2, b"oops"));
        bytes.extend(frame(1, b""));
        bytes.extend(frame(1, b"world"));
        for step in 1..=bytes.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::new(&mut out, &mut err);
            for piece in bytes.chunks(step) {
                demux.push(piece).unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello world"[..], &b"oops"[..]));
        }
    }

    #[test]
    fn engine_errors_and_rubbish() {
        let mut demux = Demux::new(Vec::new(), Vec::new());
        let error = demux.push(&frame(3, b"gone")).unwrap_err();
        assert_eq!(error.to_string(), "error from daemon in stream: gone");
        let mut demux = Demux::new(Vec::new(), Vec::new());
        assert!(demux.push(b"HTTP/1.1 500").is_err());
    }
}
