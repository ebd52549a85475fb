//! Which runtime makes the container: ours, in this process ([`crate::container`]), or another, as
//! a command ([`crate::foreign`]). Both have the same verbs.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use seacow_fork::Family;
use seacow_spec::oci::runtime::LinuxResources;
use seacow_spec::shim::{Create, Exec, NetworkConfig, NewClone, Prepare, Program};
use seacow_spec::{ContainerId, ErrorReport};
use seacow_sys::process::Ended;

use crate::container::{Container as Own, Made, MadeClone};
use crate::dir::Dir;
use crate::foreign::{Call, Foreign};
use crate::group::Group;
use crate::io::{Ends, Standard};
use crate::serve::entry::{Entry, Moved};

/// A container.
pub(crate) enum Container {
    Own(Own),
    Foreign(Box<Foreign>),
}

/// What there is after `prepare`.
pub(crate) struct Begun {
    /// A process in the container's network namespace.
    pub(crate) pid: i32,
    /// That process, when it is init.
    pub(crate) init: Option<OwnedFd>,
}

/// Does the same to either kind.
macro_rules! either {
    ($self:expr, $container:ident => $what:expr) => {
        match $self {
            Self::Own($container) => $what,
            Self::Foreign($container) => $what,
        }
    };
}

impl Container {
    /// Makes init with our own runtime, and with another what precedes it.
    pub(crate) fn prepare(prepare: &Prepare, dir: &Dir) -> Result<(Self, Begun), ErrorReport> {
        match &prepare.runtime {
            None => {
                let (own, made) = Own::prepare(prepare, dir)?;
                Ok((Self::Own(own), Begun { pid: made.pid, init: Some(made.pidfd) }))
            }
            Some(by) => {
                let foreign = Foreign::prepare(prepare, by, dir)?;
                let begun = Begun { pid: foreign.pid(), init: None };
                Ok((Self::Foreign(Box::new(foreign)), begun))
            }
        }
    }

    /// Makes it as a clone from the last fork of another container. It is there, with whatever it has of
    /// cgroups, also where the clone could not be made.
    pub(crate) fn clone_of(
        order: &NewClone,
        network: Option<BorrowedFd<'_>>,
        family: &Family,
        streams: &[Standard],
        dir: &Dir,
    ) -> Result<(Self, MadeClone), ErrorReport> {
        let (own, made) = Own::clone_of(order, network, family, streams, dir)?;
        Ok((Self::Own(own), made))
    }

    /// Ends a clone that was not let go yet; tells whether there was one. Nothing is left to be waited for.
    pub(crate) fn end_held(&mut self) -> bool {
        match self {
            Self::Own(own) => own.end_held(),
            Self::Foreign(_) => false,
        }
    }

