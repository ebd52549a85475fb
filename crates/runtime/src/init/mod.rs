//! The container's first process: made, configured, started, in three steps of which the first
//! needs to know nothing about the image and may be taken long before.
//!
//! ```no_run
//! # fn run(prepare: &seacow_spec::shim::Prepare, create: &seacow_spec::shim::Create,
//! #        streams: seacow_runtime::Streams) -> Result<(), seacow_runtime::Error> {
//! use seacow_runtime::init::Prepared;
//! // clone3: the pid and the network namespace exist.
//! let mut prepared = Prepared::new(prepare, "/run/seacow/c/x/stage".as_ref())?;
//! // … tell the engine, which gives the network namespace its veth …
//! prepared.settle()?; // cgroups; runs beside the engine's work
//! // prepared.connect(&link)?; // the veth is there: raise it
//! let created = prepared.configure(create, streams)?; // root, mounts, pivot_root
//! let running = created.start()?; // execve happened
//! # let _ = running; Ok(()) }
//! ```
//!
//! For single-threaded callers: the child is a copy of the calling process. A handle that is
//! dropped before [`Created::start`] succeeded kills and reaps its child; cgroups are the caller's
//! to remove ([`Cgroups::remove`]), because only the caller knows when everything else is gone.

mod child;
pub(crate) mod foreign;
pub(crate) mod handle;
pub(crate) mod idmaps;
pub(crate) mod launch;
pub(crate) mod namespaces;
mod netdevices;
pub(crate) mod soft;
mod stages;
mod userns;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use seacow_spec::oci::state::{State, Status};
use seacow_spec::shim::{Create, NetworkConfig, Prepare, Program};
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::unix;

use self::handle::Child;
use self::namespaces::{Network, Plan, User};
use crate::cgroup::Cgroups;
use crate::error::{Error, Step};
use crate::mounts::sources;
use crate::process::identity;
use crate::seccomp::notify::Agent;
use crate::trace::Trace;
use crate::wire::{self, FromChild};

/// The standard streams of a process.
#[derive(Debug)]
pub enum Streams {
    /// Three descriptors.
    Files {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal in the container's own devpts, made by the child; its size is in the request.
    Terminal,
}

impl Streams {
    pub(crate) fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Files { stdin, stdout, stderr } => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            Self::Terminal => Vec::new(),
        }
    }
}

/// How init is made, where a caller asks for something else than is good for most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Moves its root over the host's instead of pivot_root, which the kernel refuses on a ramdisk.
    pub no_pivot: bool,
    /// Keeps the caller's session keyring.
    pub keep_keyring: bool,
}

/// Init exists in its namespaces and waits; the image is not known yet.
#[derive(Debug)]
pub struct Prepared {
    child: Child,
    cgroups: Cgroups,
    namespaces: Held,
    privileged: bool,
    user_namespace: bool,
    parent_opens: bool,
    network: Network,
    rare_namespaces: Option<Kinds>,
    stage: PathBuf,
    settled: bool,
    trace: Trace,
}

impl Prepared {
    /// Makes the process. Returns as soon as its namespaces exist; it stages its mounts meanwhile.
    /// `stage` becomes (or is) an empty directory of the host that only this container uses; it
    /// holds nothing outside the container's mount namespace.
    pub fn new(prepare: &Prepare, stage: &Path) -> Result<Self, Error> {
        Self::in_manner(prepare, stage, Manner::default())
    }

