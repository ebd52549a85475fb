//! `exec`.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use seacow_runtime::cgroup::SubCgroups;
use seacow_runtime::exec::{Container, Options, start_with};
use seacow_runtime::seccomp::notify::Agent;
use seacow_spec::id::ExecId;
use seacow_spec::oci::runtime::{Capabilities, Process};
use seacow_spec::shim::Exec;

use super::args::{Globals, Parsed};
use super::bundle;
use super::create::write_pid;
use super::error::CliError;
use super::state::{self, Record, StateDir, Status, read_json};
use super::streams::{self, Foreground};

/// Runs one more process in a running container.
pub(crate) fn exec(globals: &Globals, parsed: &Parsed) -> Result<ExitCode, CliError> {
    run(globals, parsed).map_err(|error| CliError::Exec(Box::new(error)))
}

fn run(globals: &Globals, parsed: &Parsed) -> Result<ExitCode, CliError> {
    if parsed.operands.len() < 2 && parsed.value("process").is_none() {
        return Err(CliError::Usage("exec needs a command, or --process FILE".into()));
    }
    // Before anything else: the binary that enters the container shall not be the file on disk.
    seacow_runtime::seal::ensure()?;
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    match dir.status(&record) {
        Status::Running | Status::Created => {}
        Status::Paused if parsed.has("ignore-paused") => {}
        Status::Paused => {
            return Err(CliError::State(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            ));
        }
        Status::Creating | Status::Stopped => {
            return Err(CliError::State("cannot exec in a stopped container".into()));
        }
    }
    let init = state::open_init(&record).ok_or_else(|| CliError::State("container not running".into()))?;
    let process = process(parsed, &record)?;
    let detach = parsed.has("detach");
    let console = parsed.value("console-socket").map(Path::new);
    if process.terminal && detach && console.is_none() {
        return Err(CliError::State(
            "cannot allocate tty if runc will detach without setting console socket".into(),
        ));
    }
    let request = Exec {
        exec_id: ExecId::random().map_err(|e| CliError::file("draw", "an id", e))?,
        user: user(parsed, &process)?,
        extra_groups: groups(parsed, &process),
        seccomp: record.seccomp.clone(),
        stdio: bundle::stdio(&process),
        attach: None,
        process,
    };
    let foreground = if detach { None } else { Some(Foreground::new()?) };
    let cgroups = record.cgroups()?;
    let container =
        Container { pid: record.pid, pidfd: init.as_fd(), cgroups: &cgroups, rare_namespaces: None };
    let preserve_fds = parsed.number("preserve-fds")?.unwrap_or(0);
    streams::check_inherited(preserve_fds)?;
    let agent = Agent::of(&request.seccomp, || state::oci(&record, Status::Running));
    let sub_cgroups = SubCgroups::parse(parsed.values("cgroup"))?;
    let options = Options {
        agent: agent.as_ref(),
        sub_cgroups,
        preserve_fds,
        keep_keyring: record.keep_keyring,
        plain_line_ends: console.is_none(),
        outlive_parent: detach,
    };
    globals.log.debug("nsexec container setup: cloning a process into the container's namespaces");
    let started = start_with(container, &request, streams::own(request.process.terminal)?, options)?;
    globals.log.debug(&format!("child process in init(): pid {}", started.pid));
    globals.log.debug("setns_init: about to exec: done");
    if let Some(path) = parsed.value("pid-file") {
        // Who is told that exec failed must not find its process running.
        write_pid(Path::new(path), started.pid).inspect_err(|_| {
            let _ = seacow_sys::process::pidfd_signal(started.pidfd.as_fd(), libc::SIGKILL);
        })?;
    }
    let terminal = match (started.terminal, console) {
        (Some(master), Some(socket)) => {
            streams::send_console(socket, &master)?;
            None
        }
        (terminal, _) => terminal,
    };
    match foreground {
        None => Ok(ExitCode::SUCCESS),
        Some(foreground) => {
            let code = foreground.wait(&started.pidfd, terminal)?;
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
        }
    }
}

/// The process: from a file, or the container's own with what the flags change.
fn process(parsed: &Parsed, record: &Record) -> Result<Process, CliError> {
    if let Some(file) = parsed.value("process") {
        return read_json(Path::new(file));
    }
    let args = parsed.operands.get(1..).unwrap_or(&[]).to_vec();
    let mut process = Process { args, terminal: parsed.has("tty"), ..record.process.clone() };
    if let Some(cwd) = parsed.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    process.env.extend_from_slice(parsed.values("env"));
    if parsed.has("no-new-privs") {
        process.no_new_privileges = true;
    }
    if let Some(label) = parsed.value("process-label") {
        process.selinux_label = label.to_owned();
    }
    if let Some(profile) = parsed.value("apparmor") {
        process.apparmor_profile = profile.to_owned();
    }
    let caps = parsed.values("cap");
    if !caps.is_empty() {
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend_from_slice(caps);
        }
    }
    Ok(process)
}

fn user(parsed: &Parsed, process: &Process) -> Result<String, CliError> {
    let Some(user) = parsed.value("user") else { return Ok(bundle::user(process)) };
    let numbers = user.split(':').all(|part| part.parse::<u32>().is_ok());
    if numbers {
        Ok(user.to_owned())
    } else {
        Err(CliError::Usage(format!("--user wants uid[:gid], not {user:?}")))
    }
}

fn groups(parsed: &Parsed, process: &Process) -> Vec<String> {
    let own = process.user.additional_gids.iter().map(u32::to_string);
    own.chain(parsed.values("additional-gids").iter().cloned()).collect()
}
