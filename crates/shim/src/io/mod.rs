//! Standard streams of one process, and everybody attached to them.
//!
//! ```text
//!                    ┌────────▶ log (never waits)
//! process ─▶ read ───┼────────▶ client ─ queue ≤ 64 KiB ─▶ socket
//!                    └────────▶ client …    a full queue stops the read
//! process ◀─ stdin ◀─ pending ≤ one read ◀─ one client's socket at a time; pending stops the reads
//! ```
//!
//! Back-pressure goes both ways and nothing is ever waited for: what cannot go on is simply not
//! polled until it can ([`Io::arm`] works that out after each turn).

pub(crate) mod buffer;
pub(crate) mod client;
pub(crate) mod detach;
pub(crate) mod queue;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use seacow_spec::shim::{Attach, Stdio};

use self::buffer::Buffer;
use self::client::{Client, Input, Phase, Stream, Wants};
use self::detach::Detach;
use self::queue::Queue;
use crate::log::Log;
use crate::log::lines::Lines;
use crate::poll::{PeerId, Poll, ProcessId, Token, Watched};

/// Reads of one stream at the end of its process: twice the largest pipe (`fs.pipe-max-size`, 1 MiB
/// by default). It also bounds what is queued for a client that is not read meanwhile.
const DRAIN_READS: usize = (2 << 20) / buffer::READ;
/// Clients attached to one process at a time.
const MAX_CLIENTS: usize = 64;

/// The shim's ends of a process's standard streams.
#[derive(Debug)]
pub(crate) enum Ends {
    /// One pipe each; what is `None` is `/dev/null`.
    Pipes {
        /// To be written.
        stdin: Option<OwnedFd>,
        /// To be read.
        stdout: Option<OwnedFd>,
        /// To be read.
        stderr: Option<OwnedFd>,
    },
    /// The master side of a terminal.
    Terminal(OwnedFd),
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    Input,
    Output,
    Error,
}

/// Why a client was not attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The process has no such streams.
    #[error("the process has no streams to attach to")]
    NoStreams,
    /// Too many already are.
    #[error("{MAX_CLIENTS} clients are attached already")]
    TooMany,
}

/// One stream that is read.
#[derive(Debug)]
struct Output {
    watched: Watched,
    lines: Lines,
}

/// Standard streams of one process.
#[derive(Debug)]
pub(crate) struct Io {
    process: ProcessId,
    terminal: bool,
    stdin_once: bool,
    /// The pipe to the process; a terminal is written through `stdout`.
    stdin: Option<Watched>,
    /// Input that the process has not taken.
    pending: Queue,
    /// Close `stdin` when `pending` is empty.
    closing: bool,
    stdout: Option<Output>,
    stderr: Option<Output>,
    clients: Vec<Client>,
    next_client: PeerId,
    log: Option<Log>,
    /// The process ended: it takes no more input.
    ended: bool,
}

impl Io {
    /// Connects `ends` to `log`.
    pub(crate) fn new(process: ProcessId, stdio: Stdio, ends: Ends, log: Option<Log>) -> Self {
        let watch = |fd, token| Watched::new(fd, token);
        let output = |fd, token| Output { watched: watch(fd, token), lines: Lines::default() };
        let (stdin, stdout, stderr) = match ends {
            Ends::Pipes { stdin, stdout, stderr } => (
                stdin.map(|fd| watch(fd, Token::Stdin(process))),
                stdout.map(|fd| output(fd, Token::Stdout(process))),
                stderr.map(|fd| output(fd, Token::Stderr(process))),
            ),
            Ends::Terminal(master) => (None, Some(output(master, Token::Stdout(process))), None),
        };
        for fd in stdin.iter().chain([&stdout, &stderr].into_iter().flatten().map(|o| &o.watched)) {
            set_nonblocking(fd);
        }
        Self {
            process,
            terminal: stdio.terminal,
            stdin_once: stdio.stdin_once,
            stdin,
            pending: Queue::default(),
            closing: false,
            stdout,
            stderr,
            clients: Vec::new(),
            next_client: 0,
            log,
            ended: false,
        }
    }