    /// As [`Prepared::new`], in another manner than the usual.
    pub fn in_manner(prepare: &Prepare, stage: &Path, manner: Manner) -> Result<Self, Error> {
        let mut trace = Trace::start("parent");
        let plan = Plan::of(&prepare.namespaces, &prepare.settings)?;
        let cgroups = Cgroups::new(&prepare.cgroups_path)?;
        match rustix::fs::mkdir(stage, rustix::fs::Mode::from(0o700)) {
            Ok(()) | Err(seacow_sys::Errno::EXIST) => {}
            Err(errno) => return Err(errno).step(|| format!("make stage {}", stage.display())),
        }
        // For the child, and for every process that enters later.
        identity::available()?;
        let born_in = soft::create(&cgroups, plan.has_user_namespace())?;
        let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
        trace.lap("plan, unified cgroup, socket");
        let cgroup = born_in.as_ref().map(|fd| fd.as_fd());
        let how = Clone { namespaces: plan.new, cgroup, sibling: false };
        let (pid, pidfd) = match launch::init(&plan, &how, &prepare.settings)? {
            Cloned::Child => {
                drop(ours);
                child::run(&child::Setup {
                    manner,
                    prepare,
                    plan: &plan,
                    cgroups: &cgroups,
                    stage,
                    socket: theirs,
                });
            }
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(theirs);
        trace.lap("clone3");
        let child = Child::new(pid, pidfd, ours)?;
        let namespaces = Held::of(pid, &plan)?;
        if plan.has_user_namespace() {
            if matches!(plan.user, User::New) && !plan.needs_helper() {
                idmaps::write(pid, &prepare.settings.uid_mappings, &prepare.settings.gid_mappings)?;
            }
            wire::send_mapped(child.socket())?;
        }
        Ok(Self {
            child,
            cgroups,
            namespaces,
            privileged: prepare.privileged,
            user_namespace: plan.has_user_namespace(),
            parent_opens: plan.parent_opens,
            rare_namespaces: plan.rare(),
            network: plan.into_network(),
            stage: stage.to_owned(),
            settled: false,
            trace,
        })
    }

    /// Init as the host sees it.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// A handle on init.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// The container's cgroups.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// Makes the remaining cgroups and lets init join them and finish its stage. Called by
    /// [`Prepared::configure`] when the caller had no better moment.
    pub fn settle(&mut self) -> Result<(), Error> {
        if !self.settled {
            self.trace.reset();
            self.cgroups.adopt(self.child.pid)?;
            soft::create_rest(&self.cgroups)?;
            self.trace.lap("make v1 cgroups");
            // What every container of the kind has; few ask for more. Version 1 takes them one by one,
            // after a denial of everything: nobody in the cgroup may need a device meanwhile.
            soft::set_devices(&self.cgroups, &[], self.privileged)?;
            wire::send_settle(self.child.socket())?;
            self.settled = true;
            self.trace.lap("device rules");
        }
        Ok(())
    }

    /// Has init raise its link and give it its address. May be done long before
    /// [`Prepared::configure`], as soon as the link exists.
    pub fn connect(&mut self, link: &NetworkConfig) -> Result<(), Error> {
        self.settle()?;
        self.trace.reset();
        wire::send_connect(self.child.socket(), link)?;
        match self.child.answer()? {
            Some(FromChild::Connected) => {}
            Some(_) => return Err(handle::out_of_order()),
            None => return Err(self.child.lost("be connected")),
        }
        self.trace.lap("wait for init to be connected");
        Ok(())
    }

    /// Gives init its root file system, mounts and limits.
    pub fn configure(mut self, create: &Create, streams: Streams) -> Result<Created, Error> {
        self.settle()?;
        self.trace.reset();
        let needs_all = self.parent_opens.then_some(self.namespaces.mount.as_fd());
        let given =
            sources::open(create, sources::Owner { pid: self.child.pid, needs_all, stage: &self.stage })?;
        let none = seacow_spec::oci::runtime::LinuxResources::default();
        let resources = create.spec.linux.as_ref().and_then(|l| l.resources.as_ref()).unwrap_or(&none);
        if !resources.devices.is_empty() {
            soft::set_devices(&self.cgroups, &resources.devices, self.privileged)?;
            self.trace.lap("further device rules");
        }
        let lent = match &create.spec.linux {
            Some(linux) => netdevices::lend(&self.network, self.child.pid, &linux.net_devices)?,
            None => netdevices::Lent::default(),
        };
        if self.user_namespace {
            foreign::prepare(self.child.pid, create, &streams)?;
        }
        let mut fds = streams.borrowed();
        fds.extend(given.iter().map(|fd| fd.as_fd()));
        wire::send_configure(self.child.socket(), create, &fds)?;
        drop(streams);
        // Beside the child's mounting.
        soft::apply(&self.cgroups, resources, self.privileged)?;
        self.trace.lap("cgroup limits");
        let mut answer = self.child.answer()?;
        if let Some(FromChild::Mounted) = answer {
            stages::in_parent(create, self.child.pid)?;
            wire::send_enter_root(self.child.socket())?;
            answer = self.child.answer()?;
        }
        let terminal = match answer {
            Some(FromChild::Configured(terminal)) => terminal,
            Some(_) => return Err(handle::out_of_order()),
            None => return Err(self.child.lost("be configured")),
        };
        self.trace.lap("wait for init to be configured");
        let agent = Agent::of(&create.seccomp, || State {
            pid: self.child.pid,
            status: Status::Created,
            ..create.state.clone()
        });
        Ok(Created {
            child: self.child,
            cgroups: self.cgroups,
            namespaces: self.namespaces,
            rare_namespaces: self.rare_namespaces,
            lent,
            terminal,
            agent,
            trace: self.trace,
        })
    }
}

/// Init stands in its root and waits for the word to execute its program.
#[derive(Debug)]
pub struct Created {
    child: Child,
    cgroups: Cgroups,
    namespaces: Held,
    rare_namespaces: Option<Kinds>,
    lent: netdevices::Lent,
    terminal: Option<OwnedFd>,
    agent: Option<Agent>,
    trace: Trace,
}

impl Created {
    /// Init as the host sees it.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// A handle on init.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// The container's cgroups.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// The terminal's master, once, when the process has a terminal.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Gives init another program than it was configured with. Whether it can be executed is told by
    /// [`Created::start`].
    pub fn recast(&self, program: &Program) -> Result<(), Error> {
        wire::send_program(self.child.socket(), program)
    }

    /// Lets init execute its program and waits until that happened or failed.
    pub fn start(self) -> Result<Running, Error> {
        self.start_with(None)
    }

    /// As [`Created::start`], for a caller who traces init: it then stands where it has executed. `pass` is
    /// called again and again until then, to pass on the signals that stop it on the way.
    pub fn start_traced(self, mut pass: impl FnMut()) -> Result<Running, Error> {
        self.start_with(Some(&mut pass))
    }

