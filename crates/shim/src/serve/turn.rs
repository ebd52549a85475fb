//! The loop.
//!
//! ```text
//! wait ─▶ each readiness: read, decide, write what goes at once ─▶ progress ─▶ arm ─▶ wait
//! ```
//! Handlers only change state and send; what follows from the new state (a drained process is
//! reported, a deletion goes on, clients are closed, interests change) is worked out once after
//! each batch. That order is a promise: an exit is sent to the daemons before the clients of that
//! process are closed, so whoever sees the end of a stream and asks for the status gets it.
//!
//! With several containers only those are looked at that something happened to, or that have something
//! to do at this time: hundreds may wait beside one that writes.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use seacow_sys::signal::SignalFd;

use super::{INIT, Member, ServeError};
use crate::dir::Dir;
use crate::poll::{MAX_MEMBER_ID, MemberId, Poll, Token, Watched};

/// How long nothing must happen before memory is given back: taking it again costs page faults.
const IDLE: Duration = Duration::from_millis(100);
const SIGTERM: i32 = 15;
const SIGINT: i32 = 2;
const SIGHUP: i32 = 1;

/// All that a shim holds.
pub(crate) struct Shim {
    poll: Poll,
    signals: Watched<SignalFd>,
    seats: Vec<Seat>,
    next: MemberId,
}

/// One of the containers.
struct Seat {
    id: MemberId,
    member: Box<Member>,
    /// Something happened to it.
    touched: bool,
    /// When it has something to do unasked.
    due: Option<Instant>,
}

impl Shim {
    /// A shim with one connected daemon.
    ///
    /// # Errors
    /// The kernel objects that it needs cannot be made.
    #[inline(never)]
    pub(crate) fn new(dir: Dir, daemon: OwnedFd) -> Result<Self, ServeError> {
        let poll = Poll::new()?;
        let signals = SignalFd::new(&[SIGTERM, SIGINT, SIGHUP])
            .map_err(|errno| ServeError::Setup { step: "watch signals", errno })?;
        let signals = Watched::new(signals, Token::Signals);
        let mut shim = Self { poll, signals, seats: Vec::with_capacity(1), next: 0 };
        let member = Member::new(dir, daemon, shim.poll.of(0))?;
        shim.seat(member, 0);
        shim.next = 1;
        Ok(shim)
    }

    /// Works until its containers were deleted. What it calls is never inlined: this frame is on the
    /// stack for ever, those of its calls are given back ([`Self::rest`]).
    ///
    /// # Errors
    /// The kernel cannot poll.
    pub(crate) fn run(mut self) -> Result<(), ServeError> {
        let mut ready = Vec::new();
        let mut idle = false;
        self.signals.arm(&self.poll, Some(EventFlags::IN))?;
        loop {
            self.turn(Instant::now());
            if self.seats.is_empty() {
                return Ok(());
            }
            let due = self.due(Instant::now());
            let wait = if idle { due } else { Some(due.map_or(IDLE, |due| due.min(IDLE))) };
            if idle {
                // Last, for what comes before it uses the stack as well.
                self.rest();
            }
            self.poll.wait(&mut ready, wait)?;
            idle = ready.is_empty();
            for (id, token, flags) in ready.drain(..) {
                self.on_ready(id, token, flags);
            }
        }
    }

    #[inline(never)]
    fn on_ready(&mut self, id: MemberId, token: Token, flags: EventFlags) {
        if token == Token::Signals {
            return self.on_signal();
        }
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) {
            seat.touched = true;
            seat.member.on_ready(token, flags);
        }
    }

    /// Does what follows from what happened.
    #[inline(never)]
    fn turn(&mut self, now: Instant) {
        let mut at = 0;
        // New ones are appended, and have their turn too.
        while let Some(seat) = self.seats.get_mut(at) {
            let waits = !seat.touched && seat.due.is_none_or(|due| due > now);
            if waits {
                at += 1;
                continue;
            }
            seat.touched = false;
            let member = &mut seat.member;
            member.progress(now);
            member.arm(now);
            member.record_exit();
            let births = std::mem::take(&mut member.births);
            if member.is_over() {
                self.seats.swap_remove(at);
            } else {
                seat.due = member.due(Instant::now());
                at += 1;
            }
            for birth in births {
                let id = self.free_id();
                if let Some(member) = birth.into_member(self.poll.of(id)) {
                    self.seat(member, id);
                }
            }
        }
    }

    fn seat(&mut self, member: Box<Member>, id: MemberId) {
        self.seats.push(Seat { id, member, touched: true, due: None });
    }

    /// A number that nobody has.
    fn free_id(&mut self) -> MemberId {
        loop {
            let id = self.next;
            self.next = if id >= MAX_MEMBER_ID { 0 } else { id + 1 };
            if self.seats.iter().all(|seat| seat.id != id) {
                return id;
            }
        }
    }

    /// How long until something has to be done unasked.
    #[inline(never)]
    fn due(&self, now: Instant) -> Option<Duration> {
        let next = self.seats.iter().filter_map(|seat| seat.due).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Gives back what only work needs.
    #[inline(never)]
    fn rest(&mut self) {
        for seat in &mut self.seats {
            seat.member.rest();
        }
        // Nothing is lost where this does not work but memory.
        let _ = seacow_sys::memory::release_stack();
    }

    /// SIGTERM (a supervisor that stops everything) is passed on; the shim itself lives as long as
    /// its containers. SIGINT and SIGHUP are somebody's terminal and mean nothing here.
    fn on_signal(&mut self) {
        while let Ok(Some(received)) = self.signals.get().next_signal() {
            if received.signal != SIGTERM {
                continue;
            }
            for init in self.seats.iter().filter_map(|seat| seat.member.process(INIT)) {
                let _ = init.signal(SIGTERM);
            }
        }
    }
}
