//! A container that another OCI runtime makes: crun, runc, youki, our own as a command, …
//!
//! ```text
//! prepare  mount and network namespaces of the shim's own; no process yet
//! connect  the link in there
//! create   root file system, bundle ─▶ RUNTIME create ─▶ init, a child of ours
//! start    RUNTIME start
//! exec     RUNTIME exec --detach ─▶ a child of ours
//! delete   RUNTIME delete --force, namespaces left, files removed
//! ```
//! The runtime inherits the shim's mount namespace, in which the root file system is mounted; the
//! network namespace is named to it by path. What it makes outlives the command that made it and
//! becomes the shim's child, because the shim is a subreaper; from there on streams, ends and
//! statuses are the same as with our own runtime. Only init of a killed shim is not killed by the
//! kernel: `--cleanup` does that.

mod command;
mod console;
mod files;

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use seacow_runtime::bundle::{self, Ids, Mounts, Network, Ready};
use seacow_runtime::{Error, Streams};
use seacow_spec::oci::runtime::{LinuxNamespace, LinuxResources, NamespaceKind, Process};
use seacow_spec::shim::{CleanupRecord, Create, Exec, NetworkConfig, Prepare, RuntimeCommand, Stdio};
use seacow_spec::{Classified, ContainerId, ErrorClass, ErrorReport};
use seacow_sys::process::{Ended, become_subreaper, pidfd_open, pidfd_signal, wait};

pub(crate) use self::command::Call;
use self::command::Runtime;
use self::console::Console;
use self::files::{FileError, Files};
use crate::cleanup::start_time;
use crate::container::{Made, kernel, streams, streams_of_exec};
use crate::dir::{Dir, DirError};
use crate::group::Group;
use crate::io::Ends;
use crate::runtime::Removal;

const SIGKILL: i32 = 9;

/// A step of the shim itself that failed, around the runtime's.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    OutOfOrder(&'static str),
}

impl Classified for Failed {
    fn class(&self) -> ErrorClass {
        match self {
            Self::OutOfOrder(_) => ErrorClass::Conflict,
            Self::Dir(_) | Self::File(_) => ErrorClass::Internal,
        }
    }
}

fn report(error: impl Into<Failed>) -> ErrorReport {
    ErrorReport::of(&error.into())
}

fn of_runtime(error: Error) -> ErrorReport {
    error.report()
}

/// The container's first process.
struct Init {
    pid: i32,
    pidfd: OwnedFd,
}

/// How far it is.
enum Life {
    Prepared,
    Created(Init),
    Running(Init),
    /// It failed on the way; why was told to whoever asked for the step.
    Failed,
}

/// A container of another runtime.
pub(crate) struct Foreign {
    prepare: Prepare,
    runtime: Runtime,
    life: Life,
    /// Until it was removed.
    mounts: Option<Mounts>,
    network: Option<Network>,
    /// Its user namespace, where it gets one of its own.
    ids: Option<Ids>,
    group: Group,
    /// The runtime's `pause`, while it runs.
    pausing: Option<Call>,
    /// The runtime's `delete`, while it runs.
    deleting: Option<Call>,
    record: CleanupRecord,
    execs: u32,
}

impl Foreign {
    /// Makes what exists before a process does. What a cleanup would need is written first.
    pub(crate) fn prepare(prepare: &Prepare, by: &RuntimeCommand, dir: &Dir) -> Result<Self, ErrorReport> {
        let group = Group::new(prepare)?;
        let mut by = by.clone();
        if group.cgroups().by_systemd() {
            // Of the path alone they would make a directory of that name.
            by.args.push("--systemd-cgroup".into());
        }
        let record = CleanupRecord {
            id: prepare.id.clone(),
            cgroups_path: prepare.cgroups_path.clone(),
            init: None,
            runtime: Some(by.clone()),
        };
        dir.write_cleanup(&record).map_err(report)?;
        let files = Files::new(dir.foreign());
        files.make().map_err(report)?;
        become_subreaper().map_err(kernel("become the parent of orphans"))?;
        let mounts = Mounts::enter(&dir.stage()).map_err(of_runtime)?;
        let ids = Ids::of(prepare).map_err(of_runtime)?;
        let new =
            |kind| prepare.namespaces.iter().any(|ns: &LinuxNamespace| ns.kind == kind && ns.path.is_empty());
        let network = if new(NamespaceKind::Network) { Some(Network::enter(ids.as_ref())) } else { None };
        Ok(Self {
            runtime: Runtime::new(by, files),
            life: Life::Prepared,
            mounts: Some(mounts),
            network: network.transpose().map_err(of_runtime)?,
            ids,
            group,
            pausing: None,
            deleting: None,
            record,
            execs: 0,
            prepare: prepare.clone(),
        })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.prepare.id
    }

