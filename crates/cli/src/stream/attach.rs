//! A hijacked connection wired to our standard streams.
//!
//! The calling thread copies output until the engine closes the connection. One thread copies
//! stdin (only if it is wanted), one passes signals and size changes on; both end with the
//! process.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::demux::{Demux, StdFd};
use super::detach::{DetachKeys, Input};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::http::{Conn, HttpError, Socket};
use crate::term::{self, Caught};

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

    /// Copies output until the end.
    pub(crate) fn copy_output(mut self) -> Result<Ended, Failure> {
        let mut framed = Demux::new(
            Sink::new(self.wires.stdout, StdFd::stdout()),
            Sink::new(self.wires.stderr, StdFd::stderr()),
        );
        let mut raw = StdFd::stdout();
        let mut buf = vec![0; PIECE];
        loop {
            let n = match self.conn.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break,
                Err(e) => return Err(Failure::Http(HttpError::Receive(e))),
            };
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

/// What becomes of caught signals and size changes, until the program ends.
#[derive(Debug, Clone)]
pub(crate) struct Forwarding {
    /// The API path of the container that gets the signals; without one they end this program,
    /// tidily.
    pub(crate) kill: Option<String>,
    /// The API path whose terminal follows ours.
    pub(crate) resize: Option<String>,
}

impl Forwarding {
    /// Passes signals on from a thread of its own. Nobody waits for it: it ends with the program.
    pub(crate) fn start(self, client: &Arc<Client>, caught: Option<Caught>) -> Outcome {
        let Some(caught) = caught else { return Ok(()) };
        let client = Arc::clone(client);
        thread::Builder::new().name("signals".to_owned()).spawn(move || self.run(&client, caught))?;
        Ok(())
    }

    fn run(&self, client: &Client, mut caught: Caught) {
        while let Some(signal) = caught.next() {
            if signal == signal_hook::consts::SIGWINCH {
                if let Some(path) = &self.resize {
                    send_resize(client, path);
                }
                continue;
            }
            match &self.kill {
                Some(path) => {
                    // docker's client only logs a failure: the container may just be gone.
                    let name = term::signal_name(signal);
                    let _ = client.post(format!("{path}/kill")).query("signal", name).done();
                }
                None => {
                    term::restore();
                    // It does not return for the signals that are caught.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        }
    }
}
