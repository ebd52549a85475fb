//! A hijacked connection wired to our standard streams.
//!
//! The calling thread copies output until the engine closes the connection. One thread copies
//! stdin (only if it is wanted), one passes signals and size changes on ([`super::Forwarder`]);
//! both end with the process.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::demux::{Demux, StdFd};
use super::detach::{DetachKeys, Input};
use super::forward::Forwarder;
use crate::client::Client;
use crate::failure::Failure;
use crate::http::{Conn, HttpError, Socket};
use crate::term;

/// Why the stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The engine closed it: the process is gone.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// Which of our streams are connected.
#[derive(Debug, Clone)]
pub(crate) struct Wires {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// The container has a terminal: output comes without frames.
    pub(crate) tty: bool,
    /// Watched for on stdin when the container has a terminal.
    pub(crate) detach: DetachKeys,
}

/// A hijacked connection.
#[derive(Debug)]
pub(crate) struct Attached {
    conn: Conn,
    wires: Wires,
    detached: Arc<AtomicBool>,
}

const PIECE: usize = 32 << 10;

impl Attached {
    pub(crate) fn new(conn: Conn, wires: Wires) -> Self {
        Self { conn, wires, detached: Arc::default() }
    }

    /// Starts copying our stdin to the container.
    pub(crate) fn start_stdin(&self) -> io::Result<()> {
        if !self.wires.stdin {
            return Ok(());
        }
        let socket = self.conn.socket.clone();
        let keys = self.wires.tty.then(|| self.wires.detach.clone());
        let detached = Arc::clone(&self.detached);
        thread::Builder::new().name("stdin".to_owned()).spawn(move || copy_stdin(socket, keys, &detached))?;
        Ok(())
    }

    /// Copies output until the end; `forwarder` gets its thread as soon as this may take a while.
    pub(crate) fn copy_output(mut self, forwarder: &mut Forwarder) -> Result<Ended, Failure> {
        let mut framed = Demux::new(
            Sink::new(self.wires.stdout, StdFd::stdout()),
            Sink::new(self.wires.stderr, StdFd::stderr()),
        );
        let mut raw = StdFd::stdout();
        let mut buf = vec![0; PIECE];
        loop {
            forwarder.go_unless_soon(&self.conn)?;
            let n = match self.conn.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break,
                Err(e) => return Err(Failure::Http(HttpError::Receive(e))),
            };
            forwarder.go_unless_written_at_once(n)?;
            if self.wires.tty {
                raw.write_all(&buf[..n])?;
            } else {
                framed.push(&buf[..n])?;
            }
        }
        Ok(if self.detached.load(Ordering::Acquire) { Ended::Detached } else { Ended::Closed })
    }

    /// Gives up on the stream (the container did not start).
    pub(crate) fn abandon(self) {
        // It may be closed already.
        let _ = self.conn.socket.shut();
    }
}

/// A stream that may be switched off.
struct Sink<W>(Option<W>);

impl<W> Sink<W> {
    fn new(on: bool, writer: W) -> Self {
        Self(on.then_some(writer))
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(buf.len()), |w| w.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy_stdin(mut socket: Socket, mut keys: Option<DetachKeys>, detached: &AtomicBool) {
    let mut stdin = io::stdin().lock();
    let mut buf = vec![0; PIECE];
    loop {
        let n = match stdin.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let (bytes, leave) = match keys.as_mut().map(|k| k.feed(&buf[..n])) {
            None => (buf[..n].to_vec(), false),
            Some(Input::Pass(bytes)) => (bytes, false),
            Some(Input::Detach(bytes)) => (bytes, true),
        };
        if socket.write_all(&bytes).is_err() {
            return;
        }
        if leave {
            detached.store(true, Ordering::Release);
            // Wakes the output's copier, which ends the command.
            let _ = socket.shut();
            return;
        }
    }
    // The engine turns it into the end of the container's stdin. It may be gone already.
    let _ = socket.shut_write();
}

/// Tells the engine our terminal's size. `path` is the container's or exec's API path.
pub(crate) fn send_resize(client: &Client, path: &str) {
    if let Some((rows, columns)) = term::size()
        && (rows, columns) != (0, 0)
    {
        // It fails when the process has just ended; there is nothing to resize then.
        let _ = client
            .post(format!("{path}/resize"))
            .query("h", rows.to_string())
            .query("w", columns.to_string())
            .done();
    }
}