    /// All its processes.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// A process in the container's network namespace, for the engine: the shim, until create.
    pub(crate) fn pid(&self) -> i32 {
        seacow_sys::process::own_pid()
    }

    /// Raises the link that the engine has put into the network namespace.
    pub(crate) fn connect(&mut self, link: &NetworkConfig) -> Result<(), ErrorReport> {
        match (&self.life, &mut self.network) {
            (Life::Prepared, Some(network)) => network.connect(link).map_err(of_runtime),
            _ => Err(report(Failed::OutOfOrder("connect comes after prepare, with a network of its own"))),
        }
    }

    /// The refusal of another program than the bundle's: the runtime has read it.
    pub(crate) fn keeps_its_program() -> ErrorReport {
        report(Failed::OutOfOrder("a container of another runtime keeps the program it was created with"))
    }

    /// Writes the bundle and lets the runtime make the container; returns init and the shim's ends
    /// of its streams.
    pub(crate) fn create(&mut self, create: &Create, dir: &Dir) -> Result<(Ends, Made), ErrorReport> {
        if !matches!(self.life, Life::Prepared) {
            return Err(report(Failed::OutOfOrder("create comes once, after a successful prepare")));
        }
        self.life = Life::Failed;
        self.write_bundle(create)?;
        let bundle = self.runtime.files().bundle();
        let (pid, ends) =
            self.make("create", &[OsStr::new("--bundle"), bundle.as_os_str()], create.stdio, || {
                streams(create.stdio)
            })?;
        // Not reaped, so the pid is still its own.
        let init = Init { pid, pidfd: pidfd_open(pid).map_err(kernel("open init"))? };
        self.record.init = start_time(pid).map(|started| (pid, started));
        let written = dir.write_cleanup(&self.record).map_err(report);
        let made = init.made();
        self.life = Life::Created(init);
        written?;
        Ok((ends.ok_or_else(no_terminal)?, made?))
    }

    fn write_bundle(&mut self, create: &Create) -> Result<(), ErrorReport> {
        let Some(mounts) = &self.mounts else {
            return Err(report(Failed::OutOfOrder("the container was removed")));
        };
        if let Some(network) = &mut self.network {
            network.leave().map_err(of_runtime)?;
        }
        let root = mounts.root(create, self.ids.as_ref()).map_err(of_runtime)?;
        let nothing = Process::default();
        let base = create.spec.process.as_ref().unwrap_or(&nothing);
        let process = bundle::process(&root, base, &create.user, &create.extra_groups, create.stdio);
        let ready = Ready {
            root: mounts.root_path(),
            mounts: mounts.sources(&create.spec.mounts, self.ids.as_ref()).map_err(of_runtime)?,
            process: process.map_err(of_runtime)?,
            network: self.network.as_ref().map(Network::path),
            user: self.ids.as_ref().map(Ids::for_runtime),
        };
        let spec = bundle::spec(&self.prepare, create, ready).map_err(of_runtime)?;
        self.runtime.files().write("bundle/config.json", &spec).map_err(report)?;
        Ok(())
    }

