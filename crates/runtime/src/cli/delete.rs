//! `delete`.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use seacow_runtime::hooks::Stage;
use seacow_sys::{Errno, process};

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::hooks;
use super::log::Log;
use super::state::{self, Record, StateDir, Status};

/// Removes what is left of a container.
pub(crate) fn delete(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    by_id(globals, parsed.id()?, parsed.has("force"))
}

/// As [`delete`]; `force` kills it first, and finds nothing wrong with a container that is not there.
pub(crate) fn by_id(globals: &Globals, id: &str, force: bool) -> Result<(), CliError> {
    let dir = StateDir::of(globals, id)?;
    let _lock = match dir.lock() {
        Err(CliError::NoContainer(_)) if force => return Ok(()),
        lock => lock?,
    };
    let record = match dir.read() {
        // Its maker did not come further than the directory.
        Err(CliError::NoContainer(_)) if force => return dir.remove(),
        read => read?,
    };
    let status = dir.status(&record);
    match status {
        Status::Stopped => {}
        Status::Created => kill(&record)?,
        Status::Creating | Status::Running | Status::Paused if force => kill(&record)?,
        Status::Creating | Status::Running | Status::Paused => {
            let why = format!("cannot delete container {id} that is not stopped: {}", status.word());
            return Err(CliError::State(why));
        }
    }
    remove_cgroups(&record, &globals.log)?;
    dir.remove()?;
    hooks::run_all(globals, Stage::Poststop, &record, Status::Stopped);
    Ok(())
}

/// Ends whoever is left in the cgroups, and removes them.
fn remove_cgroups(record: &Record, log: &Log) -> Result<(), CliError> {
    let cgroups = record.cgroups()?;
    if !cgroups.exists() {
        return Ok(());
    }
    if record.own_pids && record.pid != 0 {
        // With init all of the container has ended: whoever is left came from elsewhere.
        let others = cgroups.pids()?.into_iter().filter(|pid| state::stat(*pid).is_some_and(|s| s.0 != 'Z'));
        let others = others.count();
        if others > 0 {
            log.warn(&format_args!("container's cgroup is left to {others} other process(es) in it"));
            return Ok(());
        }
    } else {
        cgroups.kill_all()?;
    }
    Ok(cgroups.remove()?)
}

/// How long a killed init may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn kill(record: &Record) -> Result<(), CliError> {
    let Some(pidfd) = state::open_init(record) else { return Ok(()) };
    match process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(CliError::file("kill", format!("process {}", record.pid), errno)),
    }
    // A frozen process dies when it is thawed.
    let _ = record.cgroups().map(|c| c.thaw());
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&PATIENCE)) {
        Ok(1) => Ok(()),
        Ok(_) => Err(CliError::State(format!("process {} did not end after SIGKILL", record.pid))),
        Err(errno) => Err(CliError::file("wait for", format!("process {}", record.pid), errno)),
    }
}
