//! The shim at work: one thread, one loop ([`turn`]), and what it does for each of its containers.
//!
//! A [`Member`] is one container: its daemons, processes, streams. Most shims have one for all their life;
//! clones that are forked from a running container are further ones, since only its parent can make them.

mod calls;
mod delete;
pub(crate) mod entry;
mod exec;
mod exit;
mod fork;
mod freeze;
mod limit;
mod memory;
mod orphans;
mod process;
mod request;
mod turn;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use seacow_spec::lifecycle::{Exit, State};
use seacow_spec::shim::{Answer, Event, ExecStatus, FromShim, Request, Status, Target};
use seacow_sys::signal::SignalFd;

use crate::conn::Connection;

use crate::dir::{Dir, DirError};
use crate::io::buffer::Buffer;
use crate::poll::{MAX_PEER_ID, MAX_PROCESS_ID, PeerId, Poll, ProcessId, Token, Watched};
use crate::runtime::Container;
use calls::UnderWay;
use delete::Deletion;
use entry::Entry;
use fork::{Birth, Kept, Source};
use freeze::Freezing;
use memory::Memory;
use process::Process;

pub(crate) use turn::Shim;

/// Daemons connected at a time: the one in charge, its successor, a few tools.
const MAX_CONNECTIONS: usize = 16;
/// Ended execs that are remembered when a daemon was told of them: enough to answer whoever asks
/// right after. The oldest is forgotten; an exec a minute for a year must not cost memory.
const MAX_FINISHED: usize = 64;
/// Ended execs that are remembered while there is no daemon, some 200 bytes each.
pub(crate) const MAX_UNTOLD: usize = 1000;
/// How long a shim without a container waits for daemons to read its last answer.
const LINGER: Duration = Duration::from_secs(5);
/// When to try again what the kernel had no memory for.
const REARM: Duration = Duration::from_millis(100);
/// Init's number among the shim's processes.
const INIT: ProcessId = 0;

