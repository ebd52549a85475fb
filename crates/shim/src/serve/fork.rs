//! Forks: the program is taken as it is, and siblings are made from it.
//!
//! ```text
//! a container's connection                     its sibling's connection
//!   Examine ─▶ Examined
//!   Fork + socket ─▶ Forking ▷ Frozen ─▶ Forked
//!   Sibling{dir} + connection ─▶ Done ·········▶ Hello ─▶ Hello
//!                                                Clone + network ─▶ Held
//!                                                Start ─▶ Started
//!   Retire ─▶ Done
//! ```
//! A sibling is a container like any other from its greeting on. It belongs to the daemon that asked for it
//! until it is started: half-made ones go with its connection.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use seacow_fork::{Family, Meanwhile, ObjectId, Path, Target as Forkable};
use seacow_spec::lifecycle::State;
use seacow_spec::shim::{Answer, Decoder, ForkPath, Forked, NewClone, Pause, Target, encode};
use seacow_spec::{ErrorClass, ErrorReport};
use seacow_sys::process::pidfd_open;
use seacow_sys::unix::{send, try_receive};

use super::entry::Entry;
use super::process::Process;
use super::request::{Outcome, Refused, report, stream_socket};
use super::{INIT, Member, limit};
use crate::dir::Dir;
use crate::io::{Io, Standard};
use crate::log::Log;
use crate::poll::{Poll, Token, Watched};
use crate::runtime::Container;

/// How long after a fork what it took the place of is let go, when nothing else gives an occasion: behind
/// the clones that somebody waits for.
const TIDY: Duration = Duration::from_millis(500);
/// How long a source may stand still so that it takes note of what was let go.
const RETIRE: Duration = Duration::from_millis(200);

/// What a container's forks have in common, for as long as somebody may make clones of it.
pub(super) type Kept = Rc<RefCell<Option<Forks>>>;

/// The last fork and what it needs of ours.
pub(super) struct Forks {
    family: Family,
    /// Streams of the source that clones get others for, in the family's order.
    streams: Vec<Standard>,
}

/// A container that was forked.
pub(super) struct Source {
    kept: Kept,
    /// Readable when what is kept in the container has ended: a container that ends waits for us to take
    /// note of it.
    snapshot: Option<Watched>,
    /// When to let go of the fork before the last one.
    tidy_at: Option<Instant>,
}

impl Source {
    pub(super) fn arm(&mut self, poll: &Poll) -> std::io::Result<()> {
        self.snapshot.as_mut().map_or(Ok(()), |snapshot| snapshot.arm(poll, Some(EventFlags::IN)))
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.tidy_at
    }
}

/// A sibling that was asked for.
pub(super) struct Birth {
    dir: Dir,
    connection: OwnedFd,
    origin: Kept,
}

impl Birth {
    /// `None` where it cannot be: its connection ends, which tells.
    pub(super) fn into_member(self, poll: Poll) -> Option<Box<Member>> {
        match Member::new(self.dir, self.connection, poll) {
            Ok(mut member) => {
                member.origin = Some(self.origin);
                Some(member)
            }
            Err(error) => {
                crate::complain(&error);
                None
            }
        }
    }
}

impl Member {
    /// Everything that stands in the way.
    pub(super) fn examine(&mut self) -> Outcome {
        let (pid, cgroup) = self.forkable()?;
        let streams = self.stream_objects()?;
        let objects: Vec<ObjectId> = streams.iter().map(|(_, object)| *object).collect();
        let target = Forkable { pid, streams: &objects, cgroup: cgroup.as_deref() };
        let ours = self.kept_pids();
        let mut reasons = seacow_fork::examine(&target).map_err(|error| ErrorReport::of(&error))?;
        // What is kept of an earlier fork is no further process.
        for reason in &mut reasons {
            if let seacow_fork::Reason::MoreProcesses { pids } = reason {
                pids.retain(|pid| !ours.contains(pid));
            }
        }
        let nobody = |reason: &seacow_fork::Reason| matches!(reason, seacow_fork::Reason::MoreProcesses { pids } if pids.is_empty());
        let reasons = reasons.iter().filter(|reason| !nobody(reason)).map(ToString::to_string).collect();
        Ok(Some(Answer::Examined { reasons }))
    }

