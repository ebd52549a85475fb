//! One more process in a running container.
//!
//! The child joins all namespaces by one setns on init's pidfd, so that it cannot end up in a mix
//! of two containers whose pid was reused in between. It joins the cgroups itself, as init did.
//!
//! What a container could do to a process that enters it, and why it cannot:
//! - *Open our binary through `/proc/<pid>/exe` and overwrite it* (CVE-2019-5736). A container
//!   whose program is `/proc/self/exe` would execute our binary inside itself. The remedy costs
//!   nothing per process: whoever starts the shim starts it from a sealed memory file
//!   ([`crate::seal`]), made once; no path to it is writable for anybody.
//! - *Trace it* between setns and execve: it is made undumpable before it joins, which needs
//!   CAP_SYS_PTRACE over the host's user namespace to get around.
//! - *Catch a descriptor of ours*: every one is close-on-exec, `close_range` marks those that we
//!   were given by mistake, and the working directory must lie below the root (CVE-2024-21626).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use seacow_spec::oci::runtime::User;
use seacow_spec::shim::Exec;
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::rooted::Root;
use seacow_sys::{Errno, cred, unix};

use crate::cgroup::{self, Cgroups, Layout, SubCgroups};
use crate::error::{Error, Step};
use crate::init::foreign::lend;
use crate::init::handle::{Child, out_of_order};
use crate::init::{Streams, clone_into_pid_namespace, launch};
use crate::process::ahead::Ahead;
use crate::process::finish::{Finish, Stdio};
use crate::process::labels::Labels;
use crate::process::{oom_score, scheduling};
use crate::rights;
use crate::seccomp::{self, notify::Agent};
use crate::trace::Trace;
use crate::wire::{self, FromChild};

/// The container that is entered.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Init as the host sees it.
    pub pid: i32,
    /// Init, so that its pid is certainly still its own.
    pub pidfd: BorrowedFd<'a>,
    /// Its cgroups.
    pub cgroups: &'a Cgroups,
    /// [`crate::init::Running::rare_namespaces`]; `None` where nobody remembers.
    pub rare_namespaces: Option<Kinds>,
}

/// The process runs.
#[derive(Debug)]
pub struct Started {
    /// As the host sees it.
    pub pid: i32,
    /// Readable when it has ended; the caller reaps it.
    pub pidfd: OwnedFd,
    /// The terminal's master, when it has a terminal.
    pub terminal: Option<OwnedFd>,
}

/// Runs `exec` in the container and waits until its program was executed, or failed to be. For
/// single-threaded callers, which become the parent.
pub fn start(container: Container<'_>, exec: &Exec, streams: Streams) -> Result<Started, Error> {
    start_with(container, exec, streams, Options::default())
}

/// What a caller of [`start_with`] may choose.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Who decides the calls that the filter leaves to somebody.
    pub agent: Option<&'a Agent>,
    /// Where below the container's cgroups it runs.
    pub sub_cgroups: SubCgroups,
    /// The program inherits descriptors 3 to 2 + this.
    pub preserve_fds: u32,
    /// The caller's session keyring stays the process's.
    pub keep_keyring: bool,
    /// Its terminal passes line ends as the program writes them.
    pub plain_line_ends: bool,
    /// It lives on when the caller ends.
    pub outlive_parent: bool,
}

/// As [`start`], with options.
pub fn start_with(
    container: Container<'_>,
    exec: &Exec,
    streams: Streams,
    options: Options<'_>,
) -> Result<Started, Error> {
    let mut trace = Trace::start("exec-p");
    let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
    let (tasks, born_in) = cgroups_of(&container, &options.sub_cgroups)?;
    let foreign = match container.rare_namespaces {
        Some(known) => known,
        None => foreign_kinds(container.pid)?,
    };
    if foreign.contains(Kinds::USER) {
        lend(container.pid, &streams)?;
    }
    let how = Clone { cgroup: born_in.as_ref().map(|fd| fd.as_fd()), ..Clone::default() };
    // Without rights of our own those of the user namespace come first.
    let ahead = foreign.contains(Kinds::USER) && !rustix::process::geteuid().is_root();
    let cloned = if ahead {
        launch::exec(container.pidfd, Kinds::USER | Kinds::PID, &how)?
    } else {
        clone_into_pid_namespace(container.pidfd, &how)?
    };
    let kinds = ALL_BUT_PID | if ahead { foreign.without(Kinds::USER) } else { foreign };
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            drop(ours);
            let entering = Entering { container: &container, exec, kinds, foreign, tasks: &tasks };
            run(&entering, streams, theirs.as_fd(), &options)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    drop(streams);
    let child = Child::new(pid, pidfd, ours)?;
    trace.lap("clone");
    let terminal = match child.answer()? {
        Some(FromChild::Configured(terminal)) => terminal,
        Some(_) => return Err(out_of_order()),
        None => return Err(child.lost("join the container")),
    };
    child.await_exec(options.agent, None)?;
    trace.lap("until exec");
    let (pid, pidfd) = child.release();
    Ok(Started { pid, pidfd, terminal })
}

