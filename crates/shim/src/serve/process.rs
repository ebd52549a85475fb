//! A process of the container that this shim is the parent of: init or an exec.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use seacow_spec::lifecycle::Exit;
use seacow_spec::shim::{ExecStatus, Target};

use crate::io::Io;
use crate::poll::{Poll, ProcessId, Token, Watched};

/// Where a process is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its program was not executed yet.
    Waiting,
    /// Its program runs.
    Running,
    /// It ended; its pipes are read until they end, or until this time.
    Draining { exit: Exit, until: Instant },
    /// Its end was reported.
    Over,
}

/// A process.
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) target: Target,
    pub(super) pid: i32,
    pub(super) phase: Phase,
    /// `None` when its standard streams are `/dev/null`.
    pub(super) io: Option<Io>,
    pidfd: Watched,
}

impl Process {
    pub(super) fn new(id: ProcessId, target: Target, pid: i32, pidfd: OwnedFd) -> Self {
        let pidfd = Watched::new(pidfd, Token::Exit(id));
        Self { id, target, pid, phase: Phase::Waiting, io: None, pidfd }
    }

    /// Another process goes on in its place.
    pub(super) fn becomes(&mut self, pid: i32, pidfd: OwnedFd, poll: &Poll) {
        self.pid = pid;
        let old = std::mem::replace(&mut self.pidfd, Watched::new(pidfd, Token::Exit(self.id)));
        drop(old.release(poll));
    }

    /// Sends it any signal.
    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match self.phase {
            Phase::Waiting | Phase::Running => seacow_sys::process::pidfd_signal(self.pidfd.as_fd(), signal),
            Phase::Draining { .. } | Phase::Over => Err(Errno::SRCH),
        }
    }

    pub(super) fn pidfd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether it has not ended, as far as we know.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Running)
    }

    /// Whether nobody is attached to it.
    pub(super) fn is_deserted(&self) -> bool {
        self.io.as_ref().is_none_or(Io::is_deserted)
    }

    /// Whether nothing is left to be done for it.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over && self.is_deserted()
    }

    /// When something has to be done for it unasked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let drained = match &self.phase {
            Phase::Draining { until, .. } => Some(*until),
            Phase::Waiting | Phase::Running | Phase::Over => None,
        };
        let client = self.io.as_ref().and_then(Io::deadline);
        drained.into_iter().chain(client).min()
    }

    /// How a status shows it; `None` for init and for what was reported already.
    pub(super) fn exec_status(&self) -> Option<ExecStatus> {
        match &self.target {
            Target::Exec(exec_id) if self.phase != Phase::Over => {
                Some(ExecStatus { exec_id: exec_id.clone(), pid: self.pid, exit: None })
            }
            Target::Init | Target::Exec(_) => None,
        }
    }

    pub(super) fn arm(&mut self, poll: &Poll, now: Instant) -> std::io::Result<()> {
        // A pidfd stays readable for ever.
        let interest = self.is_alive().then_some(EventFlags::IN);
        self.pidfd.arm(poll, interest)?;
        match &mut self.io {
            Some(io) => io.arm(poll, now),
            None => Ok(()),
        }
    }

    pub(super) fn release(mut self, poll: &Poll) {
        if let Some(io) = &mut self.io {
            io.finish(poll);
        }
        drop(self.pidfd.release(poll));
    }
}
