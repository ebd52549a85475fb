//! A forkable container's entry point: its program gets a shadow, and so does every one that it executes
//! until it has settled.
//!
//! Whatever goes wrong with that, the container runs, and is forked by way of a snapshot.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use seacow_fork::{Charge, Doubled, Seen, Settling, Shadow, Surroundings, Target as Forkable, Watch};
use seacow_runtime::cgroup::{Cgroups, ForShadow};
use seacow_spec::lifecycle;
use seacow_spec::shim::Event;
use seacow_sys::signal::SignalFd;

use super::{INIT, Member};
use crate::poll::{Token, Watched};

const SIGCHLD: i32 = 17;
/// How long after its last program an entry point has settled. Until then its signals come by us.
const SETTLED: Duration = Duration::from_secs(10);
/// How often it is looked at until then.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program may take from the word to execute it until it stands there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What there is of shadow and watch.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    shadow: Option<Shadow>,
    watch: Option<Watch>,
    /// When it has settled.
    until: Option<Instant>,
    /// When its memory is to be looked at next.
    look_at: Option<Instant>,
    settling: Settling,
    /// It may have gone on before we listened.
    unseen: bool,
}

/// Who goes on in init's place.
pub(crate) struct Moved {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

impl Entry {
    /// Of a clone that was made with its shadow.
    pub(crate) fn of_clone(shadow: Option<Shadow>) -> Self {
        Self { shadow, ..Self::default() }
    }

    /// Of a process that is being watched and was told to execute its program.
    pub(crate) fn of_watched(mut watch: Watch, cgroups: &Cgroups) -> (Self, Option<Moved>) {
        let mut entry = Self::default();
        if !matches!(watch.wait(PATIENCE), Ok(Seen::Executed)) {
            return (entry, None);
        }
        let moved = entry.double(watch, cgroups);
        (entry, moved)
    }

    /// Gives the program a shadow where it stands; `None` when it goes on as it is, not watched.
    fn double(&mut self, watch: Watch, cgroups: &Cgroups) -> Option<Moved> {
        let around = cgroups.for_shadow().ok().flatten()?;
        let pid = watch.pid();
        let cgroup = cgroups.process_dir();
        let target = Forkable { pid, streams: &[], cgroup: cgroup.as_deref() };
        let doubled = watch.double(&target, &surroundings(&around));
        // Nobody asked just now; whoever wonders later finds the reason where the shim's errors go.
        let Doubled { shadow, clone, watch } = doubled.inspect_err(|error| crate::complain(error)).ok()?;
        self.shadow = Some(shadow);
        self.watch = Some(watch);
        self.until = Some(Instant::now() + SETTLED);
        self.look_at = Some(Instant::now() + LOOK);
        self.settling = Settling::default();
        Some(Moved { pid: clone.pid, pidfd: clone.pidfd })
    }

    /// Looks what it does; tells when another process goes on in its place.
    fn look(&mut self, cgroups: &Cgroups) -> Option<Moved> {
        let seen = self.watch.as_mut()?.look();
        match seen {
            Ok(Seen::Nothing) => None,
            Ok(Seen::Executed) => {
                // It has other memory now.
                self.shadow = None;
                let watch = self.watch.take()?;
                self.double(watch, cgroups)
            }
            Ok(Seen::Ended) | Err(_) => {
                self.settle();
                None
            }
        }
    }

    /// Stops watching.
    fn settle(&mut self) {
        (self.watch, self.until, self.look_at) = (None, None, None);
    }

    /// Has its memory made cheap to be forked, when it does not grow any more.
    fn look_at_memory(&mut self, now: Instant) {
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        let looked = self.shadow.as_ref().map(|shadow| self.settling.look(shadow));
        self.look_at = match looked {
            Some(Ok(true)) => Some(now),
            Some(Ok(false)) => Some(now + LOOK),
            // It stays as it is.
            Some(Err(_)) | None => None,
        };
    }

    /// Its shadow, for a family; nobody else may trace the program then.
    pub(super) fn into_shadow(mut self) -> Option<Shadow> {
        self.settle();
        self.shadow
    }