    /// Takes the program's state and memory. Nobody else is served meanwhile.
    pub(super) fn fork(&mut self, pause_at_most: u32, descriptor: Option<OwnedFd>) -> Outcome {
        let words = stream_socket(descriptor).map_err(report)?;
        let (pid, cgroup) = self.forkable()?;
        let (streams, objects): (Vec<_>, Vec<_>) = self.stream_objects()?.into_iter().unzip();
        let kept = match &self.source {
            Some(source) => Rc::clone(&source.kept),
            None => Kept::default(),
        };
        let shadow = self.take_shadow();
        let mut slot = kept.borrow_mut();
        let family = || match shadow {
            Some(shadow) => Family::with_shadow(pid, shadow),
            None => Family::new(pid),
        };
        let forks = slot.get_or_insert_with(|| Forks { family: family(), streams: Vec::new() });
        let at_most = Duration::from_millis(pause_at_most.into());
        let deadline = Instant::now() + at_most;
        let target = Forkable { pid, streams: &objects, cgroup: cgroup.as_deref() };
        let mut late = None;
        let files = OfDaemon { words: &words, deadline, failure: &mut late };
        let forked = forks.family.fork(&target, at_most, files);
        match forked {
            Ok(forked) => {
                forks.streams = streams;
                let snapshot = forks.family.kept().next();
                drop(slot);
                self.was_forked(kept, snapshot);
                let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                Ok(Some(Answer::Forked(Forked {
                    pause: micros(forked.pause),
                    files: micros(forked.caller),
                    ready: micros(forked.ready),
                    copied: forked.copied,
                    path: match forked.path {
                        Path::Snapshot => ForkPath::Snapshot,
                        Path::Kept => ForkPath::Kept,
                        Path::Shadow => ForkPath::Shadow,
                    },
                })))
            }
            Err(error) => {
                // Nobody else has what there is of a first family.
                let family = slot.take_if(|_| self.source.is_none()).map(|forks| forks.family);
                drop(slot);
                if let Some(family) = family {
                    self.keep_shadow(family);
                }
                match error {
                    // The daemon's own words, or that it had none.
                    seacow_fork::Error::Caller(_) => Err(late.unwrap_or_else(silent)),
                    error => Err(ErrorReport::of(&error)),
                }
            }
        }
    }

    /// For the next fork.
    fn keep_shadow(&mut self, family: Family) {
        self.entry = family.into_shadow().map(|shadow| Box::new(Entry::of_clone(Some(shadow))));
    }

    fn was_forked(&mut self, kept: Kept, snapshot: Option<i32>) {
        let watch = |pid| pidfd_open(pid).ok().map(|pidfd| Watched::new(pidfd, Token::Snapshot));
        let before = self.source.take().and_then(|source| source.snapshot);
        if let Some(before) = before {
            drop(before.release(&self.poll));
        }
        let tidy_at = Some(Instant::now() + TIDY);
        self.source = Some(Box::new(Source { kept, snapshot: snapshot.and_then(watch), tidy_at }));
    }

    /// The running program, and a directory in which all processes of the container are listed.
    fn forkable(&self) -> Result<(i32, Option<std::path::PathBuf>), ErrorReport> {
        match self.state {
            Some(State::Running { .. }) if self.freezing.is_some() => {
                return Err(report(Refused::OutOfOrder("the container is being paused")));
            }
            Some(State::Running { .. }) => {}
            Some(State::Paused { .. }) => return Err(report(Refused::OutOfOrder("the container is paused"))),
            _ => return Err(report(Refused::NotRunning("the container".to_owned()))),
        }
        let Some(Container::Own(own)) = &self.container else {
            let what = "a fork of a container of another runtime is not implemented";
            return Err(ErrorReport::new(ErrorClass::NotImplemented, what));
        };
        let init = self.process(INIT).filter(|init| init.is_alive());
        let init = init.ok_or_else(|| report(Refused::NotRunning("the container".to_owned())))?;
        Ok((init.pid, own.group().cgroups().process_dir()))
    }

    /// The program's streams whose other ends are ours.
    fn stream_objects(&self) -> Result<Vec<(Standard, ObjectId)>, ErrorReport> {
        let io = self.process(INIT).and_then(|init| init.io.as_ref());
        let ends = io.map(Io::ends).unwrap_or_default();
        ends.into_iter()
            .map(|(stream, end)| {
                let object = ObjectId::of(end).map_err(|errno| {
                    report(Refused::Kernel { step: "look at the container's streams", errno })
                })?;
                Ok((stream, object))
            })
            .collect()
    }

    /// Serves one more container, which will be cloned from this one.
    pub(super) fn sibling(&mut self, dir: &std::path::Path, descriptor: Option<OwnedFd>) -> Outcome {
        let connection = stream_socket(descriptor).map_err(report)?;
        let Some(source) = &self.source else {
            return Err(report(Refused::OutOfOrder("a sibling comes after a fork")));
        };
        let dir = Dir::open(dir).map_err(report)?;
        limit::raise();
        self.births.push(Birth { dir, connection, origin: Rc::clone(&source.kept) });
        Ok(Some(Answer::Done))
    }