    /// Runs a verb that makes a process; returns its pid and our ends of its streams.
    fn make(
        &self,
        verb: &str,
        arguments: &[&OsStr],
        stdio: Stdio,
        streams: impl FnOnce() -> Result<(Streams, Option<Ends>), ErrorReport>,
    ) -> Result<(i32, Option<Ends>), ErrorReport> {
        let files = self.runtime.files();
        let pid_file = files.dir().join("pid");
        let mut all = arguments.to_vec();
        all.extend([OsStr::new("--pid-file"), pid_file.as_os_str()]);
        let console = if stdio.terminal { Some(Console::listen(files)) } else { None };
        let console = console.transpose().map_err(kernel("listen for a terminal"))?;
        let console_path = console.as_ref().map(Console::path);
        if let Some(path) = &console_path {
            all.extend([OsStr::new("--console-socket"), OsStr::new(path)]);
        }
        all.push(OsStr::new(self.prepare.id.as_str()));
        let (theirs, ours) = streams()?;
        self.runtime.call(verb, &all, Some(theirs))?;
        let pid = files.take_pid(&pid_file).map_err(report)?;
        let ends = match console {
            Some(console) => {
                Some(Ends::Terminal(console.take(stdio).map_err(kernel("receive the terminal"))?))
            }
            None => ours,
        };
        Ok((pid, ends))
    }

    /// Lets init execute its program.
    pub(crate) fn start(&mut self) -> Result<(), ErrorReport> {
        match std::mem::replace(&mut self.life, Life::Failed) {
            Life::Created(init) => {
                if let Err(why) = self.runtime.call("start", &[OsStr::new(self.prepare.id.as_str())], None) {
                    // Nobody else will: the caller takes a failed start for the end of init.
                    let _ = pidfd_signal(init.pidfd.as_fd(), SIGKILL);
                    let _ = wait(init.pidfd.as_fd());
                    return Err(why);
                }
                self.life = Life::Running(init);
                Ok(())
            }
            other @ (Life::Prepared | Life::Running(_) | Life::Failed) => {
                self.life = other;
                Err(report(Failed::OutOfOrder("start comes once, after a successful create")))
            }
        }
    }

    /// Runs one more process; returns our ends of its streams, if it has any.
    pub(crate) fn exec(&mut self, exec: &Exec) -> Result<(Made, Option<Ends>), ErrorReport> {
        let Life::Running(init) = &self.life else {
            return Err(report(Failed::OutOfOrder("exec comes after a successful start")));
        };
        let process = bundle::process_in(init.pid, &exec.process, &exec.user, &exec.extra_groups, exec.stdio)
            .map_err(of_runtime)?;
        self.execs = self.execs.wrapping_add(1);
        let name = format!("exec-{}.json", self.execs);
        let file = self.runtime.files().write(&name, &process).map_err(report)?;
        let arguments = [OsStr::new("--process"), file.as_os_str(), OsStr::new("--detach")];
        let made = self.make("exec", &arguments, exec.stdio, || streams_of_exec(exec));
        let _ = std::fs::remove_file(&file);
        let (pid, ends) = made?;
        let pidfd = pidfd_open(pid).map_err(kernel("open an exec"))?;
        Ok((Made { pid, pidfd }, ends))
    }

    /// Begins to send init a signal. The runtime knows best who init is: its process may be a machine's.
    pub(crate) fn signal(&self, signal: i32) -> Result<Call, ErrorReport> {
        let number = signal.to_string();
        self.runtime.begin("kill", &[OsStr::new(self.prepare.id.as_str()), OsStr::new(&number)])
    }

    /// How a call has ended, if it has, or its time is up.
    pub(crate) fn outcome(&self, call: &mut Call, now: Instant) -> Option<Result<(), ErrorReport>> {
        self.runtime.outcome_by(call, now)
    }

    /// Has the runtime stop every process, and tells whether it has.
    pub(crate) fn try_freeze(&mut self) -> Result<bool, ErrorReport> {
        let Some(pausing) = &mut self.pausing else {
            self.pausing = Some(self.runtime.begin("pause", &[OsStr::new(self.prepare.id.as_str())])?);
            return Ok(false);
        };
        let Some(outcome) = self.runtime.outcome(pausing) else { return Ok(false) };
        self.pausing = None;
        outcome.map(|()| true)
    }

    /// Ends a `pause` under way, and lets go on whom it has stopped so far.
    pub(crate) fn take_back_freeze(&mut self) {
        self.pausing = None;
        self.thaw_killed();
    }

