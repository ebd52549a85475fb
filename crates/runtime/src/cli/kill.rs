//! `kill`, `pause`, `resume`.

use std::os::fd::AsFd;

use seacow_spec::signal;
use seacow_sys::process;

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::state::{self, StateDir, Status};

/// Sends a signal to init, or to all processes.
pub(crate) fn kill(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    let name = parsed.operands.get(1).map_or("SIGTERM", String::as_str);
    // 0 sends nothing and tells whether there is somebody to send to.
    let signal = if name == "0" { Ok(0) } else { signal::parse(name) };
    let signal = signal.map_err(|_| CliError::State(format!("unknown signal {name:?}")))?;
    if parsed.has("all") {
        return Ok(record.cgroups()?.signal_all(signal)?);
    }
    let pidfd = state::open_init(&record).ok_or_else(|| CliError::State("container not running".into()))?;
    process::pidfd_signal(pidfd.as_fd(), signal)
        .map_err(|e| CliError::file("send a signal to", format!("process {}", record.pid), e))?;
    if signal == libc::SIGKILL && dir.status(&record) == Status::Paused {
        // Frozen by version 1, it dies when it is thawed.
        record.cgroups()?.thaw()?;
    }
    Ok(())
}

/// Freezes all processes.
pub(crate) fn pause(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    match dir.status(&record) {
        Status::Running | Status::Created => Ok(record.cgroups()?.freeze()?),
        Status::Creating | Status::Paused | Status::Stopped => {
            Err(CliError::State("container not running".into()))
        }
    }
}

/// Thaws them.
pub(crate) fn resume(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    match dir.status(&record) {
        Status::Paused => Ok(record.cgroups()?.thaw()?),
        Status::Creating | Status::Running | Status::Created | Status::Stopped => {
            Err(CliError::State("container not paused".into()))
        }
    }
}