/// Why a shim could not work at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// A kernel object could not be made.
    #[error("{step}: {errno}")]
    Setup {
        /// What was wanted.
        step: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// epoll itself failed.
    #[error("poll: {0}")]
    Poll(#[from] std::io::Error),
    /// The exec directory is of no use.
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// One container, or what may become one.
pub(crate) struct Member {
    poll: Poll,
    dir: Dir,
    listener: Option<Watched>,
    connections: Vec<Connection>,
    next_peer: PeerId,
    container: Option<Container>,
    /// `None` before `Create` succeeded.
    state: Option<State>,
    /// Whether a start was ever asked for. Until then the container belongs to the daemon that
    /// made it and goes with it.
    start_asked: bool,
    processes: Vec<Process>,
    next_process: ProcessId,
    finished: VecDeque<ExecStatus>,
    /// How init ended, until that is written down.
    unrecorded: Option<Exit>,
    memory: Option<Memory>,
    freezing: Option<Freezing>,
    /// Commands of another runtime that somebody waits for.
    calls: Vec<UnderWay>,
    /// Whether init was sent SIGKILL at somebody's request: it must not be frozen any more.
    killed: bool,
    /// Ends of children nobody told us of; only with a runtime that is not ours.
    children: Option<Watched<SignalFd>>,
    deletion: Option<Deletion>,
    /// When everything was torn down; only clients that have not read the end keep the shim then.
    deleted_at: Option<Instant>,
    /// When to try again to wait for what could not be waited for.
    rearm: Option<Instant>,
    /// Of a forkable container, until it was forked.
    entry: Option<Box<Entry>>,
    /// What its own forks have in common, once there is one.
    source: Option<Box<Source>>,
    /// What it is to be cloned from, until it was.
    origin: Option<Kept>,
    /// Siblings that have just been asked for.
    births: Vec<Birth>,
    buffer: Buffer,
}

impl Member {
    /// One with a connected daemon.
    ///
    /// # Errors
    /// The kernel objects that it needs cannot be made.
    #[inline(never)]
    fn new(dir: Dir, daemon: OwnedFd, poll: Poll) -> Result<Box<Self>, ServeError> {
        let listener = dir.listen()?;
        let nonblocking = rustix::fs::fcntl_getfl(&listener)
            .and_then(|flags| rustix::fs::fcntl_setfl(&listener, flags | rustix::fs::OFlags::NONBLOCK));
        nonblocking.map_err(|errno| ServeError::Setup { step: "listen without blocking", errno })?;
        let mut member = Box::new(Self {
            poll,
            dir,
            listener: Some(Watched::new(listener, Token::Listener)),
            connections: Vec::new(),
            next_peer: 0,
            container: None,
            state: None,
            start_asked: false,
            processes: Vec::new(),
            next_process: INIT + 1,
            finished: VecDeque::new(),
            unrecorded: None,
            memory: None,
            freezing: None,
            calls: Vec::new(),
            killed: false,
            children: None,
            deletion: None,
            deleted_at: None,
            rearm: None,
            entry: None,
            source: None,
            origin: None,
            births: Vec::new(),
            buffer: Buffer::default(),
        });
        member.connect(daemon);
        Ok(member)
    }

    /// Gives back what only work needs. Most of a container's life is waiting.
    #[inline(never)]
    fn rest(&mut self) {
        self.buffer.release();
        self.connections.shrink_to_fit();
        self.processes.shrink_to_fit();
        self.finished.shrink_to_fit();
        self.births = Vec::new();
        self.tidy();
    }

    #[inline(never)]
    fn on_ready(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Listener => self.on_listener(),
            // The shim's own.
            Token::Signals => {}
            Token::Children if self.entry.is_some() => self.look_at_entry(),
            Token::Children => self.on_children(),
            Token::OutOfMemory => self.on_out_of_memory(Instant::now()),
            Token::Snapshot => self.forget_forks(),
            Token::Connection(id) => self.on_connection(id, flags),
            Token::Exit(id) => self.on_exit(id),
            Token::Stdin(id) | Token::Stdout(id) | Token::Stderr(id) | Token::Client(id, _) => {
                let Self { processes, poll, buffer, .. } = self;
                let process = processes.iter_mut().find(|process| process.id == id);
                if let Some(io) = process.and_then(|process| process.io.as_mut()) {
                    io.on_ready(token, flags, poll, buffer);
                }
            }
        }
    }

    /// Does what follows from what happened.
    #[inline(never)]
    fn progress(&mut self, now: Instant) {
        self.look_at_memory(now);
        self.progress_freezing(now);
        self.progress_calls(now);
        self.tidy_when_due(now);
        self.progress_entry(now);
        self.report_ended(now);
        if self.connections.is_empty() && !self.start_asked {
            self.begin_deletion(None);
        }
        self.progress_deletion(now);
        if self.deleted_at.is_some_and(|at| at + LINGER <= now) {
            // Daemons that do not even read the answer to their last request.
            for connection in std::mem::take(&mut self.connections) {
                connection.close(&self.poll);
            }
        }
    }

    /// Waits for what can go on now. What the kernel has no memory to wait for is tried again soon:
    /// a shim that gave up would take its container along.
    #[inline(never)]
    fn arm(&mut self, now: Instant) {
        let Self { poll, processes, connections, listener, source, .. } = self;
        let mut armed = source.as_mut().map_or(Ok(()), |source| source.arm(poll));
        if let Some(listener) = listener {
            let open = connections.len() < MAX_CONNECTIONS;
            armed = armed.and(listener.arm(poll, open.then_some(EventFlags::IN)));
        }
        for connection in connections.iter_mut() {
            armed = armed.and(connection.arm(poll));
        }
        for process in processes.iter_mut() {
            armed = armed.and(process.arm(poll, now));
        }
        for process in processes.extract_if(.., |process| process.is_over()) {
            process.release(poll);
        }
        self.rearm = armed.is_err().then(|| now + REARM);
    }

    /// When something has to be done unasked.
    #[inline(never)]
    fn due(&self, now: Instant) -> Option<Instant> {
        let processes = self.processes.iter().filter_map(Process::deadline);
        let deletion = self.deletion.as_ref().map(Deletion::deadline);
        let memory = self.memory.as_ref().and_then(Memory::next_look);
        let freezing = self.freezing.as_ref().map(Freezing::next_look);
        let lingering = self.deleted_at.filter(|_| !self.connections.is_empty()).map(|at| at + LINGER);
        processes
            .chain(deletion)
            .chain(memory)
            .chain(freezing)
            .chain(self.next_call_look(now))
            .chain(lingering)
            .chain(self.rearm)
            .chain(self.source.as_ref().and_then(|source| source.due()))
            .chain(self.entry.as_ref().and_then(|entry| entry.due()))
            .min()
    }

    fn is_over(&self) -> bool {
        self.deleted_at.is_some()
            && self.connections.is_empty()
            && self.processes.iter().all(Process::is_deserted)
    }

    fn connect(&mut self, socket: OwnedFd) {
        self.connections.push(Connection::new(self.next_peer, socket));
        self.next_peer = (self.next_peer + 1) & MAX_PEER_ID;
    }

    fn on_listener(&mut self) {
        let Some(listener) = &self.listener else { return };
        // The socket's mode admits its owner only; a daemon that is gone again is no error.
        if let Ok(socket) = seacow_sys::unix::accept(listener.as_fd()) {
            self.connect(socket);
        }
    }

    fn on_connection(&mut self, id: PeerId, flags: EventFlags) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        let mut lost = None;
        if flags.contains(EventFlags::OUT) {
            lost = connection.flush().err();
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            // What came before the end still counts.
            lost = connection.receive().err().or(lost);
            let gone = lost.is_some() || flags.contains(EventFlags::HUP);
            lost = self.work_off(id, gone).or(lost);
        }
        let leaving = |connection: &Connection| connection.leaving && connection.is_flushed();
        if lost.is_some() || self.connections.iter().any(|c| c.id == id && leaving(c)) {
            self.disconnect(id);
        }
    }

    /// Handles the whole requests that have arrived; tells why the connection must be dropped. Of a daemon
    /// that is `gone` nothing is taken that makes a clone: it has no record of it, and nobody would ever know
    /// that it runs.
    fn work_off(&mut self, id: PeerId, gone: bool) -> Option<crate::conn::Lost> {
        loop {
            let connection = self.connections.iter_mut().find(|connection| connection.id == id)?;
            if connection.leaving {
                return None;
            }
            let message = match connection.next_request() {
                Ok(Some(message)) => message,
                Ok(None) => return None,
                Err(lost) => return Some(lost),
            };
            let greeted = connection.greeted;
            let descriptor =
                request::takes_descriptor(&message.request).then(|| connection.claim_descriptor()).flatten();
            let answer = match (&message.request, greeted) {
                (Request::Sibling { .. } | Request::Clone(_), _) if gone => continue,
                (Request::Start, _) if gone && self.is_held() => continue,
                (Request::Hello { version }, _) => Some(self.hello(id, *version)),
                (_, true) => self.handle(id, message.seq, message.request, descriptor),
                (_, false) => Some(self.stranger(id)),
            };
            if let Some(answer) = answer {
                self.answer(id, message.seq, answer);
            }
        }
    }

    /// Sends an answer; a connection that cannot take it is dropped.
    fn answer(&mut self, id: PeerId, seq: u64, answer: Answer) {
        let connection = self.connections.iter_mut().find(|connection| connection.id == id);
        let Some(connection) = connection else { return };
        if connection.send(&FromShim::Answer { seq, answer }).is_err() {
            self.disconnect(id);
        }
    }

    /// Tells every daemon.
    fn broadcast(&mut self, event: &Event) {
        let message = FromShim::Event(event.clone());
        let failed: Vec<PeerId> = self
            .connections
            .iter_mut()
            .filter(|connection| connection.greeted)
            .filter_map(|connection| connection.send(&message).is_err().then_some(connection.id))
            .collect();
        for id in failed {
            self.disconnect(id);
        }
    }

    fn disconnect(&mut self, id: PeerId) {
        let Self { connections, poll, .. } = self;
        for connection in connections.extract_if(.., |connection| connection.id == id) {
            connection.close(poll);
        }
    }

    fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.iter().find(|process| process.id == id)
    }

    fn process_mut(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.id == id)
    }

    fn target(&mut self, target: &Target) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.target == *target)
    }

    /// A number that no living process has.
    fn new_process_id(&mut self) -> ProcessId {
        loop {
            let id = self.next_process;
            self.next_process = if id == MAX_PROCESS_ID { INIT + 1 } else { id + 1 };
            if self.process(id).is_none() {
                return id;
            }
        }
    }

    fn status(&self) -> Status {
        let running = self.processes.iter().filter_map(Process::exec_status);
        Status {
            id: self.container.as_ref().map(|container| container.id().clone()),
            state: self.state.clone(),
            execs: self.finished.iter().cloned().chain(running).collect(),
        }
    }
}
