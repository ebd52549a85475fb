//! `create` and `run`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use seacow_runtime::cgroup::Cgroups;
use seacow_runtime::hooks::Stage;
use seacow_runtime::init::{Manner, Prepared, Running};
use seacow_spec::oci::runtime::{LinuxNamespace, NamespaceKind};
use seacow_spec::time::Timestamp;
use seacow_sys::{process, pty, unix};

use super::args::{Globals, Parsed};
use super::bundle::{self, Bundle};
use super::error::CliError;
use super::log::Log;
use super::state::{self, Lock, Record, START_SOCKET, StateDir, Status};
use super::streams::{self, Foreground};
use super::{delete, hooks, start};

/// Makes a container up to the point where it waits for `start`.
pub(crate) fn create(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    // The binary that enters the container shall not be the file on disk.
    seacow_runtime::seal::ensure()?;
    make(globals, parsed, true).map(drop)
}

/// create, start and, in the foreground, wait and delete.
pub(crate) fn run(globals: &Globals, parsed: &Parsed) -> Result<ExitCode, CliError> {
    seacow_runtime::seal::ensure()?;
    let detached = parsed.has("detach");
    let foreground = if detached { None } else { Some(Foreground::new()?) };
    if !parsed.has("no-subreaper") && !detached {
        process::become_subreaper().map_err(|e| CliError::file("become", "subreaper", e))?;
    }
    let made = make(globals, parsed, detached)?;
    let started = start::start(globals, parsed);
    let Some(foreground) = foreground else {
        // Nobody else would take it away.
        return started
            .map(|()| ExitCode::SUCCESS)
            .inspect_err(|_| drop(delete::by_id(globals, &made.id, true)));
    };
    let code = started.and_then(|()| foreground.wait(&made.running.pidfd, made.terminal));
    drop(made.running.namespaces);
    let deleted = match &code {
        Ok(_) if parsed.has("keep") => Ok(()),
        Ok(_) | Err(_) => delete::by_id(globals, &made.id, true),
    };
    let code = code?;
    deleted?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

struct Made {
    id: String,
    running: Running,
    terminal: Option<OwnedFd>,
}

/// Everything of `create`. What was made is taken back when a later step fails.
fn make(globals: &Globals, parsed: &Parsed, away: bool) -> Result<Made, CliError> {
    let id = parsed.id()?;
    let state_dir = StateDir::of(globals, id)?;
    let dir = parsed.value("bundle").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut bundle = bundle::load(&dir, id, globals.systemd_cgroup)?;
    bundle.warnings.iter().for_each(|warning| globals.log.note(warning));
    let inherited = Inherited::of(parsed)?;
    inherited.tell(&mut bundle);
    let console = parsed.value("console-socket").map(Path::new);
    check_console(bundle.process.terminal, console, away)?;
    let cgroups = Cgroups::new(&bundle.prepare.cgroups_path)?;
    let alone = check_cgroups(&cgroups, &globals.log)?;
    let lock = state_dir.make()?;
    let making = Making { log: &globals.log, parsed, bundle: &bundle, dir: &state_dir, inherited };
    making.make(console, lock).inspect_err(|_| {
        // The first error is told; the handle of init has killed it by now.
        if alone {
            let _ = cgroups.kill_all();
            let _ = cgroups.remove();
        }
        let _ = state_dir.remove();
        // Earlier hooks may have made what these take back.
        if let Ok(record) = making.record(id, 0) {
            hooks::run_all(globals, Stage::Poststop, &record, Status::Stopped);
        }
    })
}

/// A terminal needs somebody to take it.
fn check_console(terminal: bool, console: Option<&Path>, away: bool) -> Result<(), CliError> {
    let program = super::help::program();
    if terminal && away && console.is_none() {
        let why = format!("cannot allocate tty if {program} will detach without setting console socket");
        return Err(CliError::State(why));
    }
    if console.is_some() && !(terminal && away) {
        let why = format!("cannot use console socket if {program} will not detach or allocate tty");
        return Err(CliError::State(why));
    }
    Ok(())
}

/// Whether nobody else lives in the cgroups. A frozen one would freeze init.
fn check_cgroups(cgroups: &Cgroups, log: &Log) -> Result<bool, CliError> {
    let others = cgroups.pids()?.len();
    if cgroups.is_frozen().unwrap_or(false) {
        return Err(CliError::State("container's cgroup unexpectedly frozen".into()));
    }
    if others > 0 {
        log.warn(&format_args!("container's cgroup is not empty: {others} process(es) found"));
    }
    Ok(others == 0)
}

/// Descriptors that the container's program inherits, from 3 on.
#[derive(Clone, Copy, Debug)]
struct Inherited {
    /// Sockets of socket activation come first.
    sockets: u32,
    all: u32,
}

impl Inherited {
    fn of(parsed: &Parsed) -> Result<Self, CliError> {
        let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u32>().ok());
        let for_us = number("LISTEN_PID").is_none_or(|pid| pid == std::process::id());
        let sockets = number("LISTEN_FDS").filter(|_| for_us).unwrap_or(0);
        let preserved = parsed.number::<u32>("preserve-fds")?.unwrap_or(0);
        let all = sockets.saturating_add(preserved);
        streams::check_inherited(all)?;
        Ok(Self { sockets, all })
    }

    /// Tells the program of its sockets, as sd_listen_fds(3) wants it.
    fn tell(self, bundle: &mut Bundle) {
        if self.sockets > 0
            && let Some(process) = &mut bundle.create.spec.process
        {
            process.env.push(format!("LISTEN_FDS={}", self.sockets));
            process.env.push("LISTEN_PID=1".into());
        }
    }
}