    /// Our ends of pipes to the process, and which of its streams each is.
    pub(crate) fn ends(&self) -> Vec<(Standard, std::os::fd::BorrowedFd<'_>)> {
        if self.terminal {
            return Vec::new();
        }
        let [stdout, stderr] = [&self.stdout, &self.stderr].map(|end| end.as_ref().map(|end| &end.watched));
        let ends =
            [(Standard::Input, self.stdin.as_ref()), (Standard::Output, stdout), (Standard::Error, stderr)];
        ends.into_iter().filter_map(|(which, end)| Some((which, end?.as_fd()))).collect()
    }

    /// Attaches a client; returns the log's size at this moment.
    ///
    /// # Errors
    /// There is nothing to attach to, or too many are attached.
    pub(crate) fn attach(
        &mut self,
        socket: OwnedFd,
        attach: &Attach,
        buffer: &mut Buffer,
    ) -> Result<u64, AttachError> {
        if self.clients.len() >= MAX_CLIENTS {
            return Err(AttachError::TooMany);
        }
        let wants = Wants {
            stdin: attach.stdin && self.takes_input(),
            stdout: attach.stdout,
            // Both go to the one terminal, which is called standard output.
            stderr: attach.stderr && !self.terminal,
            framed: !self.terminal,
        };
        // Docker looks for the keys on terminals only.
        let keys = if self.terminal { attach.detach_keys.clone() } else { Vec::new() };
        let id = self.next_client;
        self.next_client = self.next_client.wrapping_add(1);
        let watched = Watched::new(socket, Token::Client(self.process, id));
        let mut client = Client::new(id, watched, wants, Detach::new(keys), &attach.initial_stdin);
        if self.ended && self.is_drained() {
            // Nothing will ever come.
            client.leave();
        }
        self.clients.push(client);
        self.pump_early(buffer);
        Ok(self.log.as_ref().map_or(0, Log::size))
    }

    /// Closes standard input once the process took what was sent before. A terminal has no such
    /// end; Docker leaves it open as well.
    pub(crate) fn close_stdin(&mut self) {
        self.closing = !self.terminal;
    }

    /// Sets the terminal's size; without a terminal there is nothing to do.
    ///
    /// # Errors
    /// As TIOCSWINSZ.
    pub(crate) fn resize(&self, rows: u16, cols: u16) -> Result<(), Errno> {
        match &self.stdout {
            Some(master) if self.terminal => {
                let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
                tcsetwinsize(&master.watched, size)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Handles readiness of one of its descriptors.
    pub(crate) fn on_ready(&mut self, token: Token, flags: EventFlags, poll: &Poll, buffer: &mut Buffer) {
        match token {
            Token::Stdin(_) => self.on_writable(buffer),
            Token::Stdout(_) => {
                if self.terminal && flags.contains(EventFlags::OUT) {
                    self.on_writable(buffer);
                }
                if self.terminal && flags.contains(EventFlags::HUP) {
                    // Nobody has the terminal open; what was typed for it has no reader.
                    self.pending.clear();
                }
                if !self.is_paused(Stream::Stdout) {
                    self.read(Stream::Stdout, poll, buffer);
                }
            }
            Token::Stderr(_) => {
                if !self.is_paused(Stream::Stderr) {
                    self.read(Stream::Stderr, poll, buffer);
                }
            }
            Token::Client(_, id) => self.on_client(id, flags, buffer),
            Token::Listener
            | Token::Signals
            | Token::OutOfMemory
            | Token::Children
            | Token::Snapshot
            | Token::Connection(_)
            | Token::Exit(_) => {}
        }
    }

    /// The process ended: reads what its pipes still hold, whatever the clients do. Whoever writes
    /// after that is another process and waits for the clients as before.
    pub(crate) fn drain(&mut self, poll: &Poll, buffer: &mut Buffer) {
        self.ended = true;
        self.drop_stdin(poll);
        for stream in [Stream::Stdout, Stream::Stderr] {
            // Bounded, because a writer may live on outside.
            for _ in 0..DRAIN_READS {
                if !self.read(stream, poll, buffer) {
                    break;
                }
            }
        }
    }

    /// Whether all output was read; if not, somebody (outside the container, once its process
    /// ended) holds a pipe open.
    pub(crate) fn is_drained(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Nothing more will be read. Clients get what is queued for them and are then closed.
    pub(crate) fn finish(&mut self, poll: &Poll) {
        self.ended = true;
        self.drop_stdin(poll);
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.end_output(stream, poll);
        }
        for client in &mut self.clients {
            client.leave();
        }
    }

    /// Whether nobody is attached.
    pub(crate) fn is_deserted(&self) -> bool {
        self.clients.is_empty()
    }

    /// When a client has had its time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let leaving = self.clients.iter().filter_map(|client| match client.phase {
            Phase::Leaving(deadline) => Some(deadline),
            Phase::Attached | Phase::Gone => None,
        });
        leaving.min()
    }

