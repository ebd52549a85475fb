//! Calls of another runtime that are under way: signals, resume, update.
//!
//! Another runtime is a command, and commands take their time: 10 to 100 ms with the usual ones, for
//! ever with one that hangs. Everybody else is served meanwhile; who asked is answered at its end, or
//! when the time is up.

use std::time::{Duration, Instant};

use seacow_spec::ErrorReport;
use seacow_spec::lifecycle;
use seacow_spec::shim::Answer;
use seacow_sys::process::Ended;

use super::Member;
use super::request::{Outcome, Refused, report};
use crate::foreign::Call;
use crate::poll::PeerId;

/// How often to look where nobody tells of ended children.
const LOOK: Duration = Duration::from_millis(20);

/// A call under way, and who waits for it.
pub(super) struct UnderWay {
    call: Call,
    asker: (PeerId, u64),
    then: Then,
}

/// What follows when it has succeeded, before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// The signal goes to every other process too (`all`), and what was killed must not be held.
    Signalled {
        signal: i32,
        all: bool,
        kills: bool,
    },
    Resumed,
}

impl Member {
    /// Answers when the call has ended.
    pub(super) fn await_call(&mut self, call: Call, asker: (PeerId, u64), then: Then) -> Outcome {
        self.calls.push(UnderWay { call, asker, then });
        Ok(None)
    }

    /// Whether a call of this kind is under way.
    pub(super) fn is_calling(&self, then: Then) -> bool {
        self.calls.iter().any(|under_way| under_way.then == then)
    }

    /// When to look at the calls again, if any.
    pub(super) fn next_call_look(&self, now: Instant) -> Option<Instant> {
        let deadline = self.calls.iter().map(|under_way| under_way.call.deadline()).min()?;
        Some(if self.children.is_some() { deadline } else { deadline.min(now + LOOK) })
    }

    /// Answers those whose calls have ended, or take too long.
    pub(super) fn progress_calls(&mut self, now: Instant) {
        let Self { calls, container, .. } = self;
        let Some(container) = container else { return };
        let ended = |under_way: &mut UnderWay| {
            container
                .outcome(&mut under_way.call, now)
                .map(|outcome| (under_way.asker, under_way.then, outcome))
        };
        let ended: Vec<_> = calls.iter_mut().map(ended).collect();
        let mut outcomes = Vec::new();
        let mut ended = ended.into_iter();
        // One that hangs is killed by being dropped.
        calls.retain(|_| match ended.next().flatten() {
            Some(outcome) => {
                outcomes.push(outcome);
                false
            }
            None => true,
        });
        for ((id, seq), then, outcome) in outcomes {
            let done = outcome.and_then(|()| self.after_call(then));
            self.answer(id, seq, done.map_or_else(Answer::Failed, |()| Answer::Done));
        }
    }

    fn after_call(&mut self, then: Then) -> Result<(), ErrorReport> {
        match then {
            Then::Nothing => Ok(()),
            Then::Resumed => {
                let next = self.after(lifecycle::Event::Resumed).map_err(report)?;
                self.state = Some(next);
                Ok(())
            }
            Then::Signalled { signal, all, kills } => self.after_signal(signal, all, kills),
        }
    }

    /// Nobody waits for them any more: the container goes.
    pub(super) fn drop_calls(&mut self) {
        for under_way in std::mem::take(&mut self.calls) {
            let (id, seq) = under_way.asker;
            drop(under_way.call);
            self.answer(id, seq, Answer::Failed(report(Refused::Killed)));
        }
    }

    /// A child was reaped; tells whether it was one of these.
    pub(super) fn call_ended(&mut self, pid: i32, ended: Ended) -> bool {
        self.calls.iter_mut().any(|under_way| under_way.call.reaped(pid, ended))
    }
}
