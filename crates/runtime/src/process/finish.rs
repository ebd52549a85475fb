//! The last steps before the program, inside the container's root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use seacow_spec::oci::runtime::{Hooks, Process};
use seacow_spec::oci::state::State;
use seacow_sys::rlimit::{self, Kind, Limit};
use seacow_sys::rooted::Root;
use seacow_sys::{Errno, cred, process, pty, seccomp as kernel_filter, signal};

use super::ahead::{Ahead, new_keyring};
use super::identity::{self, Wanted};
use super::labels::Labels;
use super::program;
use super::user::{self, Identity};
use crate::error::{Error, Step};
use crate::hooks::{self, Stage};
use crate::seccomp::{Filter, notify};
use crate::trace::Trace;
use crate::wire;

/// Where the streams of a process come from.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// Three descriptors of the parent: input, output, error.
    Files([OwnedFd; 3]),
    /// The slave of a terminal.
    Terminal { slave: OwnedFd },
}

impl Stdio {
    /// Takes the parent's descriptors, or makes a terminal in the devpts below `root` and gives its
    /// master too.
    pub(crate) fn open(
        root: &Root,
        terminal: bool,
        (rows, cols): (u16, u16),
        files: Vec<OwnedFd>,
    ) -> Result<(Self, Option<OwnedFd>), Error> {
        if !terminal {
            let files = <[OwnedFd; 3]>::try_from(files)
                .map_err(|_| Error::Invalid { what: "a process needs three standard streams".into() })?;
            return Ok((Self::Files(files), None));
        }
        let devpts =
            root.locate_dir(Path::new("/dev/pts")).step(|| "find /dev/pts for the terminal".into())?;
        let pair = pty::open_pair(devpts.as_fd()).step(|| "make a terminal in /dev/pts".into())?;
        if rows != 0 || cols != 0 {
            pty::set_size(pair.master.as_fd(), rows, cols).step(|| "set the terminal's size".into())?;
        }
        Ok((Self::Terminal { slave: pair.slave }, Some(pair.master)))
    }

    /// Lets go of the caller's streams: who waits for the end of our output shall not wait for a
    /// container that has its own terminal.
    pub(crate) fn replace_inherited(&self) -> Result<(), Error> {
        let Self::Terminal { slave } = self else { return Ok(()) };
        for number in 0..3 {
            process::install_stdio(slave.as_fd(), number)
                .step(|| format!("replace standard stream {number}"))?;
        }
        Ok(())
    }

    fn install(&self, uid: u32) -> Result<(), Error> {
        let fds: [BorrowedFd<'_>; 3] = match self {
            Self::Files([stdin, stdout, stderr]) => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            Self::Terminal { slave } => {
                pty::make_controlling(slave.as_fd()).step(|| "take the terminal".into())?;
                [slave.as_fd(); 3]
            }
        };
        for (number, fd) in (0..).zip(fds) {
            give_to(fd, uid)?;
            process::install_stdio(fd, number).step(|| format!("install standard stream {number}"))?;
        }
        Ok(())
    }
}

/// Makes the user the owner of a stream, so that `/dev/stdout` can be opened again. `/dev/null`
/// stays everybody's.
fn give_to(fd: BorrowedFd<'_>, uid: u32) -> Result<(), Error> {
    let stat = rustix::fs::fstat(fd).step(|| "status of a standard stream".into())?;
    let shared_device = stat.st_rdev == rustix::fs::makedev(1, 3);
    if stat.st_uid == uid || shared_device {
        return Ok(());
    }
    match rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None) {
        // A read-only mount, an id that this user namespace does not map: the stream still works.
        Ok(()) | Err(Errno::ROFS | Errno::PERM | Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno).step(|| format!("give a standard stream to user {uid}")),
    }
}

/// Everything the last steps need.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    pub(crate) process: &'a Process,
    pub(crate) user: &'a str,
    pub(crate) extra_groups: &'a [String],
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) stdio: Stdio,
    pub(crate) labels: Labels,
    pub(crate) socket: BorrowedFd<'a>,
    /// Descriptors from 3 on that the program inherits.
    pub(crate) preserve_fds: u32,
    /// The caller's session keyring stays the process's.
    pub(crate) keep_keyring: bool,
    /// Nobody's end ends the process.
    pub(crate) outlive_parent: bool,
    /// What runs with the process's own rights before it: its programs are the image's.
    pub(crate) hooks: Option<(&'a Hooks, State)>,
    /// Nothing is blocked, ignored or handled any more.
    pub(crate) signals_are_reset: bool,
    /// Steps that were taken before.
    pub(crate) ahead: Ahead,
}