    /// Closes who is done and waits for what can go on now.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(crate) fn arm(&mut self, poll: &Poll, now: Instant) -> std::io::Result<()> {
        if self.closing && self.pending.is_empty() {
            self.drop_stdin(poll);
        }
        self.close_clients(poll, now);
        let input = self.takes_input() && self.pending.is_empty();
        for client in &mut self.clients {
            if client.arm(poll, input).is_err() {
                // Rather than a container whose client nobody hears.
                client.hang_up();
            }
        }
        let writing = if self.pending.is_empty() { EventFlags::empty() } else { EventFlags::OUT };
        if let Some(stdin) = &mut self.stdin {
            stdin.arm(poll, (!writing.is_empty()).then_some(writing))?;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut interest = if self.is_paused(stream) { EventFlags::empty() } else { EventFlags::IN };
            if self.terminal {
                interest |= writing;
            }
            if let Some(output) = self.output(stream) {
                output.watched.arm(poll, (!interest.is_empty()).then_some(interest))?;
            }
        }
        Ok(())
    }

    fn close_clients(&mut self, poll: &Poll, now: Instant) {
        let takes_input = self.takes_input();
        let done = |client: &mut Client| match client.phase {
            Phase::Attached => false,
            Phase::Leaving(deadline) => client.is_flushed() || deadline <= now,
            Phase::Gone => !(client.wants.stdin && takes_input),
        };
        for client in self.clients.extract_if(.., done) {
            client.close(poll);
        }
        if self.clients.is_empty() {
            self.clients = Vec::new();
        }
    }

    fn output(&mut self, stream: Stream) -> &mut Option<Output> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn takes_input(&self) -> bool {
        !self.ended && !self.closing && (self.stdin.is_some() || (self.terminal && self.stdout.is_some()))
    }

    /// Whether a client is so far behind that `stream` must wait for it.
    fn is_paused(&self, stream: Stream) -> bool {
        self.clients.iter().any(|client| client.follows(stream) && client.is_full())
    }

    /// Reads once; returns whether there may be more at once.
    fn read(&mut self, stream: Stream, poll: &Poll, buffer: &mut Buffer) -> bool {
        let Some(output) = self.output(stream) else { return false };
        let buffer = buffer.fresh();
        match rustix::io::read(&output.watched, rustix::buffer::spare_capacity(buffer)) {
            Ok(read) if read > 0 => {
                self.deliver(stream, buffer);
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // EIO: no process has the terminal open any more.
            Ok(_) | Err(_) => {
                self.end_output(stream, poll);
                false
            }
        }
    }

    fn deliver(&mut self, stream: Stream, bytes: &[u8]) {
        let Self { stdout, stderr, log, clients, .. } = self;
        let output = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        if let (Some(output), Some(log)) = (output, log) {
            output.lines.push(bytes, &mut |piece| log.add(stream, piece));
            log.flush();
        }
        for client in clients.iter_mut().filter(|client| client.follows(stream)) {
            client.deliver(stream, bytes);
        }
    }

    fn end_output(&mut self, stream: Stream, poll: &Poll) {
        let Some(mut output) = self.output(stream).take() else { return };
        if let Some(log) = &mut self.log {
            output.lines.finish(&mut |piece| log.add(stream, piece));
            log.flush();
        }
        drop(output.watched.release(poll));
    }

    fn on_client(&mut self, id: PeerId, flags: EventFlags, buffer: &mut Buffer) {
        let Some(client) = self.clients.iter_mut().find(|client| client.id == id) else { return };
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            client.hang_up();
        }
        if flags.contains(EventFlags::OUT) {
            client.flush();
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP) {
            self.pump(id, buffer);
        }
    }

    /// Passes one read of a client's input on, if it may type and the process can take it.
    fn pump(&mut self, id: PeerId, buffer: &mut Buffer) {
        if !self.takes_input() || !self.pending.is_empty() {
            return;
        }
        let Some(client) = self.clients.iter_mut().find(|client| client.id == id) else { return };
        if !client.wants.stdin || matches!(client.phase, Phase::Leaving(_)) {
            return;
        }
        let buffer = buffer.fresh();
        match client.read(buffer) {
            Input::Nothing => {}
            Input::Bytes if client.detach.is_off() => self.write(buffer),
            Input::Bytes => {
                let filtered = client.detach.filter(buffer);
                if filtered.detached {
                    client.wants.stdin = false;
                    client.leave();
                }
                self.write(&filtered.pass);
            }
            Input::End => {
                client.wants.stdin = false;
                let rest = client.detach.rest();
                let ends_input = self.stdin_once && !self.terminal;
                if !ends_input {
                    // As Docker: where the end of input is not passed on, it ends the session.
                    client.leave();
                }
                self.write(&rest);
                self.closing |= ends_input;
            }
        }
    }

    /// Input that came along with the request to attach, while the process takes it.
    fn pump_early(&mut self, buffer: &mut Buffer) {
        while self.pending.is_empty() && self.takes_input() {
            let waiting = |client: &&Client| client.wants.stdin && !client.early.is_empty();
            let Some(id) = self.clients.iter().find(waiting).map(|client| client.id) else { return };
            self.pump(id, buffer);
        }
    }

    fn on_writable(&mut self, buffer: &mut Buffer) {
        let pending = std::mem::take(&mut self.pending);
        self.write(pending.as_slice());
        self.pump_early(buffer);
    }

    /// Writes input to the process; what it does not take waits in `pending`.
    fn write(&mut self, mut bytes: &[u8]) {
        let target =
            if self.terminal { self.stdout.as_ref().map(|o| &o.watched) } else { self.stdin.as_ref() };
        let Some(target) = target else { return };
        while !bytes.is_empty() {
            match rustix::io::write(target, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.pending.push(bytes),
                Err(_) => {
                    // The process closed its end; nobody needs ours.
                    self.closing = !self.terminal;
                    return;
                }
            }
        }
    }

    fn drop_stdin(&mut self, poll: &Poll) {
        self.pending.clear();
        if let Some(stdin) = self.stdin.take() {
            drop(stdin.release(poll));
        }
    }
}

fn set_nonblocking(fd: impl AsFd) {
    // Each end of a pipe is an open file of its own, and so is a terminal's master: the process's
    // side stays blocking. fcntl on a descriptor of our own does not fail.
    if let Ok(flags) = rustix::fs::fcntl_getfl(&fd) {
        let _ = rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK);
    }
}
