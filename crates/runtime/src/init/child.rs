//! Init's own side: from the clone to the exec of the container's program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use seacow_spec::oci::runtime::{Linux, Process};
use seacow_spec::oci::state::Status;
use seacow_spec::shim::{Create, Prepare};
use seacow_sys::mount::{self, Attributes, Change, Propagation};
use seacow_sys::ns::{self, Kinds};
use seacow_sys::pty;
use seacow_sys::rooted::Root;
use seacow_sys::{cred, process, signal};

use super::Manner;
use super::namespaces::{Plan, User};
use super::{stages, userns};
use crate::cgroup::{self, Cgroups};
use crate::error::{Error, Step};
use crate::mounts::cgroup_view::View;
use crate::mounts::stage::Stage;
use crate::mounts::{devices, place, rootfs};
use crate::process::ahead::Ahead;
use crate::process::finish::{Finish, Stdio};
use crate::process::labels::Labels;
use crate::process::{oom_score, sysctl};
use crate::rights;
use crate::trace::Trace;
use crate::validate::linux as checked;
use crate::wire::{self, ToChild};
use crate::{network, seccomp};

/// What the child has from its parent's memory.
pub(super) struct Setup<'a> {
    pub(super) prepare: &'a Prepare,
    pub(super) plan: &'a Plan,
    pub(super) cgroups: &'a Cgroups,
    pub(super) stage: &'a Path,
    pub(super) socket: OwnedFd,
    pub(super) manner: Manner,
}

/// The whole life of the child before its program. Never returns.
pub(super) fn run(setup: &Setup<'_>) -> ! {
    let mut trace = Trace::start("init");
    match become_container(setup, &mut trace) {
        // The parent has gone, or changed its mind.
        Ok(Gone) => process::exit_now(0),
        Err(error) => {
            // When even this fails the parent sees the end of the socket and says so.
            let _ = wire::send_failed(setup.socket.as_fd(), &error.report());
            process::exit_now(1)
        }
    }
}

/// The parent closed its end.
struct Gone;

fn become_container(setup: &Setup<'_>, trace: &mut Trace) -> Result<Gone, Error> {
    let mut stage = prepare(setup, trace)?;
    match wire::receive_in_child(setup.socket.as_fd())? {
        Some(ToChild::Settle) => {}
        Some(_) => return Err(super::handle::out_of_order()),
        None => return Ok(Gone),
    }
    trace.reset();
    settle(setup, &mut stage, trace)?;
    let Some((mut create, stdio)) = await_container(setup, trace)? else { return Ok(Gone) };
    let no_process = || Error::Invalid { what: "a container without process".into() };
    let mut process = create.spec.process.take().ok_or_else(no_process)?;
    let labels = Labels::open(&process)?;
    let stdio = configure(setup, &stage, &create, &process, stdio, trace)?;
    drop(stage);
    // While the parent thinks: everything that needs no answer.
    if !setup.manner.no_pivot {
        mount::detach_old_root()?;
    }
    trace.lap("detach old root");
    let filter = seccomp::prepare(&create.seccomp, process.capabilities.as_ref())?;
    trace.lap("seccomp filter");
    let hooks = create.spec.hooks.as_ref();
    let keep_keyring = setup.manner.keep_keyring;
    let ahead = Ahead::of_init(&process, &labels, filter.as_ref(), hooks, keep_keyring, trace)?;
    let (starter, preserve_fds) = loop {
        match wire::receive_in_child(setup.socket.as_fd())? {
            Some(ToChild::Program(program)) => {
                (process.args, process.env) = (program.args, program.env);
                (create.user, create.extra_groups) = (program.user, program.extra_groups);
            }
            Some(ToChild::Start) => break (None, 0),
            Some(ToChild::Detach { preserve_fds, listener: Some(listener) }) => {
                stdio.replace_inherited()?;
                break (Some(detach(setup.socket.as_fd(), &listener)?), preserve_fds);
            }
            Some(_) => return Err(super::handle::out_of_order()),
            None => return Ok(Gone),
        }
    };
    trace.reset();
    let finish = Finish {
        process: &process,
        user: &create.user,
        extra_groups: &create.extra_groups,
        filter: filter.as_ref(),
        stdio,
        labels,
        socket: starter.as_ref().map_or(setup.socket.as_fd(), |s| s.as_fd()),
        preserve_fds,
        outlive_parent: starter.is_some(),
        keep_keyring,
        hooks: hooks.map(|all| (all, stages::state_inside(&create, Status::Created))),
        signals_are_reset: true,
        ahead,
    };
    let error = finish.execute(trace);
    match starter {
        None => Err(error),
        Some(starter) => {
            // The parent has gone; whoever started us hears of it.
            let _ = wire::send_failed(starter.as_fd(), &error.report());
            process::exit_now(1)
        }
    }
}

