//! Pause and resume.
//!
//! Freezing takes as long as the slowest process takes to stop. Everybody else is served meanwhile,
//! and whoever kills the container does not wait for it: a process that a version 1 freezer holds
//! does not even die, so a kill takes the freeze back, and later ones are refused. So are those of
//! a container whose init was killed by somebody else or is on its way out, where it waits for its
//! children's end.
//!
//! ```text
//! Pause ─▶ try ─▶ frozen ─▶ Done
//!           ▲ │ not yet
//!           └─┤ later           ├─▶ init killed, ended, ending; container deleted ─▶ thaw, Conflict
//!             └─────────────────┴─▶ too long ─▶ thaw, Unavailable
//! ```

use std::time::{Duration, Instant};

use seacow_spec::ErrorReport;
use seacow_spec::lifecycle;
use seacow_spec::shim::Answer;
use seacow_sys::process::Ended;

use super::calls::Then;
use super::request::{Outcome, Refused, report};
use super::{INIT, Member};
use crate::poll::PeerId;

/// How long processes may take to freeze; one in an uninterruptible sleep delays it. A daemon waits
/// 60 s for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Until the second look; the waits after that double. Version 1 tells nobody when it is done.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// Fields of `/proc/<pid>/stat`, counted as in proc(5), and their bits.
const FLAGS: usize = 9;
const PF_EXITING: u64 = 0x4;
/// Signals that are pending for the thread. A deadly one is SIGKILL for each thread.
const PENDING: usize = 31;
const KILLED: u64 = 1 << (9 - 1);

/// A freeze under way.
pub(super) struct Freezing {
    asker: (PeerId, u64),
    until: Instant,
    next: Instant,
    wait: Duration,
}

impl Freezing {
    /// When to look again.
    pub(super) fn next_look(&self) -> Instant {
        self.next
    }
}

impl Member {
    /// Answers when all processes are frozen.
    pub(super) fn pause(&mut self, from: PeerId, seq: u64) -> Outcome {
        self.after(lifecycle::Event::Paused).map_err(report)?;
        if self.killed {
            return Err(report(Refused::Killed));
        }
        if self.freezing.is_some() {
            return Err(report(Refused::OutOfOrder("the container is being paused already")));
        }
        let now = Instant::now();
        self.freezing =
            Some(Freezing { asker: (from, seq), until: now + PATIENCE, next: now, wait: FIRST_WAIT });
        self.progress_freezing(now);
        Ok(None)
    }

    pub(super) fn resume(&mut self, asker: (PeerId, u64)) -> Outcome {
        let next = self.after(lifecycle::Event::Resumed).map_err(report)?;
        if self.is_calling(Then::Resumed) {
            return Err(report(Refused::OutOfOrder("the container is being resumed already")));
        }
        if let Some(container) = &mut self.container
            && let Some(call) = container.thaw()?
        {
            return self.await_call(call, asker, Then::Resumed);
        }
        self.state = Some(next);
        Ok(Some(Answer::Done))
    }

    /// Looks again when it is time to.
    pub(super) fn progress_freezing(&mut self, now: Instant) {
        let Self { freezing: Some(freezing), container: Some(container), .. } = self else { return };
        if now < freezing.next {
            return;
        }
        let late = now >= freezing.until;
        freezing.next = now + freezing.wait;
        freezing.wait = (freezing.wait * 2).min(LONGEST_WAIT);
        match container.try_freeze() {
            Ok(_) if self.init_is_dying() => {
                self.end_freezing(Refused::NotRunning("the container".to_owned()));
            }
            Ok(true) => self.frozen(),
            Ok(false) if late => self.end_freezing(Refused::NotFrozen),
            Ok(false) => {}
            Err(why) => self.take_back_freezing(why),
        }
    }

    fn frozen(&mut self) {
        let Some(freezing) = self.freezing.take() else { return };
        let (from, seq) = freezing.asker;
        match self.after(lifecycle::Event::Paused) {
            Ok(next) => {
                self.state = Some(next);
                self.answer(from, seq, Answer::Done);
            }
            Err(refused) => self.answer(from, seq, Answer::Failed(report(refused))),
        }
    }

    /// A command of the runtime has ended, which may be what is waited for.
    pub(super) fn on_command_end(&mut self, pid: i32, ended: Ended) {
        if self.call_ended(pid, ended) {
            return;
        }
        let awaited = self.container.as_mut().is_some_and(|container| container.command_ended(pid, ended));
        if let Some(freezing) = self.freezing.as_mut().filter(|_| awaited) {
            freezing.next = Instant::now();
        }
    }

    /// Takes back a freeze that is under way, and tells why who asked for it.
    pub(super) fn end_freezing(&mut self, why: Refused) {
        if self.freezing.is_some() {
            self.take_back_freezing(report(why));
        }
    }

    fn take_back_freezing(&mut self, why: ErrorReport) {
        let Some(freezing) = self.freezing.take() else { return };
        if let Some(container) = &mut self.container {
            container.take_back_freeze();
        }
        let (from, seq) = freezing.asker;
        self.answer(from, seq, Answer::Failed(why));
    }

    /// What was killed must not be held, now or later.
    pub(super) fn let_die(&mut self) -> Result<(), ErrorReport> {
        self.killed = true;
        self.end_freezing(Refused::Killed);
        if let Ok(next) = self.after(lifecycle::Event::Resumed) {
            if let Some(container) = &mut self.container {
                container.thaw_killed()?;
            }
            self.state = Some(next);
        }
        Ok(())
    }

    fn init_is_dying(&self) -> bool {
        self.process(INIT).is_none_or(|init| !init.is_alive() || is_dying(init.pid))
    }
}

/// Whether a process was killed or is on its way out; init stays so until its pid namespace is empty.
/// Asked of a frozen process, the answer lasts.
fn is_dying(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The name in parentheses may hold anything; the third field follows the last one.
    let fields: Vec<&str> =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let has = |field: usize, bits: u64| {
        fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).is_some_and(|word| word & bits != 0)
    };
    has(FLAGS, PF_EXITING) || has(PENDING, KILLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_the_way_out() {
        assert!(!is_dying(seacow_sys::process::own_pid()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = seacow_sys::process::pidfd_open(pid).unwrap();
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        // A zombie.
        assert!(is_dying(pid));
        child.wait().unwrap();
        assert!(is_dying(pid));
    }
}