    /// Makes this container out of its origin's last fork.
    pub(super) fn clone_origin(&mut self, order: &NewClone, network: Option<OwnedFd>) -> Outcome {
        if self.container.is_some() {
            return Err(report(Refused::OutOfOrder("the container is there already")));
        }
        let Some(origin) = self.origin.take() else {
            return Err(report(Refused::OutOfOrder("only a sibling can be a clone")));
        };
        let log = Log::open(&order.create.log).map_err(report)?;
        let kept = origin.borrow();
        let Some(Forks { family, streams }) = &*kept else {
            return Err(report(Refused::NotRunning("the container to be cloned".to_owned())));
        };
        let (container, made) =
            Container::clone_of(order, network.as_ref().map(AsFd::as_fd), family, streams, &self.dir)?;
        // Whatever became of it: its cgroups are this container's to remove.
        self.container = Some(container);
        let (made, ends) = made?;
        let pid = made.pid;
        let mut init = Process::new(INIT, Target::Init, pid, made.pidfd);
        init.io = Some(Io::new(INIT, order.create.stdio, ends, log));
        self.processes.push(init);
        self.state = Some(State::Created { failure: None });
        self.watch_memory();
        Ok(Some(Answer::Held { pid }))
    }

    /// Lets go of all that is kept of forks, so that nothing of them is left in the container.
    pub(super) fn retire(&mut self) -> Outcome {
        let Some(Forks { mut family, .. }) = self.take_forks() else { return Ok(Some(Answer::Done)) };
        let retired = family.retire(RETIRE);
        self.keep_shadow(family);
        match retired {
            Ok(()) | Err(seacow_fork::Error::Gone { .. }) => Ok(Some(Answer::Done)),
            Err(error) => Err(ErrorReport::of(&error)),
        }
    }

    /// The same without the source, which is ending or has ended.
    pub(super) fn forget_forks(&mut self) {
        drop(self.take_forks());
    }

    fn take_forks(&mut self) -> Option<Forks> {
        let source = self.source.take()?;
        if let Some(snapshot) = source.snapshot {
            drop(snapshot.release(&self.poll));
        }
        source.kept.take()
    }

    /// Lets go of the fork before the last one.
    pub(super) fn tidy(&mut self) {
        if let Some(source) = &mut self.source
            && source.tidy_at.take().is_some()
            && let Some(forks) = &mut *source.kept.borrow_mut()
        {
            forks.family.tidy();
        }
    }

    pub(super) fn tidy_when_due(&mut self, now: Instant) {
        if self.source.as_ref().and_then(|source| source.due()).is_some_and(|due| due <= now) {
            self.tidy();
        }
    }

    /// Processes in the container that are ours.
    pub(super) fn kept_pids(&self) -> Vec<i32> {
        let shadow = self.entry.as_ref().and_then(|entry| entry.shadow_pid());
        let Some(source) = &self.source else { return shadow.into_iter().collect() };
        let kept = source.kept.borrow();
        kept.iter().flat_map(|forks| forks.family.kept()).chain(shadow).collect()
    }
}

/// The daemon's part of the pause, no longer than until the deadline.
struct OfDaemon<'a> {
    words: &'a OwnedFd,
    deadline: Instant,
    /// Why not, in the daemon's own words.
    failure: &'a mut Option<ErrorReport>,
}

impl Meanwhile for OfDaemon<'_> {
    fn begin(&mut self) -> Result<(), String> {
        let begun = ask_for_files(self.words);
        begun.map_err(|error| self.failure.insert(error).to_string())
    }

    fn finish(&mut self) -> Result<(), String> {
        let done = await_files(self.words, self.deadline);
        done.map_err(|error| self.failure.insert(error).to_string())
    }
}

fn ask_for_files(words: &OwnedFd) -> Result<(), ErrorReport> {
    let word = encode(&Pause::Forking).map_err(|_| gone())?;
    // A few bytes into an empty socket.
    send(words.as_fd(), &word, &[]).map(drop).map_err(|_| gone())
}

fn await_files(words: &OwnedFd, deadline: Instant) -> Result<(), ErrorReport> {
    let mut decoder = Decoder::default();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(words, PollFlags::IN)];
        match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&left))) {
            Ok(0) => return Err(silent()),
            Ok(_) => {}
            Err(errno) => return Err(report(Refused::Kernel { step: "wait for the daemon", errno })),
        }
        let mut bytes = [0; 512];
        let received = try_receive(words.as_fd(), &mut bytes).map_err(|_| gone())?;
        if received.len == 0 {
            return Err(gone());
        }
        decoder.push(bytes.get(..received.len).unwrap_or_default());
        match decoder.next_message::<Pause>() {
            Ok(None) => {}
            Ok(Some(Pause::Frozen)) => return Ok(()),
            Ok(Some(Pause::Failed(why))) => return Err(why),
            Ok(Some(Pause::Forking)) | Err(_) => return Err(gone()),
        }
    }
}

fn silent() -> ErrorReport {
    ErrorReport::new(ErrorClass::Unavailable, "the container's files were not captured in time; it goes on")
}

fn gone() -> ErrorReport {
    ErrorReport::new(ErrorClass::Unavailable, "the daemon went during the fork; the container goes on")
}
