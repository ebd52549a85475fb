//! `create` and `run`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use seacow_runtime::cgroup::Cgroups;
use seacow_runtime::init::{Prepared, Running};
use seacow_spec::time::Timestamp;
use seacow_sys::{process, unix};

use super::args::{Globals, Parsed};
use super::bundle::{self, Bundle};
use super::error::CliError;
use super::state::{self, Record, START_SOCKET, StateDir};
use super::streams::{self, Foreground};
use super::{delete, log, start};

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
    let Some(foreground) = foreground else { return started.map(|()| ExitCode::SUCCESS) };
    let code = started.and_then(|()| foreground.wait(&made.running.pidfd, made.terminal));
    drop(made.running.mount_namespace);
    let deleted = if parsed.has("keep") { Ok(()) } else { delete::by_id(globals, parsed.id()?, true) };
    let code = code?;
    deleted?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

struct Made {
    running: Running,
    terminal: Option<std::os::fd::OwnedFd>,
}

/// Everything of `create`. What was made is taken back when a later step fails.
fn make(globals: &Globals, parsed: &Parsed, away: bool) -> Result<Made, CliError> {
    if parsed.has("no-pivot") {
        return Err(CliError::NotImplemented("--no-pivot".into()));
    }
    let id = parsed.id()?;
    let dir = parsed.value("bundle").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let bundle = bundle::load(&dir, id)?;
    bundle.warnings.iter().for_each(|warning| log::warn(globals, warning));
    let console = parsed.value("console-socket").map(Path::new);
    if bundle.process.terminal && console.is_none() && away {
        return Err(CliError::State(
            "cannot allocate tty if runc will detach without setting console socket".into(),
        ));
    }
    let cgroups = Cgroups::new(&bundle.prepare.cgroups_path)?;
    let state_dir = StateDir::of(globals, id)?;
    state_dir.make()?;
    make_in(parsed, &bundle, &state_dir, console).inspect_err(|_| {
        // The first error is told; the handle of init has killed it by now.
        let _ = cgroups.kill_all();
        let _ = cgroups.remove();
        let _ = state_dir.remove();
    })
}

fn make_in(
    parsed: &Parsed,
    bundle: &Bundle,
    dir: &StateDir,
    console: Option<&Path>,
) -> Result<Made, CliError> {
    let streams = streams::own(bundle.process.terminal)?;
    let mut prepared = Prepared::new(&bundle.prepare, &dir.path.join("stage"))?;
    prepared.settle()?;
    let record = record(parsed.id()?, bundle, prepared.pid())?;
    let mut created = prepared.configure(&bundle.create, streams)?;
    let terminal = created.take_terminal();
    let terminal = match (terminal, console) {
        (Some(master), Some(socket)) => {
            streams::send_console(socket, &master)?;
            None
        }
        (terminal, _) => terminal,
    };
    let listener = unix::listen(dir.open()?.as_fd(), START_SOCKET, 1)
        .map_err(|e| CliError::file("listen on", dir.path.join(START_SOCKET), e))?;
    let preserve = parsed.number::<u32>("preserve-fds")?.unwrap_or(0) + inherited_sockets();
    dir.write(&record)?;
    if let Some(path) = parsed.value("pid-file") {
        write_pid(Path::new(path), record.pid)?;
    }
    let running = created.detach(listener.as_fd(), preserve)?;
    Ok(Made { running, terminal })
}

/// Writes a pid file, whole or not at all.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<(), CliError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|e| CliError::file("write", path, e))
}

/// Sockets of socket activation are the program's.
fn inherited_sockets() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn record(id: &str, bundle: &Bundle, pid: i32) -> Result<Record, CliError> {
    let lost = || CliError::State("init ended before it was configured".into());
    let (_, start_time) = state::stat(pid).ok_or_else(lost)?;
    Ok(Record {
        id: id.to_owned(),
        pid,
        start_time,
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created: Timestamp::now().to_string(),
        cgroups_path: bundle.prepare.cgroups_path.clone(),
        annotations: bundle.create.spec.annotations.clone(),
        process: bundle.process.clone(),
        seccomp: bundle.create.seccomp.clone(),
        hooks: bundle.create.spec.hooks.clone().unwrap_or_default(),
    })
}
