//! One container of our own runtime, from its first process to its last cgroup.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use seacow_fork::{Family, Held, Mount, Spec, Watch};
use seacow_runtime::exec;
use seacow_runtime::init::{Created, Prepared, Running, Streams};
use seacow_runtime::seccomp::notify::Agent;
use seacow_runtime::surroundings::{Placed, Surroundings};
use seacow_spec::oci::state::{State, Status};
use seacow_spec::shim::{
    CleanupRecord, Create, Exec, FORKABLE, NetworkConfig, NewClone, Prepare, Program, Stdio,
};
use seacow_spec::{Classified, ContainerId, ErrorClass, ErrorReport};
use seacow_sys::process;

use crate::cleanup::start_time;
use crate::dir::Dir;
use crate::group::Group;
use crate::io::{Ends, Standard};
use crate::serve::entry::{self, Entry, Moved};

const SIGKILL: i32 = 9;

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
    #[error("a clone with a terminal is not implemented")]
    TerminalOfClone,
}

impl Classified for Failed {
    fn class(&self) -> ErrorClass {
        match self {
            Self::OutOfOrder(_) => ErrorClass::Conflict,
            Self::TerminalOfClone => ErrorClass::NotImplemented,
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

/// What became of a clone: the process and our ends of its streams.
pub(crate) type MadeClone = Result<(Made, Ends), ErrorReport>;

/// How far init is. Dropping one that does not run yet kills and reaps it.
enum Life {
    Prepared(Prepared),
    Created(Created),
    Running(Running),
    /// A clone that stands still.
    Held(Held),
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
    /// Whether its program gets a shadow.
    forkable: bool,
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
            forkable: false,
            record: Some(record),
        };
        Ok((container, made))
    }

    /// Makes a clone from another container's last fork, which stands still until it is started. What a
    /// cleanup would need is written before anything exists that it would have to remove.
    pub(crate) fn clone_of(
        order: &NewClone,
        network: Option<BorrowedFd<'_>>,
        family: &Family,
        streams: &[Standard],
        dir: &Dir,
    ) -> Result<(Self, MadeClone), ErrorReport> {
        let prepare = &order.prepare;
        let record = CleanupRecord {
            id: prepare.id.clone(),
            cgroups_path: prepare.cgroups_path.clone(),
            init: None,
            runtime: None,
        };
        dir.write_cleanup(&record).map_err(report)?;
        let mut container = Self {
            id: prepare.id.clone(),
            state: order.create.state.clone(),
            life: Life::Failed,
            group: Group::new(prepare)?,
            forkable: false,
            record: None,
        };
        let made = container.hold(order, network, family, streams, dir, record);
        Ok((container, made))
    }

    fn hold(
        &mut self,
        order: &NewClone,
        network: Option<BorrowedFd<'_>>,
        family: &Family,
        streams: &[Standard],
        dir: &Dir,
        mut record: CleanupRecord,
    ) -> MadeClone {
        let (theirs, ours) = self::streams(order.create.stdio)?;
        let ours = ours.ok_or_else(|| report(Failed::TerminalOfClone))?;
        let cgroups = self.group.cgroups();
        let with_shadow = is_forkable(&order.create) && family.shadow().is_some();
        let born_in = Surroundings::birthplace(cgroups, &order.prepare).map_err(|error| error.report())?;
        let born_in = born_in.as_ref().map(AsFd::as_fd);
        let begun = family.begin_clone(born_in, with_shadow).map_err(|error| ErrorReport::of(&error))?;
        // Beside the copying of the memory.
        let around = Surroundings::new(cgroups, &order.prepare, &order.create);
        let around = around.map_err(|error| error.report())?;
        let shadow = match with_shadow {
            true => cgroups.for_shadow().map_err(|error| ErrorReport::of(&error))?,
            false => None,
        };
        let mut spec = spec_of(order, &around, network, &theirs, streams)?;
        spec.cgroup = born_in;
        spec.shadow = shadow.as_ref().map(entry::charge);
        let held = begun.finish(&spec).map_err(|error| ErrorReport::of(&error))?;
        let made = made(held.pid(), held.pidfd())?;
        record.init = start_time(made.pid).map(|started| (made.pid, started));
        dir.amend_cleanup(&record).map_err(report)?;
        self.life = Life::Held(held);
        Ok((made, ours))
    }

    /// Ends a clone that was not let go yet, and takes note of its end, which only its tracer can.
    pub(crate) fn end_held(&mut self) -> bool {
        let held = matches!(self.life, Life::Held(_));
        if held {
            self.life = Life::Failed;
        }
        held
    }

    /// Whether it is a clone that stands still.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.life, Life::Held(_))
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
            Life::Created(_) | Life::Running(_) | Life::Held(_) | Life::Failed => {
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
            other @ (Life::Created(_) | Life::Running(_) | Life::Held(_) | Life::Failed) => {
                self.life = other;
                return Err(report(Failed::OutOfOrder("create comes once, after a successful prepare")));
            }
        };
        let (theirs, ours) = streams(create.stdio)?;
        self.state.clone_from(&create.state);
        self.forkable = is_forkable(create);
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
            Life::Prepared(_) | Life::Running(_) | Life::Held(_) | Life::Failed => {
                Err(report(Failed::OutOfOrder("another program comes between create and start")))
            }
        }
    }

    /// Lets init execute its program, or a clone go on. Of a forkable container: with what follows it, and
    /// who is init then.
    pub(crate) fn start(&mut self, dir: &Dir) -> Result<Option<(Entry, Option<Moved>)>, ErrorReport> {
        match std::mem::replace(&mut self.life, Life::Failed) {
            // Without the right to trace it starts all the same.
            Life::Created(created)
                if self.forkable
                    && let Ok(watch) = Watch::begin(created.pid()) =>
            {
                let (running, entry, moved) = self.start_watched(created, watch, dir)?;
                self.life = Life::Running(running);
                Ok(Some((entry, moved)))
            }
            Life::Created(created) => {
                self.life = Life::Running(created.start().map_err(|error| error.report())?);
                Ok(None)
            }
            Life::Held(mut held) => {
                let shadow = held.take_shadow();
                let clone = held.release().map_err(|error| ErrorReport::of(&error))?;
                let cgroups = self.group.cgroups().clone();
                let running = Running::of_clone(clone.pid, clone.pidfd, cgroups);
                self.life = Life::Running(running.map_err(|error| error.report())?);
                Ok(shadow.map(|shadow| (Entry::of_clone(Some(shadow)), None)))
            }
            other @ (Life::Prepared(_) | Life::Running(_) | Life::Failed) => {
                self.life = other;
                Err(report(Failed::OutOfOrder("start comes once, after a successful create")))
            }
        }
    }

    fn start_watched(
        &self,
        created: Created,
        mut watch: Watch,
        dir: &Dir,
    ) -> Result<(Running, Entry, Option<Moved>), ErrorReport> {
        // What stops it on the way is passed on; what else there is to see comes afterwards.
        let started = created.start_traced(|| drop(watch.look()));
        let mut running = started.map_err(|error| error.report())?;
        let (entry, moved) = Entry::of_watched(watch, self.group.cgroups());
        if let Some(moved) = &moved {
            let second = fcntl_dupfd_cloexec(&moved.pidfd, 3).map_err(kernel("duplicate a pidfd"));
            // Without a handle it could not be entered: that is no start.
            (running.pid, running.pidfd) = (moved.pid, second.inspect_err(|_| end(moved))?);
            // A cleanup that looks for the old one finds nobody, and this one dies with us.
            let _ = record_init(moved.pid, dir);
        }
        Ok((running, entry, moved))
    }

    /// Another process is init.
    pub(crate) fn moved(&mut self, pid: i32, pidfd: &OwnedFd, dir: &Dir) -> Result<(), ErrorReport> {
        if let Life::Running(running) = &mut self.life {
            running.pid = pid;
            running.pidfd = fcntl_dupfd_cloexec(pidfd, 3).map_err(kernel("duplicate a pidfd"))?;
        }
        record_init(pid, dir)
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

fn end(moved: &Moved) {
    // Either may find it dead already.
    let _ = process::pidfd_signal(moved.pidfd.as_fd(), SIGKILL);
    let _ = process::wait(moved.pidfd.as_fd());
}

/// Has a cleanup know of another init.
fn record_init(pid: i32, dir: &Dir) -> Result<(), ErrorReport> {
    if let Some(mut record) = dir.read_cleanup().map_err(report)? {
        record.init = start_time(pid).map(|started| (pid, started));
        dir.write_cleanup(&record).map_err(report)?;
    }
    Ok(())
}

/// Whether a shadow is asked for, and nothing of what it could not carry over.
fn is_forkable(create: &Create) -> bool {
    let asked = create.spec.annotations.get(FORKABLE).is_some_and(|value| value == "true");
    let process = create.spec.process.as_ref();
    let own_way = process.is_some_and(|process| process.scheduler.is_some() || process.io_priority.is_some());
    let policy = create.spec.linux.as_ref().is_some_and(|linux| linux.memory_policy.is_some());
    asked && !create.stdio.terminal && !own_way && !policy
}

/// What the library is told about a clone.
fn spec_of<'a>(
    order: &NewClone,
    around: &'a Surroundings,
    network: Option<BorrowedFd<'a>>,
    theirs: &'a Streams,
    streams: &[Standard],
) -> Result<Spec<'a>, ErrorReport> {
    let Streams::Files { stdin, stdout, stderr } = theirs else {
        return Err(report(Failed::TerminalOfClone));
    };
    let end = |which: &Standard| match which {
        Standard::Input => stdin.as_fd(),
        Standard::Output => stdout.as_fd(),
        Standard::Error => stderr.as_fd(),
    };
    let text = |text: &str| {
        CString::new(text)
            .map_err(|_| ErrorReport::new(ErrorClass::InvalidArgument, format!("a NUL in {text:?}")))
    };
    let mount = |placed: &'a Placed| -> Result<Mount<'a>, ErrorReport> {
        Ok(match placed {
            Placed::Root(tree) => Mount::Root(tree.as_fd()),
            Placed::Tree { tree, target } => Mount::Attach { tree: tree.as_fd(), target: text(target)? },
            Placed::New { kind, target, flags, options } => Mount::New {
                kind: text(kind)?,
                target: text(target)?,
                flags: *flags,
                options: text(options)?,
            },
            Placed::Bind { source, target, flags } => {
                let (source, target) = (text(source)?, text(target)?);
                Mount::Bind { source, target, flags: *flags, optional: true }
            }
        })
    };
    let written = |(file, words): &(String, String)| Ok((text(file)?, words.clone()));
    let all_written =
        |files: &[(String, String)]| files.iter().map(written).collect::<Result<_, ErrorReport>>();
    Ok(Spec {
        mounts: around.mounts.iter().map(mount).collect::<Result<_, _>>()?,
        network,
        cgroup: None,
        join: around.tasks.iter().map(AsFd::as_fd).collect(),
        streams: streams.iter().map(end).collect(),
        host_name: order.create.spec.hostname.clone(),
        domain_name: order.create.spec.domainname.clone(),
        settings: all_written(&around.settings)?,
        labels: all_written(&around.labels)?,
        addresses: order.addresses.clone(),
        shadow: None,
    })
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