/// A container being made.
struct Making<'a> {
    log: &'a Log,
    parsed: &'a Parsed,
    bundle: &'a Bundle,
    dir: &'a StateDir,
    inherited: Inherited,
}

impl Making<'_> {
    fn make(&self, console: Option<&Path>, lock: Lock) -> Result<Made, CliError> {
        let (bundle, dir, log) = (self.bundle, self.dir, self.log);
        let id = self.parsed.id()?;
        // Whoever kills us from here on leaves a record by which `delete` finds everything.
        dir.write(&self.record(id, 0)?)?;
        let manner =
            Manner { no_pivot: self.parsed.has("no-pivot"), keep_keyring: self.parsed.has("no-new-keyring") };
        let streams = streams::own(bundle.process.terminal)?;
        log.debug("nsexec container setup: cloning init into its namespaces");
        let mut prepared = Prepared::in_manner(&bundle.prepare, &dir.path.join("stage"), manner)?;
        prepared.settle()?;
        log.debug(&format!("child process in init(): pid {}", prepared.pid()));
        let record = self.record(id, prepared.pid())?;
        let mut created = prepared.configure(&bundle.create, streams)?;
        log.debug("init: root file system and mounts are in place");
        let terminal = match (created.take_terminal(), console) {
            (Some(master), Some(socket)) => {
                streams::send_console(socket, &master)?;
                None
            }
            (Some(master), None) => {
                pty::keep_line_ends(master.as_fd())
                    .map_err(|e| CliError::file("set modes of", "the terminal", e))?;
                Some(master)
            }
            (None, _) => None,
        };
        let listener = unix::listen(dir.open()?.as_fd(), START_SOCKET, 1)
            .map_err(|e| CliError::file("listen on", dir.path.join(START_SOCKET), e))?;
        dir.write(&record)?;
        if let Some(path) = self.parsed.value("pid-file") {
            write_pid(Path::new(path), record.pid)?;
        }
        // All that others need is written. Init has copies of our descriptors: were we killed once it
        // does not depend on us any more, it would hold the lock until its start.
        drop(lock);
        let running = created.detach(listener.as_fd(), self.inherited.all)?;
        log.debug("init: closing the pipe to signal completion; it waits for its start");
        Ok(Made { id: id.to_owned(), running, terminal })
    }

    /// What is kept of it. Pid 0: it has none yet.
    fn record(&self, id: &str, pid: i32) -> Result<Record, CliError> {
        let bundle = self.bundle;
        let lost = || CliError::State("init ended before it was configured".into());
        let start_time = if pid == 0 { 0 } else { state::stat(pid).ok_or_else(lost)?.1 };
        let own_pids = |n: &LinuxNamespace| n.kind == NamespaceKind::Pid && n.path.is_empty();
        Ok(Record {
            id: id.to_owned(),
            pid,
            start_time,
            bundle: bundle.dir.clone(),
            rootfs: bundle.rootfs.clone(),
            created: Timestamp::now().to_string(),
            cgroups_path: bundle.prepare.cgroups_path.clone(),
            annotations: bundle.create.spec.annotations.clone(),
            uid: rustix::process::geteuid().as_raw(),
            own_pids: bundle.prepare.namespaces.iter().any(own_pids),
            keep_keyring: self.parsed.has("no-new-keyring"),
            process: bundle.process.clone(),
            seccomp: bundle.create.seccomp.clone(),
            hooks: bundle.create.spec.hooks.clone().unwrap_or_default(),
        })
    }
}

/// Writes a pid file, whole or not at all.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<(), CliError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|e| CliError::file("write", path, e))
}