    fn start_with(mut self, meanwhile: Option<handle::Meanwhile<'_>>) -> Result<Running, Error> {
        self.trace.reset();
        let told = wire::send_start(self.child.socket());
        // What init met since it was configured explains why it does not hear us.
        match self.child.await_exec(self.agent.as_ref(), meanwhile) {
            Err(error @ Error::Child(_)) => return Err(error),
            ended => told.and(ended)?,
        }
        self.trace.lap("start until exec");
        self.lent.keep();
        let (pid, pidfd) = self.child.release();
        let Self { cgroups, namespaces, rare_namespaces, .. } = self;
        Ok(Running { pid, pidfd, cgroups, namespaces, rare_namespaces })
    }

    /// Lets init outlive the caller: it will be started by [`start_detached`] through a connection
    /// to `listener`. The program will inherit descriptors 3 to 2 + `preserve_fds`.
    pub fn detach(mut self, listener: BorrowedFd<'_>, preserve_fds: u32) -> Result<Running, Error> {
        wire::send_detach(self.child.socket(), preserve_fds, listener)?;
        match self.child.answer()? {
            Some(FromChild::Detached) => {}
            Some(_) => return Err(handle::out_of_order()),
            None => return Err(self.child.lost("be detached")),
        }
        self.lent.keep();
        let (pid, pidfd) = self.child.release();
        let Self { cgroups, namespaces, rare_namespaces, .. } = self;
        Ok(Running { pid, pidfd, cgroups, namespaces, rare_namespaces })
    }
}

/// Lets a detached init, which is process `pid`, execute its program; `connection` leads to its
/// listener. The agent is that of its system call filter, if it has one.
pub fn start_detached(connection: BorrowedFd<'_>, pid: i32, agent: Option<&Agent>) -> Result<(), Error> {
    wire::send_start(connection)?;
    if handle::await_exec(connection, pid, agent, None)? {
        return Ok(());
    }
    Err(Error::Lost { how: "connection closed".into(), doing: "execute its program" })
}

/// The container runs.
#[derive(Debug)]
pub struct Running {
    /// Init as the host sees it.
    pub pid: i32,
    /// Readable when init has ended; the caller reaps it.
    pub pidfd: OwnedFd,
    /// The container's cgroups.
    pub cgroups: Cgroups,
    /// What outlives init for as long as this is held.
    pub namespaces: Held,
    /// Which kinds of namespace it has for itself that containers rarely have: user, time. `None`
    /// where they were joined by path, which may be the host's.
    pub rare_namespaces: Option<Kinds>,
}

impl Running {
    /// A container whose first process was not made here but forked from another's: child of ours, in
    /// new namespaces.
    pub fn of_clone(pid: i32, pidfd: OwnedFd, cgroups: Cgroups) -> Result<Self, Error> {
        let open = |kind| ns::open(pid, kind).step(|| format!("open a namespace of process {pid}"));
        let namespaces =
            Held { mount: open(Kinds::MOUNT)?, _others: vec![open(Kinds::NETWORK)?, open(Kinds::IPC)?] };
        Ok(Self { pid, pidfd, cgroups, namespaces, rare_namespaces: Some(Kinds::empty()) })
    }
}

/// Namespaces that are slow to take down. Held, they outlive init, whose end can then be reported
/// first: unmounting an overlay syncs its whole file system, and the kernel's workers for networks
/// and message queues would keep a processor busy for a millisecond. Dropping this lets them go.
#[derive(Debug)]
pub struct Held {
    mount: OwnedFd,
    _others: Vec<OwnedFd>,
}

impl Held {
    fn of(pid: i32, plan: &Plan) -> Result<Self, Error> {
        let open = |kind: Kinds| {
            ns::open(pid, kind)
                .step(|| format!("open the {} namespace of process {pid}", kind.names().collect::<String>()))
        };
        let others = [Kinds::NETWORK, Kinds::IPC].into_iter().filter(|kind| plan.owns(*kind));
        Ok(Self { mount: open(Kinds::MOUNT)?, _others: others.map(open).collect::<Result<_, _>>()? })
    }
}

/// Makes the child a member of an existing pid namespace: only children can be put into one.
pub(crate) fn clone_into_pid_namespace(target: BorrowedFd<'_>, how: &Clone<'_>) -> Result<Cloned, Error> {
    let own = ns::open_own(Kinds::PID).step(|| "open own pid namespace".into())?;
    ns::enter(target, Kinds::PID).step(|| "join pid namespace".into())?;
    let cloned = process::clone3(how);
    if matches!(cloned, Ok(Cloned::Child)) {
        return Ok(Cloned::Child);
    }
    // Not back: every later child would land in that namespace. The first error is told.
    let back = ns::enter(own.as_fd(), Kinds::PID).step(|| "return to own pid namespace".into());
    let cloned = cloned.step(|| "clone into pid namespace".into())?;
    if back.is_err()
        && let Cloned::Parent { pidfd, .. } = &cloned
    {
        let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(pidfd.as_fd());
    }
    back.map(|()| cloned)
}