/// What the container is, and its descriptors.
type Word = (Box<Create>, Vec<OwnedFd>);

/// Waits for the word what the container is, raising the link meanwhile; `None` when the parent has
/// gone.
fn await_container(setup: &Setup<'_>, trace: &mut Trace) -> Result<Option<Word>, Error> {
    loop {
        let word = wire::receive_in_child(setup.socket.as_fd())?;
        trace.reset();
        match word {
            Some(ToChild::Configure(create, stdio)) => return Ok(Some((create, stdio))),
            Some(ToChild::Connect(link)) => {
                network::raise(&link)?;
                trace.lap("raise and address the link");
                wire::send_connected(setup.socket.as_fd())?;
            }
            Some(_) => return Err(super::handle::out_of_order()),
            None => return Ok(None),
        }
    }
}

/// Lives on without the parent until somebody connects and says start.
fn detach(parent: BorrowedFd<'_>, listener: &OwnedFd) -> Result<OwnedFd, Error> {
    process::outlive_parent().step(|| "let init outlive its parent".into())?;
    wire::send_detached(parent)?;
    loop {
        let connection =
            seacow_sys::unix::accept(listener.as_fd()).step(|| "accept the word to start".into())?;
        // Whoever hangs up or says something else did not start us.
        if matches!(wire::receive_in_child(connection.as_fd()), Ok(Some(ToChild::Start))) {
            return Ok(connection);
        }
    }
}

/// Namespaces and staged mounts.
fn prepare(setup: &Setup<'_>, trace: &mut Trace) -> Result<Stage, Error> {
    process::die_with_parent().step(|| "tie init to the shim's life".into())?;
    process::new_session().step(|| "start a new session".into())?;
    signal::reset().step(|| "reset signals".into())?;
    cred::set_umask(0);
    if setup.plan.join_pid.is_some() {
        // Somebody else's processes see us while we still have the host's mounts; exec resets it.
        process::set_dumpable(false).step(|| "make init undumpable".into())?;
    }
    let ahead = setup.plan.needs_helper();
    let mine = |kind: Kinds| if ahead { kind == Kinds::MOUNT } else { kind != Kinds::CGROUP };
    for (kind, fd) in setup.plan.join.iter().filter(|(kind, _)| mine(*kind)) {
        ns::enter(fd.as_fd(), *kind)
            .step(|| format!("join {} namespace", kind.names().collect::<String>()))?;
    }
    trace.lap("session, joined namespaces");
    let mut stage = match setup.plan.user {
        User::Same => Stage::open(setup.stage)?,
        User::New | User::Joined(_) => userns::enter(setup)?,
    };
    trace.lap("open stage");
    stage.fill(setup.prepare)?;
    trace.lap("stage mounts and devices");
    Ok(stage)
}

/// Cgroups, their namespace and their view; masks; loopback.
fn settle(setup: &Setup<'_>, stage: &mut Stage, trace: &mut Trace) -> Result<(), Error> {
    if !setup.plan.has_user_namespace() {
        match cgroup::join_self(&setup.cgroups.tasks_files()) {
            // Nobody could make them either.
            Err(_) if !setup.cgroups.exists() && rights::are_limited() => {}
            joined => joined?,
        }
    }
    trace.lap("join v1 cgroups");
    if setup.plan.new_cgroup {
        ns::unshare(Kinds::CGROUP).step(|| "make a cgroup namespace".into())?;
    }
    let ahead = setup.plan.needs_helper();
    for (kind, fd) in setup.plan.join.iter().filter(|(kind, _)| *kind == Kinds::CGROUP && !ahead) {
        ns::enter(fd.as_fd(), *kind).step(|| "join cgroup namespace".into())?;
    }
    let view = match (setup.plan.new_cgroup, setup.plan.has_user_namespace()) {
        (false, _) => View::Bound,
        // It has no right to the host's mounts.
        (true, true) => View::Mounted,
        (true, false) => View::Either,
    };
    stage.finish(setup.prepare, setup.cgroups, view)?;
    trace.lap("cgroup namespace and view, masks");
    if setup.plan.owns(Kinds::NETWORK) {
        network::raise_loopback()?;
        trace.lap("raise loopback");
    }
    Ok(())
}

