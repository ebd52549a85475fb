//! Which runtime makes the container: ours, in this process ([`crate::container`]), or another, as
//! a command ([`crate::foreign`]). Both have the same verbs.

use std::os::fd::OwnedFd;

use seacow_runtime::cgroup::OomWatch;
use seacow_spec::oci::runtime::LinuxResources;
use seacow_spec::shim::{Create, Exec, NetworkConfig, Prepare};
use seacow_spec::{ContainerId, ErrorReport};

use crate::container::{Container as Own, Made};
use crate::dir::Dir;
use crate::foreign::Foreign;
use crate::io::Ends;

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

    /// Lets init execute its program.
    pub(crate) fn start(&mut self) -> Result<(), ErrorReport> {
        either!(self, container => container.start())
    }

    /// Runs one more process; returns our ends of its streams, if it has any.
    pub(crate) fn exec(&mut self, exec: &Exec) -> Result<(Made, Option<Ends>), ErrorReport> {
        either!(self, container => container.exec(exec))
    }

    /// Sends init a signal, where that is the runtime's business; `None` where it is not.
    pub(crate) fn signal(&self, signal: i32) -> Option<Result<(), ErrorReport>> {
        match self {
            Self::Own(_) => None,
            Self::Foreign(foreign) => Some(foreign.signal(signal)),
        }
    }

    /// Init ended.
    pub(crate) fn init_ended(&mut self) {
        either!(self, container => container.init_ended());
    }

    /// Sends a signal to every process, once.
    pub(crate) fn signal_all(&mut self, signal: i32) -> Result<(), ErrorReport> {
        either!(self, container => container.signal_all(signal))
    }

    /// Stops every process until [`Self::thaw`].
    pub(crate) fn freeze(&mut self) -> Result<(), ErrorReport> {
        either!(self, container => container.freeze())
    }

    /// Lets them go on.
    pub(crate) fn thaw(&mut self) -> Result<(), ErrorReport> {
        either!(self, container => container.thaw())
    }

    /// Lets processes that were killed while frozen go on to their end.
    pub(crate) fn thaw_killed(&mut self) -> Result<(), ErrorReport> {
        match self {
            Self::Own(own) => own.thaw(),
            Self::Foreign(foreign) => {
                foreign.thaw_killed();
                Ok(())
            }
        }
    }

    /// Changes limits.
    pub(crate) fn update(&mut self, resources: &LinuxResources) -> Result<(), ErrorReport> {
        either!(self, container => container.update(resources))
    }

    /// Host pids of every process.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, ErrorReport> {
        either!(self, container => container.pids())
    }

    /// Kills every process, without waiting.
    pub(crate) fn kill(&mut self) {
        either!(self, container => container.kill());
    }

    /// Removes what is left. All children of ours must have been reaped: nobody else can.
    pub(crate) fn remove(&mut self) -> Result<(), ErrorReport> {
        either!(self, container => container.remove())
    }

    /// Being told of the OOM killer; `None` where that is not to be had.
    pub(crate) fn watch_memory(&self) -> Option<OomWatch> {
        either!(self, container => container.watch_memory())
    }

    /// How often it struck.
    pub(crate) fn oom_kills(&self) -> u64 {
        either!(self, container => container.oom_kills())
    }
}