impl Finish<'_> {
    /// Executes the program. Returns only when a step failed.
    pub(crate) fn execute(&self, trace: &mut Trace) -> Error {
        match self.steps(trace) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn steps(&self, trace: &mut Trace) -> Result<std::convert::Infallible, Error> {
        let process = self.process;
        let root = Root::open(Path::new("/")).step(|| "open the container's root".into())?;
        let who = user::resolve(&root, self.user, self.extra_groups)?;
        drop(root);
        trace.lap("look up user");
        let env = environment(process, &who);
        set_rlimits(process)?;
        self.stdio.install(who.uid)?;
        if !self.keep_keyring && !self.ahead.keyring {
            self.labels.label_keys()?;
            new_keyring()?;
        }
        let in_cwd = enter_cwd(&process.cwd);
        process::close_on_exec_from(3 + self.preserve_fds)
            .step(|| "mark descriptors close-on-exec".into())?;
        self.labels.apply()?;
        trace.lap("limits, streams, keyring, directory");
        if process.no_new_privileges {
            cred::set_no_new_privileges().step(|| "set no_new_privs".into())?;
        }
        let wanted = Wanted::of(process.capabilities.as_ref())?;
        let filter = self.filter.filter(|_| !self.ahead.filter);
        let admin_for_filter = filter.is_some() && !process.no_new_privileges;
        if !self.ahead.bounding {
            identity::limit(&wanted)?;
        }
        identity::change(&who, &wanted, admin_for_filter)?;
        // The change of user may have taken it back.
        if self.outlive_parent {
            process::outlive_parent().step(|| "let the process outlive its parent".into())?;
        } else {
            process::die_with_parent().step(|| "tie the process to the shim's life".into())?;
        }
        cred::set_umask(process.user.umask.unwrap_or(0o022));
        in_cwd.or_else(|_| enter_cwd(&process.cwd))?;
        trace.lap("user and capabilities");
        let command = process.args.first().ok_or(program::Error::Empty)?;
        let path = program::find(command, &env)?;
        let (argv, envp) = (program::c_strings(&process.args)?, program::c_strings(&env)?);
        let c_path = program::c_path(&path)?;
        if !self.signals_are_reset {
            signal::reset().step(|| "reset signals".into())?;
        }
        trace.lap("find program, reset signals");
        // From here the parent believes in success unless it hears otherwise. It also notices a
        // parent that has gone: the write fails.
        wire::send_executing(self.socket)?;
        let listener = self.load_filter(filter, &wanted, admin_for_filter)?;
        trace.lap("load seccomp filter");
        // Their programs are the image's: the filter holds for them too.
        if let Some((hooks, state)) = &self.hooks {
            hooks::run(Stage::StartContainer, hooks, state)?;
        }
        let errno = process::execve(&c_path, &argv, &envp);
        drop(listener);
        Err(program::refused(command, &path, errno).into())
    }

    fn load_filter(
        &self,
        filter: Option<&Filter>,
        wanted: &Wanted,
        admin: bool,
    ) -> Result<Option<notify::Held>, Error> {
        let listener = match filter {
            Some(filter) if filter.notifies => Some(notify::load(filter, self.socket)?),
            Some(filter) => {
                kernel_filter::load(&filter.program, filter.flags)
                    .step(|| "load the seccomp filter".into())?;
                None
            }
            None => None,
        };
        if admin {
            identity::drop_rest(wanted)?;
        }
        Ok(listener)
    }
}

/// The environment with `HOME`, unless it has one.
fn environment(process: &Process, who: &Identity) -> Vec<String> {
    let mut env = process.env.clone();
    if !env.iter().any(|e| e.strip_prefix("HOME=").is_some_and(|home| !home.is_empty())) {
        env.retain(|e| !e.starts_with("HOME="));
        env.push(format!("HOME={}", who.home));
    }
    env
}

fn set_rlimits(process: &Process) -> Result<(), Error> {
    for limit in &process.rlimits {
        let kind = Kind::named(&limit.kind)
            .ok_or_else(|| Error::Invalid { what: format!("unknown resource limit {:?}", limit.kind) })?;
        rlimit::set(kind, Limit { soft: limit.soft, hard: limit.hard })
            .step(|| format!("set {} to {}:{}", limit.kind, limit.soft, limit.hard))?;
    }
    Ok(())
}

/// Enters the working directory and checks that it lies below the root: a descriptor leaked from
/// the host (`/proc/self/fd/7`) must not be entered (CVE-2024-21626).
fn enter_cwd(cwd: &str) -> Result<(), Error> {
    if cwd.is_empty() {
        return Ok(());
    }
    rustix::process::chdir(cwd).step(|| format!("chdir to cwd {cwd:?}"))?;
    let outside =
        || Error::Invalid { what: format!("current working directory {cwd:?} is outside of the container") };
    let real = rustix::process::getcwd(Vec::new()).step(|| format!("getcwd after chdir to {cwd:?}"))?;
    if real.to_bytes().starts_with(b"/") { Ok(()) } else { Err(outside()) }
}