    pub(super) fn shadow_pid(&self) -> Option<i32> {
        self.shadow.as_ref().map(Shadow::pid)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.until.into_iter().chain(self.look_at).min()
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }
}

fn surroundings(around: &ForShadow) -> Surroundings<'_> {
    use std::os::fd::AsFd;
    Surroundings {
        cgroup: around.born_in.as_ref().map(AsFd::as_fd),
        join: around.tasks.iter().map(AsFd::as_fd).collect(),
        charge: charge(around),
    }
}

/// Who pays for a shadow and its forks.
pub(crate) fn charge(around: &ForShadow) -> Charge<'_> {
    use std::os::fd::AsFd;
    Charge {
        memory: around.memory.as_ref().map(AsFd::as_fd),
        templates: around.own.as_ref().map(AsFd::as_fd),
        templates_memory: around.own_memory.as_ref().map(AsFd::as_fd),
    }
}

impl Member {
    /// Begins to follow an entry point that is watched.
    pub(super) fn follow(&mut self, entry: Entry) {
        if entry.is_watched() {
            match SignalFd::new(&[SIGCHLD]) {
                Ok(signals) => {
                    let mut children = Watched::new(signals, Token::Children);
                    if children.arm(&self.poll, Some(EventFlags::IN)).is_ok() {
                        self.children = Some(children);
                    }
                }
                // Nobody would tell us of its signals.
                Err(_) => return self.entry = Some(Box::new(Entry::of_clone(entry.into_shadow()))),
            }
        }
        // Looked at behind the answer to the start.
        self.entry = Some(Box::new(Entry { unseen: true, ..entry }));
    }

    /// It may have done something.
    pub(super) fn look_at_entry(&mut self) {
        if let Some(children) = &self.children {
            while let Ok(Some(_)) = children.get().next_signal() {}
        }
        // Each look may begin a new watch.
        loop {
            let (Some(entry), Some(container)) = (&mut self.entry, &self.container) else { return };
            let Some(moved) = entry.look(container.group().cgroups()) else { break };
            self.moved(moved);
        }
        if self.entry.as_ref().is_some_and(|entry| !entry.is_watched()) {
            self.stop_following();
        }
    }

    /// What is to be done for it unasked.
    pub(super) fn progress_entry(&mut self, now: Instant) {
        if self.entry.as_mut().is_some_and(|entry| std::mem::take(&mut entry.unseen)) {
            self.look_at_entry();
        }
        if let Some(entry) = &mut self.entry {
            entry.look_at_memory(now);
        }
        if let Some(entry) = &mut self.entry
            && entry.until.is_some_and(|until| until <= now)
        {
            entry.settle();
            self.stop_following();
        }
    }

    fn stop_following(&mut self) {
        if let Some(children) = self.children.take() {
            drop(children.release(&self.poll));
        }
    }

    /// Takes the shadow for a family, and stops watching.
    pub(super) fn take_shadow(&mut self) -> Option<Shadow> {
        let shadow = self.entry.take()?.into_shadow();
        self.stop_following();
        shadow
    }

    /// Init is another process by now.
    fn moved(&mut self, Moved { pid, pidfd }: Moved) {
        if let Some(container) = &mut self.container {
            // A record that cannot be written is the old one: that process is gone.
            let _ = container.moved(pid, &pidfd, &self.dir);
        }
        let poll = &self.poll;
        if let Some(init) = self.processes.iter_mut().find(|process| process.id == INIT) {
            init.becomes(pid, pidfd, poll);
        }
        if let Ok(state) = self.after(lifecycle::Event::Moved { pid }) {
            self.state = Some(state);
        }
        self.broadcast(&Event::Moved { pid });
    }

    /// At the start, before anybody was told of the old one.
    pub(super) fn moved_at_start(&mut self, Moved { pid, pidfd }: Moved) {
        let poll = &self.poll;
        if let Some(init) = self.processes.iter_mut().find(|process| process.id == INIT) {
            init.becomes(pid, pidfd, poll);
        }
    }
}
