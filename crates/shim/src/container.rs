//! One container of our own runtime, from its first process to its last cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use seacow_runtime::exec;
use seacow_runtime::init::{Created, Prepared, Running, Streams};
use seacow_runtime::seccomp::notify::Agent;
use seacow_spec::oci::state::{State, Status};
use seacow_spec::shim::{CleanupRecord, Create, Exec, NetworkConfig, Prepare, Program, Stdio};
use seacow_spec::{Classified, ContainerId, ErrorClass, ErrorReport};

use crate::cleanup::start_time;
use crate::dir::Dir;
use crate::group::Group;
use crate::io::Ends;

/// A step of the shim itself that failed, around the runtime's.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{step}: {errno}")]
    Kernel { step: &'static str, errno: Errno },
    #[error(transparent)]
    Dir(#[from] crate::dir::DirError),
    #[error("{0}")]
    OutOfOrder(&'static str),
    #[error("init made no terminal")]
    NoTerminal,
}

impl Classified for Failed {
    fn class(&self) -> ErrorClass {
        match self {
            Self::OutOfOrder(_) => ErrorClass::Conflict,
            Self::Kernel { .. } | Self::Dir(_) | Self::NoTerminal => ErrorClass::Internal,
        }
    }
}

fn report(error: impl Into<Failed>) -> ErrorReport {
    ErrorReport::of(&error.into())
}

pub(crate) fn kernel(step: &'static str) -> impl FnOnce(Errno) -> ErrorReport {
    move |errno| report(Failed::Kernel { step, errno })
}

/// A process that was made.
pub(crate) struct Made {
    /// As the host sees it.
    pub(crate) pid: i32,
    /// Readable when it has ended.
    pub(crate) pidfd: OwnedFd,
}

/// How far init is. Dropping one that does not run yet kills and reaps it.
enum Life {
    Prepared(Prepared),
    Created(Created),
    Running(Running),
    /// It failed on the way; why was told to whoever asked for the step.
    Failed,
}

/// A container.
pub(crate) struct Container {
    id: ContainerId,
    /// What agents of system call filters are told; from create on.
    state: State,
    life: Life,
    group: Group,
    /// What a cleanup needs, until it was written whole.
    record: Option<CleanupRecord>,
}

impl Container {
    /// Makes init. What a cleanup would need is written before anything exists that it would have
    /// to remove.
    pub(crate) fn prepare(prepare: &Prepare, dir: &Dir) -> Result<(Self, Made), ErrorReport> {
        let group = Group::new(prepare)?;
        let mut record = CleanupRecord {
            id: prepare.id.clone(),
            cgroups_path: prepare.cgroups_path.clone(),
            init: None,
            runtime: None,
        };
        dir.write_cleanup(&record).map_err(report)?;
        let prepared = Prepared::new(prepare, &dir.stage()).map_err(|error| error.report())?;
        let made = made(prepared.pid(), prepared.pidfd())?;
        record.init = start_time(made.pid).map(|started| (made.pid, started));
        dir.write_cleanup(&record).map_err(report)?;
        let container = Self {
            id: prepare.id.clone(),
            state: State::default(),
            life: Life::Prepared(prepared),
            group,
            record: Some(record),
        };
        Ok((container, made))
    }

    /// Its id.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// All its processes.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Lets init join its cgroups and completes the record for a cleanup: beside the daemon's work
    /// on the network. [`Self::create`] does it, and tells of a failure, if it was not done before.
    pub(crate) fn settle(&mut self, dir: &Dir) -> Result<(), ErrorReport> {
        let Life::Prepared(prepared) = &mut self.life else { return Ok(()) };
        prepared.settle().map_err(|error| error.report())?;
        if let Some(record) = &mut self.record {
            let pid = prepared.pid();
            record.init = start_time(pid).map(|started| (pid, started));
            dir.write_cleanup(record).map_err(report)?;
            self.record = None;
        }
        Ok(())
    }

    /// Has init raise its link.
    pub(crate) fn connect(&mut self, link: &NetworkConfig, dir: &Dir) -> Result<(), ErrorReport> {
        self.settle(dir)?;
        let connected = match &mut self.life {
            Life::Prepared(prepared) => prepared.connect(link).map_err(|error| error.report()),
            Life::Created(_) | Life::Running(_) | Life::Failed => {
                return Err(report(Failed::OutOfOrder("connect comes after a successful prepare")));
            }
        };
        if connected.is_err() {
            self.life = Life::Failed;
        }
        connected
    }

    /// Gives init its root file system and streams; returns the shim's ends of them.
    pub(crate) fn create(&mut self, create: &Create, dir: &Dir) -> Result<Ends, ErrorReport> {
        self.settle(dir)?;
        let prepared = match std::mem::replace(&mut self.life, Life::Failed) {
            Life::Prepared(prepared) => prepared,
            other @ (Life::Created(_) | Life::Running(_) | Life::Failed) => {
                self.life = other;
                return Err(report(Failed::OutOfOrder("create comes once, after a successful prepare")));
            }
        };
        let (theirs, ours) = streams(create.stdio)?;
        self.state.clone_from(&create.state);
        let mut created = prepared.configure(create, theirs).map_err(|error| error.report())?;
        let ends = match ours {
            Some(ends) => ends,
            None => Ends::Terminal(created.take_terminal().ok_or_else(|| report(Failed::NoTerminal))?),
        };
        self.life = Life::Created(created);
        Ok(ends)
    }

    /// Gives init another program than it was created with.
    pub(crate) fn recast(&self, program: &Program) -> Result<(), ErrorReport> {
        match &self.life {
            Life::Created(created) => created.recast(program).map_err(|error| error.report()),
            Life::Prepared(_) | Life::Running(_) | Life::Failed => {
                Err(report(Failed::OutOfOrder("another program comes between create and start")))
            }
        }
    }

    /// Lets init execute its program.
    pub(crate) fn start(&mut self) -> Result<(), ErrorReport> {
        match std::mem::replace(&mut self.life, Life::Failed) {
            Life::Created(created) => {
                self.life = Life::Running(created.start().map_err(|error| error.report())?);
                Ok(())
            }
            other @ (Life::Prepared(_) | Life::Running(_) | Life::Failed) => {
                self.life = other;
                Err(report(Failed::OutOfOrder("start comes once, after a successful create")))
            }
        }
    }

    /// Runs one more process; returns our ends of its streams, if it has any.
    pub(crate) fn exec(&mut self, exec: &Exec) -> Result<(Made, Option<Ends>), ErrorReport> {
        let Life::Running(running) = &self.life else {
            return Err(report(Failed::OutOfOrder("exec comes after a successful start")));
        };
        let container = exec::Container {
            pid: running.pid,
            pidfd: running.pidfd.as_fd(),
            cgroups: self.group.cgroups(),
            rare_namespaces: running.rare_namespaces,
        };
        let (theirs, ours) = streams_of_exec(exec)?;
        let agent = Agent::of(&exec.seccomp, || State {
            pid: running.pid,
            status: Status::Running,
            ..self.state.clone()
        });
        let options = exec::Options { agent: agent.as_ref(), ..exec::Options::default() };
        let started = exec::start_with(container, exec, theirs, options).map_err(|error| error.report())?;
        let made = Made { pid: started.pid, pidfd: started.pidfd };
        Ok((made, ours.or(started.terminal.map(Ends::Terminal))))
    }
}

pub(crate) fn made(pid: i32, pidfd: BorrowedFd<'_>) -> Result<Made, ErrorReport> {
    let pidfd = fcntl_dupfd_cloexec(pidfd, 3).map_err(kernel("duplicate a pidfd"))?;
    Ok(Made { pid, pidfd })
}

/// Pipes for a process, its ends and ours; a terminal is made by the process itself.
pub(crate) fn streams(stdio: Stdio) -> Result<(Streams, Option<Ends>), ErrorReport> {
    if stdio.terminal {
        return Ok((Streams::Terminal, None));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(kernel("make a pipe"));
    let (stdin, our_stdin) = if stdio.open_stdin {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        (null(OFlags::RDONLY)?, None)
    };
    let ((our_stdout, stdout), (our_stderr, stderr)) = (pipe()?, pipe()?);
    let ends = Ends::Pipes { stdin: our_stdin, stdout: Some(our_stdout), stderr: Some(our_stderr) };
    Ok((Streams::Files { stdin, stdout, stderr }, Some(ends)))
}

/// Streams of one more process.
pub(crate) fn streams_of_exec(exec: &Exec) -> Result<(Streams, Option<Ends>), ErrorReport> {
    match (&exec.attach, exec.stdio.terminal) {
        // Detached, and no terminal to be looked at: its output goes nowhere.
        (None, false) => Ok((nowhere()?, None)),
        (Some(_), _) | (None, true) => streams(exec.stdio),
    }
}

fn nowhere() -> Result<Streams, ErrorReport> {
    Ok(Streams::Files {
        stdin: null(OFlags::RDONLY)?,
        stdout: null(OFlags::WRONLY)?,
        stderr: null(OFlags::WRONLY)?,
    })
}

fn null(flags: OFlags) -> Result<OwnedFd, ErrorReport> {
    rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty()).map_err(kernel("open /dev/null"))
}