/// Files by which the process joins its cgroups, and the one that it is born in.
fn cgroups_of(container: &Container<'_>, sub: &SubCgroups) -> Result<(Vec<PathBuf>, Option<OwnedFd>), Error> {
    if sub.is_empty() {
        return Ok((container.cgroups.tasks_files(), unified_dir(container)?));
    }
    let tasks = container.cgroups.tasks_files_in(sub)?;
    let Some(dir) = container.cgroups.unified_dir_in(sub)? else {
        return Ok((tasks, unified_dir(container)?));
    };
    let fd = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open cgroup {}", dir.display()))?;
    Ok((tasks, Some(fd)))
}

/// The version 2 cgroup the process is born in: the container's, or where init has moved when the
/// container manages cgroups of its own and has no processes at the top any more.
fn unified_dir(container: &Container<'_>) -> Result<Option<OwnedFd>, Error> {
    let (mount, managed) = match container.cgroups.layout() {
        Layout::V2 { mount } => (mount, true),
        Layout::V1 { unified: Some(mount), .. } => (mount, false),
        Layout::V1 { unified: None, .. } => return Ok(None),
    };
    let mut dir = mount.join(container.cgroups.path());
    if managed && let Some(of_init) = cgroup_of(container.pid)? {
        let of_init = mount.join(of_init.strip_prefix("/").unwrap_or(&of_init));
        // Never outside: init may have been moved by somebody else.
        if of_init.starts_with(&dir) {
            dir = process_cgroup(of_init, &dir);
        }
    }
    let open = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    match open {
        Ok(fd) => Ok(Some(fd)),
        // A container that was made by somebody else may lack the one without controllers; one that was
        // made without rights has none.
        Err(Errno::NOENT) if !managed || rights::are_limited() => Ok(None),
        Err(errno) => Err(errno).step(|| format!("open cgroup {}", dir.display())),
    }
}

/// `dir`, or the nearest above it that takes whole processes: into a threaded cgroup only a thread of
/// a process can move that is in the same domain already.
fn process_cgroup(mut dir: PathBuf, top: &Path) -> PathBuf {
    while dir != top && std::fs::read_to_string(dir.join("cgroup.type")).is_ok_and(|t| t.trim() == "threaded")
    {
        dir.pop();
    }
    dir
}

fn cgroup_of(pid: i32) -> Result<Option<PathBuf>, Error> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .step(|| format!("read the cgroup of process {pid}"))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from))
}

/// What the child has from its parent's memory.
#[derive(Clone, Copy)]
struct Entering<'a> {
    container: &'a Container<'a>,
    exec: &'a Exec,
    /// Files of the version 1 cgroups it joins.
    tasks: &'a [PathBuf],
    /// Namespaces it joins itself.
    kinds: Kinds,
    /// Kinds that only some containers have for themselves.
    foreign: Kinds,
}

/// Which of the namespaces that containers rarely have for themselves this one has: being in the
/// same user namespace already would be an error.
fn foreign_kinds(pid: i32) -> Result<Kinds, Error> {
    let mut kinds = Kinds::empty();
    for (kind, name) in [(Kinds::USER, "user"), (Kinds::TIME, "time")] {
        let id = |of: String| match rustix::fs::stat(of.as_str()) {
            Ok(stat) => Ok(Some(stat.st_ino)),
            // A kernel without time namespaces.
            Err(Errno::NOENT) if kind == Kinds::TIME => Ok(None),
            Err(errno) => Err(errno).step(|| format!("look at {of}")),
        };
        if id(format!("/proc/{pid}/ns/{name}"))? != id(format!("/proc/self/ns/{name}"))? {
            kinds |= kind;
        }
    }
    Ok(kinds)
}

