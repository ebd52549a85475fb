//! Ends: noticed by pidfd, drained, reported, recorded, in that order.

use std::time::{Duration, Instant};

use seacow_spec::Timestamp;
use seacow_spec::lifecycle::{self, Exit};
use seacow_spec::shim::{Event, ExecStatus, Target};
use seacow_sys::process::try_wait;

use super::process::Phase;
use super::request::Refused;
use super::{INIT, MAX_FINISHED, MAX_UNTOLD, Member};
use crate::poll::ProcessId;
use crate::runtime::Container;

/// How long the output of an ended process is waited for. With a pid namespace of its own every
/// writer is dead by then and the pipes have ended; a container in the host's may leave writers.
const DRAIN: Duration = Duration::from_secs(1);
/// The status of a child that somebody else reaped: cannot happen, but must not hang a daemon.
const UNKNOWN: i32 = 255;
/// The status of a process that was killed by SIGKILL.
const KILLED: i32 = 137;

impl Member {
    /// A pidfd became readable.
    pub(super) fn on_exit(&mut self, id: ProcessId) {
        if id == INIT && self.end_held() {
            return;
        }
        let Some(process) = self.process(id).filter(|process| process.is_alive()) else { return };
        let code = match try_wait(process.pidfd()) {
            Ok(Some(ended)) => ended.code(),
            Ok(None) => return,
            Err(_) => UNKNOWN,
        };
        self.on_end(id, code);
    }

    /// Ends a clone that was not let go yet, if this is one; only its tracer can take note of its end.
    pub(super) fn end_held(&mut self) -> bool {
        let ended = self.container.as_mut().is_some_and(Container::end_held);
        if ended {
            self.on_end(INIT, KILLED);
        }
        ended
    }

    /// Whether this is a clone that was not let go yet.
    pub(super) fn is_held(&self) -> bool {
        self.container.as_ref().is_some_and(Container::is_held)
    }

    /// A living process was reaped.
    pub(super) fn on_end(&mut self, id: ProcessId, code: i32) {
        // The kernel's notice comes before the end that it causes, and is handled by now.
        let oom_killed = id == INIT && self.memory_ran_out(Instant::now());
        let Self { processes, poll, buffer, container, .. } = self;
        let Some(process) = processes.iter_mut().find(|process| process.id == id) else { return };
        let exit = Exit { code, at: Timestamp::now(), oom_killed, reason: None };
        if id == INIT
            && let Some(container) = container
        {
            // In the host's pid namespace init's end ends nobody else.
            container.group().init_ended();
        }
        if let Some(io) = &mut process.io {
            io.drain(poll, buffer);
        }
        process.phase = Phase::Draining { exit, until: Instant::now() + DRAIN };
        if id == INIT {
            // It has the container's memory.
            drop(self.take_shadow());
            self.forget_forks();
            self.end_freezing(Refused::NotRunning("the container".to_owned()));
        }
    }

    /// Reports processes whose output was read to its end.
    pub(super) fn report_ended(&mut self, now: Instant) {
        let Self { processes, poll, .. } = self;
        let mut ended = Vec::new();
        for process in processes {
            let Phase::Draining { exit, until } = &process.phase else { continue };
            let drained = process.io.as_ref().is_none_or(|io| io.is_drained());
            if !drained && now < *until {
                continue;
            }
            ended.push((process.target.clone(), process.pid, exit.clone()));
            process.phase = Phase::Over;
            if let Some(io) = &mut process.io {
                io.finish(poll);
            }
        }
        for (target, pid, exit) in ended {
            match target {
                Target::Init => self.init_over(exit),
                Target::Exec(exec_id) => self.exec_over(ExecStatus { exec_id, pid, exit: Some(exit) }),
            }
        }
    }

    fn init_over(&mut self, exit: Exit) {
        let Some(state) = self.state.take() else { return };
        match lifecycle::apply(state, lifecycle::Event::Exited(exit.clone())) {
            Ok(state) => {
                self.state = Some(state);
                self.broadcast(&Event::Exited(exit.clone()));
                self.unrecorded = Some(exit);
            }
            // Killed before it was started: the daemon that asks for the start is told.
            Err(refused) => self.state = Some(refused.state),
        }
    }

    /// Writes down how init ended: behind the event and the end of the clients' streams, since somebody
    /// waits for those. A daemon that is away asks us; the file is for one that comes when we have gone
    /// too.
    #[inline(never)]
    pub(super) fn record_exit(&mut self) {
        if let Some(exit) = self.unrecorded.take()
            && let Err(error) = self.dir.write_exit(&exit)
        {
            crate::complain(&error);
        }
    }

    fn exec_over(&mut self, status: ExecStatus) {
        let (exec_id, exit) = (status.exec_id.clone(), status.exit.clone());
        let told = self.connections.iter().any(|connection| connection.greeted);
        self.finished.push_back(status);
        let excess = self.finished.len().saturating_sub(if told { MAX_FINISHED } else { MAX_UNTOLD });
        self.finished.drain(..excess);
        if let Some(exit) = exit {
            self.broadcast(&Event::ExecExited { exec_id, exit });
        }
    }
}