    /// Whether it is a clone that stands still.
    pub(crate) fn is_held(&self) -> bool {
        match self {
            Self::Own(own) => own.is_held(),
            Self::Foreign(_) => false,
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &ContainerId {
        either!(self, container => container.id())
    }

    /// Whether processes of it may become our children unasked.
    pub(crate) fn has_orphans(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }

    /// Whatever of the preparation the daemon need not wait for.
    pub(crate) fn settle(&mut self, dir: &Dir) -> Result<(), ErrorReport> {
        match self {
            Self::Own(own) => own.settle(dir),
            Self::Foreign(_) => Ok(()),
        }
    }

    /// Raises the container's link.
    pub(crate) fn connect(&mut self, link: &NetworkConfig, dir: &Dir) -> Result<(), ErrorReport> {
        match self {
            Self::Own(own) => own.connect(link, dir),
            Self::Foreign(foreign) => foreign.connect(link),
        }
    }

    /// Gives init its root file system and streams; returns the shim's ends of them, and init if it
    /// was made now.
    pub(crate) fn create(&mut self, create: &Create, dir: &Dir) -> Result<(Ends, Option<Made>), ErrorReport> {
        match self {
            Self::Own(own) => Ok((own.create(create, dir)?, None)),
            Self::Foreign(foreign) => foreign.create(create, dir).map(|(ends, made)| (ends, Some(made))),
        }
    }

    /// Gives init another program than it was created with.
    pub(crate) fn recast(&self, program: &Program) -> Result<(), ErrorReport> {
        match self {
            Self::Own(own) => own.recast(program),
            Self::Foreign(_) => Err(Foreign::keeps_its_program()),
        }
    }

    /// Lets init execute its program. Of a forkable container: with what follows it, and who is init then.
    pub(crate) fn start(&mut self, dir: &Dir) -> Result<Option<(Entry, Option<Moved>)>, ErrorReport> {
        match self {
            Self::Own(own) => own.start(dir),
            Self::Foreign(foreign) => foreign.start().map(|()| None),
        }
    }

    /// Another process is init.
    pub(crate) fn moved(&mut self, pid: i32, pidfd: &OwnedFd, dir: &Dir) -> Result<(), ErrorReport> {
        match self {
            Self::Own(own) => own.moved(pid, pidfd, dir),
            Self::Foreign(_) => Ok(()),
        }
    }

    /// Runs one more process; returns our ends of its streams, if it has any.
    pub(crate) fn exec(&mut self, exec: &Exec) -> Result<(Made, Option<Ends>), ErrorReport> {
        either!(self, container => container.exec(exec))
    }

    /// Begins to send init a signal, where that is the runtime's business; `None` where it is not.
    pub(crate) fn signal(&self, signal: i32) -> Option<Result<Call, ErrorReport>> {
        match self {
            Self::Own(_) => None,
            Self::Foreign(foreign) => Some(foreign.signal(signal)),
        }
    }

    /// Goes on with stopping every process until [`Self::thaw`]; tells whether all have stopped.
    pub(crate) fn try_freeze(&mut self) -> Result<bool, ErrorReport> {
        match self {
            Self::Own(own) => own.group().try_freeze(),
            Self::Foreign(foreign) => foreign.try_freeze(),
        }
    }

    /// Lets those go on that have stopped so far.
    pub(crate) fn take_back_freeze(&mut self) {
        match self {
            // What cannot be thawed is gone.
            Self::Own(own) => drop(own.group().thaw()),
            Self::Foreign(foreign) => foreign.take_back_freeze(),
        }
    }

    /// Lets all go on; gives the call that does, where one is needed.
    pub(crate) fn thaw(&mut self) -> Result<Option<Call>, ErrorReport> {
        match self {
            Self::Own(own) => own.group().thaw().map(|()| None),
            Self::Foreign(foreign) => foreign.thaw().map(Some),
        }
    }

    /// How a call has ended, if it has, or its time is up.
    pub(crate) fn outcome(&self, call: &mut Call, now: Instant) -> Option<Result<(), ErrorReport>> {
        match self {
            // It makes none.
            Self::Own(_) => Some(Ok(())),
            Self::Foreign(foreign) => foreign.outcome(call, now),
        }
    }

    /// Lets processes that were killed while frozen go on to their end.
    pub(crate) fn thaw_killed(&self) -> Result<(), ErrorReport> {
        match self {
            Self::Own(own) => own.group().thaw(),
            Self::Foreign(foreign) => {
                foreign.thaw_killed();
                Ok(())
            }
        }
    }

    /// A child was reaped that is no process of the container's as far as we know; tells whether it
    /// was a command that is waited for.
    pub(crate) fn command_ended(&mut self, pid: i32, ended: Ended) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Foreign(foreign) => foreign.command_ended(pid, ended),
        }
    }

    /// Changes limits; gives the call that does, where one is needed.
    pub(crate) fn update(&mut self, resources: &LinuxResources) -> Result<Option<Call>, ErrorReport> {
        match self {
            Self::Own(own) => own.group().update(resources).map(|()| None),
            Self::Foreign(foreign) => foreign.update(resources).map(Some),
        }
    }

    /// All its processes, whoever made them.
    pub(crate) fn group(&self) -> &Group {
        either!(self, container => container.group())
    }

    /// Goes on with removing what is left. All children of ours must have been reaped: nobody else can.
    pub(crate) fn remove(&mut self, now: Instant) -> Removal {
        match self {
            Self::Own(own) => Removal::Over(own.group().remove()),
            Self::Foreign(foreign) => foreign.remove(now),
        }
    }
}

/// How far a removal is.
pub(crate) enum Removal {
    /// Another runtime's command runs, until then at most.
    UnderWay {
        until: Instant,
    },
    Over(Result<(), ErrorReport>),
}