/// Nobody in the new user namespace cannot make a terminal there.
fn become_root(user: &User) -> Result<(), Error> {
    for (uid, gid) in [(0, 0), (user.uid, user.gid)] {
        match cred::set_gid(gid).and_then(|()| cred::set_uid(uid)) {
            // Not mapped.
            Err(Errno::INVAL) => {}
            done => return done.step(|| format!("become user {uid} of the user namespace")),
        }
    }
    Ok(())
}

/// The child's side. Never returns.
fn run(entering: &Entering<'_>, streams: Streams, socket: BorrowedFd<'_>, options: &Options<'_>) -> ! {
    let &Options { preserve_fds, keep_keyring, outlive_parent, .. } = options;
    let exec = entering.exec;
    let mut trace = Trace::start("exec");
    let streams = (streams, options.plain_line_ends);
    let outcome = compile(exec, &mut trace)
        .and_then(|filter| Ok((filter, join(entering, streams, socket, &mut trace)?)));
    let error = match outcome {
        Ok((filter, (stdio, labels))) => Finish {
            process: &exec.process,
            user: &exec.user,
            extra_groups: &exec.extra_groups,
            filter: filter.as_ref(),
            stdio,
            labels,
            socket,
            preserve_fds,
            keep_keyring,
            outlive_parent,
            hooks: None,
            signals_are_reset: false,
            ahead: Ahead::default(),
        }
        .execute(&mut trace),
        Err(error) => error,
    };
    // When even this fails the parent sees the end of the socket and says so.
    let _ = wire::send_failed(socket, &error.report());
    process::exit_now(1)
}

/// The filter. Built here, not in the parent: what it takes, tens of kilobytes, would stay in the
/// memory of a shim that idles for the rest of its days.
fn compile(exec: &Exec, trace: &mut Trace) -> Result<Option<seccomp::Filter>, Error> {
    let filter = seccomp::prepare(&exec.seccomp, exec.process.capabilities.as_ref())?;
    trace.lap("compile seccomp filter");
    Ok(filter)
}

/// Becomes a member of the container.
fn join(
    entering: &Entering<'_>,
    (streams, plain_line_ends): (Streams, bool),
    socket: BorrowedFd<'_>,
    trace: &mut Trace,
) -> Result<(Stdio, Labels), Error> {
    let Entering { container, exec, kinds, foreign, tasks } = *entering;
    process::die_with_parent().step(|| "tie the process to the shim's life".into())?;
    process::new_session().step(|| "start a new session".into())?;
    process::set_dumpable(false).step(|| "make the process undumpable".into())?;
    let (initial, last) = scheduling::affinity(&exec.process)?;
    scheduling::run_on(initial.as_ref(), "initial")?;
    // A container that was made by somebody else may lack some.
    cgroup::join_present(tasks)?;
    scheduling::run_on(last.as_ref(), "final")?;
    trace.lap("join v1 cgroups");
    // Undumpable processes' own /proc files belong to root, which we still are.
    oom_score::set(exec.process.oom_score_adj)?;
    scheduling::apply(&exec.process)?;
    let labels = Labels::open(&exec.process)?;
    ns::enter_process(container.pidfd, kinds)
        .step(|| format!("join the namespaces of process {}", container.pid))?;
    if foreign.contains(Kinds::USER) {
        become_root(&exec.process.user)?;
    }
    trace.lap("join namespaces");
    let root = Root::open(Path::new("/")).step(|| "open the container's root".into())?;
    let files = match streams {
        Streams::Files { stdin, stdout, stderr } => vec![stdin, stdout, stderr],
        Streams::Terminal => Vec::new(),
    };
    let size = (exec.stdio.rows, exec.stdio.cols);
    let (stdio, master) = Stdio::open(&root, exec.stdio.terminal, size, files)?;
    if let (Stdio::Terminal { slave }, true) = (&stdio, plain_line_ends) {
        seacow_sys::pty::keep_line_ends(slave.as_fd()).step(|| "set the terminal's modes".into())?;
    }
    wire::send_configured(socket, master.as_ref().map(|m| m.as_fd()))?;
    Ok((stdio, labels))
}

/// What is joined by the child itself; it was born in the pid namespace. Being in the same one
/// already is no error, but for user namespaces ([`foreign_kinds`]).
const ALL_BUT_PID: Kinds =
    Kinds::MOUNT.and(Kinds::CGROUP).and(Kinds::UTS).and(Kinds::IPC).and(Kinds::NETWORK);