/// Sysctls, root file system, pivot_root; tells the parent.
fn configure(
    setup: &Setup<'_>,
    stage: &Stage,
    create: &Create,
    process: &Process,
    mut stdio: Vec<OwnedFd>,
    trace: &mut Trace,
) -> Result<Stdio, Error> {
    // The standard streams come first, unless there is a terminal, which is made here.
    let mut given = stdio.split_off(if create.stdio.terminal { 0 } else { stdio.len().min(3) });
    let all_given = setup.plan.parent_opens;
    let given_root = if all_given && !given.is_empty() { Some(given.remove(0)) } else { None };
    let spec = &create.spec;
    let nothing = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&nothing);
    host_settings(setup, create, linux, process)?;
    trace.lap("names, oom score");
    let root = rootfs::mount(stage, &create.rootfs, linux, given_root)?;
    trace.lap("mount root file system");
    stage.move_into(&root)?;
    trace.lap("move staged trees");
    // Mount points that are missing are made by us: with the usual mode.
    cred::set_umask(0o022);
    rootfs::place_all(&root, &spec.mounts, given, all_given)?;
    trace.lap("remaining mounts");
    cred::set_umask(0);
    devices::add(&root, &linux.devices)?;
    let (stdio, master) = open_stdio(&root, create, stdio)?;
    cred::set_umask(0o022);
    stage.protect_dev(&root, &setup.prepare.mounts)?;
    stage.cover_rest(&root, &linux.masked_paths, &linux.readonly_paths)?;
    if !process.cwd.is_empty() {
        rootfs::make_cwd(&root, &process.cwd)?;
    }
    trace.lap("devices, terminal, remaining masks, cwd");
    stages::before_root(setup.socket.as_fd(), create, root.as_fd())?;
    // Hooks may have made the network devices that these are about.
    sysctl::apply(&linux.sysctl, setup.plan, stage.settings())?;
    enter_root(root.as_fd(), create, linux, setup.manner.no_pivot)?;
    trace.lap("sysctls, pivot_root");
    wire::send_configured(setup.socket.as_fd(), master.as_ref().map(|m| m.as_fd()))?;
    Ok(stdio)
}

/// What is set through the host's `/proc` or by calls, before the root changes.
fn host_settings(setup: &Setup<'_>, create: &Create, linux: &Linux, process: &Process) -> Result<(), Error> {
    let spec = &create.spec;
    if !spec.hostname.is_empty() {
        if !setup.plan.leaves_host(Kinds::UTS) {
            return Err(Error::Invalid { what: "a hostname without a UTS namespace".into() });
        }
        rustix::system::sethostname(spec.hostname.as_bytes())
            .step(|| format!("set hostname {:?}", spec.hostname))?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes())
            .step(|| format!("set domain name {:?}", spec.domainname))?;
    }
    if !setup.plan.has_user_namespace() {
        oom_score::set(process.oom_score_adj)?;
    }
    crate::process::scheduling::apply(process)?;
    crate::process::scheduling::memory_policy(linux.memory_policy.as_ref())?;
    crate::process::scheduling::personality(linux.personality.as_ref())
}

/// The three descriptors from the parent, or a terminal in the container's own devpts.
fn open_stdio(root: &Root, create: &Create, stdio: Vec<OwnedFd>) -> Result<(Stdio, Option<OwnedFd>), Error> {
    let size = (create.stdio.rows, create.stdio.cols);
    let (stdio, master) = Stdio::open(root, create.stdio.terminal, size, stdio)?;
    if let Stdio::Terminal { slave } = &stdio {
        let console = Path::new("/dev/console");
        let target = place::mount_point(root, console, false)?;
        place::refuse_over_proc(target.as_fd(), "/dev/console", false)?;
        let tree =
            mount::clone_tree(slave.as_fd(), false).step(|| "bind the terminal for /dev/console".into())?;
        mount::attach(tree.as_fd(), target.as_fd()).step(|| "mount /dev/console".into())?;
        debug_assert!(pty::is_terminal(slave));
    }
    Ok((stdio, master))
}

/// pivot_root, then what the root's own mount shall be.
fn enter_root(root: BorrowedFd<'_>, create: &Create, linux: &Linux, no_pivot: bool) -> Result<(), Error> {
    if no_pivot {
        rootfs::hide_bare_kernel_mounts(root)?;
        mount::move_over_root(root)?;
    } else {
        mount::pivot_into(root)?;
    }
    let readonly = create.spec.root.as_ref().is_some_and(|r| r.readonly);
    if readonly {
        mount::change_at(Path::new("/"), &Change { set: Attributes::READ_ONLY, ..Change::default() })
            .step(|| "make the root read-only".into())?;
    }
    // Private it is, or a slave, since it was mounted.
    if let Some((propagation @ (Propagation::Shared | Propagation::Unbindable), recursive)) =
        checked::propagation(&linux.rootfs_propagation)?
    {
        let how = Change { propagation: Some(propagation), recursive, ..Change::default() };
        mount::change_at(Path::new("/"), &how).step(|| "set linux.rootfsPropagation".into())?;
    }
    Ok(())
}
