//! `delete`.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use seacow_runtime::cgroup::Cgroups;
use seacow_runtime::hooks::Stage;
use seacow_sys::{Errno, process};

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::hooks;
use super::state::{self, Record, StateDir, Status};

/// Removes what is left of a container.
pub(crate) fn delete(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    by_id(globals, parsed.id()?, parsed.has("force"))
}

/// As [`delete`]; `force` kills it first, and finds nothing wrong with a container that is not there.
pub(crate) fn by_id(globals: &Globals, id: &str, force: bool) -> Result<(), CliError> {
    let dir = StateDir::of(globals, id)?;
    let record = match dir.read() {
        Err(CliError::NoContainer(_)) if force => return dir.remove(),
        read => read?,
    };
    let status = dir.status(&record);
    if status != Status::Stopped {
        if !force && status != Status::Created {
            return Err(CliError::State(format!(
                "cannot delete container {id} that is not stopped: {}",
                status.word()
            )));
        }
        kill(&record)?;
    }
    let cgroups = Cgroups::new(&record.cgroups_path)?;
    if cgroups.exists() {
        cgroups.kill_all()?;
        cgroups.remove()?;
    }
    dir.remove()?;
    hooks::run_all(globals, Stage::Poststop, &record, Status::Stopped);
    Ok(())
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
    let _ = Cgroups::new(&record.cgroups_path).and_then(|c| c.thaw());
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&PATIENCE)) {
        Ok(1) => Ok(()),
        Ok(_) => Err(CliError::State(format!("process {} did not end after SIGKILL", record.pid))),
        Err(errno) => Err(CliError::file("wait for", format!("process {}", record.pid), errno)),
    }
}