    /// A child of ours was reaped; tells whether it was a command of the runtime that is waited for.
    pub(crate) fn command_ended(&mut self, pid: i32, ended: Ended) -> bool {
        let mut own = [&mut self.pausing, &mut self.deleting].into_iter().flatten();
        own.any(|call| call.reaped(pid, ended))
    }

    /// Begins to let them go on.
    pub(crate) fn thaw(&mut self) -> Result<Call, ErrorReport> {
        self.runtime.begin("resume", &[OsStr::new(self.prepare.id.as_str())])
    }

    /// Lets processes that were killed while frozen go on to their end. Some runtimes have done so
    /// by then, and call it an error to be asked to.
    pub(crate) fn thaw_killed(&self) {
        let _ = self.group.thaw();
    }

    /// Begins to change limits.
    pub(crate) fn update(&mut self, resources: &LinuxResources) -> Result<Call, ErrorReport> {
        let file = self.runtime.files().write("resources.json", resources).map_err(report)?;
        let id = OsStr::new(self.prepare.id.as_str());
        self.runtime.begin("update", &[OsStr::new("--resources"), file.as_os_str(), id])
    }

    /// Goes on with removing everything. All children of ours that we know of must have been reaped.
    pub(crate) fn remove(&mut self, now: Instant) -> Removal {
        match self.delete(now) {
            Ok(None) => Removal::Over(self.remove_rest(Ok(()))),
            Ok(Some(until)) => Removal::UnderWay { until },
            Err(why) => Removal::Over(self.remove_rest(Err(why))),
        }
    }

    /// Goes on with the runtime's `delete`; tells until when at most it runs, if it does.
    fn delete(&mut self, now: Instant) -> Result<Option<Instant>, ErrorReport> {
        if let Life::Prepared = self.life {
            return Ok(None);
        }
        let call = match &mut self.deleting {
            Some(call) => call,
            none @ None => none.insert(begin_delete(&self.runtime, &self.prepare.id)?),
        };
        let Some(outcome) = self.runtime.outcome_by(call, now) else { return Ok(Some(call.deadline())) };
        self.deleting = None;
        match self.life {
            // There may be nothing to delete, which some runtimes complain of.
            Life::Failed => Ok(None),
            Life::Prepared | Life::Created(_) | Life::Running(_) => outcome.map(|()| None),
        }
    }

    fn remove_rest(&mut self, deleted: Result<(), ErrorReport>) -> Result<(), ErrorReport> {
        // Each step whatever became of the one before; the first failure is told.
        let emptied = deleted.and(self.group.remove());
        (self.network, self.ids) = (None, None);
        let left = self.mounts.take().map_or(Ok(()), |mounts| mounts.leave().map_err(of_runtime));
        emptied.and(left)?;
        self.life = Life::Failed;
        self.runtime.files().remove().map_err(report)
    }
}

impl Init {
    fn made(&self) -> Result<Made, ErrorReport> {
        crate::container::made(self.pid, self.pidfd.as_fd())
    }
}

fn no_terminal() -> ErrorReport {
    ErrorReport::new(ErrorClass::Internal, "the runtime made no terminal")
}

fn begin_delete(runtime: &Runtime, id: &ContainerId) -> Result<Call, ErrorReport> {
    runtime.begin("delete", &[OsStr::new("--force"), OsStr::new(id.as_str())])
}

/// Lets the runtime of a killed shim's container remove it, and removes its files. What it could
/// not do, the caller's own search for processes and cgroups does.
pub(crate) fn clean_up(record: &CleanupRecord, dir: PathBuf) {
    if let Some(command) = &record.runtime {
        let runtime = Runtime::new(command.clone(), Files::new(dir));
        let arguments = [OsStr::new("--force"), OsStr::new(record.id.as_str())];
        if let Err(error) = runtime.call("delete", &arguments, None) {
            crate::complain(&error);
        }
    }
}

/// Removes the files of a container of another runtime, after everything else.
pub(crate) fn remove_files(dir: PathBuf) -> Result<(), ErrorReport> {
    Files::new(dir).remove().map_err(report)
}
