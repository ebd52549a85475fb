//! The end of a container: kill, wait, remove, answer, leave.
//!
//! The kernel decides how long dying takes, and everybody else is served meanwhile. A process that
//! cannot die (a hanging disk) fails the deletion after [`PATIENCE`]; the shim stays, and the daemon
//! may ask again.

use std::time::{Duration, Instant};

use seacow_spec::shim::Answer;
use seacow_spec::{ErrorClass, ErrorReport};

use super::process::Phase;
use super::request::Refused;
use super::{INIT, Member};
use crate::poll::PeerId;
use crate::runtime::Removal;

/// How long a container may take to die. A daemon waits 60 s for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;
const UNDEAD: &str = "remove the container: a process of it does not die";

/// A deletion under way.
pub(super) struct Deletion {
    /// Who wants to know; empty when the shim goes because its daemon did.
    askers: Vec<(PeerId, u64)>,
    until: Instant,
}

impl Deletion {
    /// When it has failed.
    pub(super) fn deadline(&self) -> Instant {
        self.until
    }
}

impl Member {
    /// Kills everything. [`Self::progress_deletion`] does the rest.
    pub(super) fn begin_deletion(&mut self, asker: Option<(PeerId, u64)>) {
        if self.deleted_at.is_some() {
            if let Some((id, seq)) = asker {
                self.answer(id, seq, Answer::Done);
            }
            return;
        }
        let until = Instant::now() + PATIENCE;
        let deletion = self.deletion.get_or_insert(Deletion { askers: Vec::new(), until });
        deletion.askers.extend(asker);
        self.end_freezing(Refused::Killed);
        self.drop_calls();
        self.kill();
    }

    /// Kills init, and whatever else its cgroup holds. When init has ended that was done.
    fn kill(&mut self) {
        // Of a source that ends it has to be let go.
        self.forget_forks();
        if self.end_held() {
            return;
        }
        let Some(init) = self.process(INIT).filter(|init| init.is_alive()) else { return };
        // ESRCH: it is dead, which is what is wanted.
        let _ = init.signal(SIGKILL);
        if let Some(container) = &mut self.container {
            container.group().kill();
        }
    }

    pub(super) fn progress_deletion(&mut self, now: Instant) {
        let Some(deletion) = &mut self.deletion else { return };
        if self.processes.iter().any(|process| process.phase != Phase::Over) {
            // Their pidfds wake us; the deadline only bounds the wait.
            if now >= deletion.until {
                self.fail_deletion(ErrorReport::new(ErrorClass::Unavailable, UNDEAD));
            }
            return;
        }
        // An open memory cgroup is busy.
        self.forget_memory();
        let removed = match &mut self.container {
            Some(container) => container.remove(now),
            None => Removal::Over(Ok(())),
        };
        match removed {
            Removal::Over(Ok(())) => self.complete_deletion(),
            Removal::Over(Err(why)) => self.fail_deletion(why),
            // Another runtime is at it.
            Removal::UnderWay { until } => {
                if let Some(deletion) = &mut self.deletion {
                    deletion.until = until;
                }
            }
        }
    }

    fn complete_deletion(&mut self) {
        // The last hold on the mount namespace goes: here the kernel unmounts, and syncs what the
        // container wrote unless its layer is thrown away.
        self.container = None;
        self.deleted_at = Some(Instant::now());
        if let Some(listener) = self.listener.take() {
            drop(listener.release(&self.poll));
        }
        let cleared = self.dir.clear();
        let answer = match &cleared {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(ErrorReport::new(ErrorClass::Internal, error.to_string())),
        };
        for (id, seq) in self.deletion.take().map(|deletion| deletion.askers).unwrap_or_default() {
            self.answer(id, seq, answer.clone());
        }
        // Daemons see the end of the connection once they read the answer.
        for id in self.connections.iter().map(|connection| connection.id).collect::<Vec<_>>() {
            self.disconnect_flushed(id);
        }
    }

    fn fail_deletion(&mut self, report: ErrorReport) {
        let Some(deletion) = self.deletion.take() else { return };
        for (id, seq) in deletion.askers {
            self.answer(id, seq, Answer::Failed(report.clone()));
        }
    }

    /// Closes a connection now, or as soon as it has taken what is queued for it.
    fn disconnect_flushed(&mut self, id: PeerId) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        connection.leaving = true;
        if connection.is_flushed() {
            self.disconnect(id);
        }
    }
}
