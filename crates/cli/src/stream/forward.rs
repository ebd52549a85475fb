//! Signals and size changes, passed on to the engine.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attach::send_resize;
use crate::client::Client;
use crate::http::Conn;
use crate::term::{self, Caught};

/// How long a signal may wait in its pipe. A run that is over by then has saved itself a thread,
/// whose start and end would take longer than anything else this program does at the end.
const GRACE: Duration = Duration::from_millis(20);
/// Whoever asks for the end so often means this program, and no longer what it passes signals to; so
/// docker's client since version 25.
const PATIENCE: u32 = 3;
/// What a pipe or terminal that is ready takes in one piece (PIPE_BUF).
const TAKEN_AT_ONCE: usize = 4096;

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
    /// Passes on what was caught and what will be, as soon as that is needed.
    pub(crate) fn when_needed(self, client: &Arc<Client>, caught: Option<Caught>) -> Forwarder {
        let until = Instant::now() + GRACE;
        Forwarder { waiting: caught.map(|caught| (self, Arc::clone(client), caught)), until }
    }

    fn run(&self, client: &Client, mut caught: Caught) {
        let mut asked_to_end = 0;
        while let Some(signal) = caught.next() {
            if matches!(signal, signal_hook::consts::SIGINT | signal_hook::consts::SIGTERM) {
                asked_to_end += 1;
            }
            if asked_to_end == PATIENCE {
                term::restore();
                eprintln!("\ngot {PATIENCE} SIGTERM/SIGINTs, forcefully exiting");
                std::process::exit(1);
            }
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

/// Signals that are caught, and passed on as soon as their thread exists.
#[derive(Debug)]
pub(crate) struct Forwarder {
    waiting: Option<(Forwarding, Arc<Client>, Caught)>,
    until: Instant,
}

impl Forwarder {
    /// Has nothing to pass on.
    pub(crate) fn idle() -> Self {
        Self { waiting: None, until: Instant::now() }
    }

    /// Passes signals on from a thread of its own. Nobody waits for it: it ends with the program.
    pub(crate) fn go(&mut self) -> io::Result<()> {
        if let Some((forwarding, client, caught)) = self.waiting.take() {
            let run = move || forwarding.run(&client, caught);
            thread::Builder::new().name("signals".to_owned()).spawn(run)?;
        }
        Ok(())
    }

    /// [`Self::go`], unless there is something to read within the grace.
    pub(crate) fn go_unless_soon(&mut self, conn: &Conn) -> io::Result<()> {
        if self.waiting.is_some() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() || !conn.readable_within(left)? {
                self.go()?;
            }
        }
        Ok(())
    }

    /// [`Self::go`], unless stdout and stderr certainly take `n` bytes without a wait.
    pub(super) fn go_unless_written_at_once(&mut self, n: usize) -> io::Result<()> {
        if self.waiting.is_some() {
            let (out, err) = (rustix::stdio::stdout(), rustix::stdio::stderr());
            let mut fds = [PollFd::new(&out, PollFlags::OUT), PollFd::new(&err, PollFlags::OUT)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if n > TAKEN_AT_ONCE || poll(&mut fds, Some(&now)).unwrap_or(0) < fds.len() {
                self.go()?;
            }
        }
        Ok(())
    }
}
