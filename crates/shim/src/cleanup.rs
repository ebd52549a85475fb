//! `--cleanup`: what is left of a container whose shim was killed.
//!
//! The kernel has killed init with its parent, if init let it (PR_SET_PDEATHSIG is lost when a
//! set-id program is executed). What remains is found by the record the shim wrote before it made
//! anything: init by pid and start time, everything else by cgroup. Every step may have been done
//! by an earlier call.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use seacow_runtime::cgroup::{self, Cgroups};
use seacow_spec::Timestamp;
use seacow_spec::lifecycle::Exit;
use seacow_sys::process::{pidfd_open, pidfd_signal};

use crate::dir::{Dir, DirError};

/// How long a killed init may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;
/// Status of a container whose shim was killed: that of a process killed by SIGKILL.
const KILLED: i32 = 137;

/// Why something may be left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanupError {
    /// The exec directory's files.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Nothing may be cleaned up behind a shim's back.
    #[error("the container's shim is alive")]
    Alive,
    /// Init does not die.
    #[error("kill process {pid}: {errno}")]
    Kill {
        /// Init.
        pid: i32,
        /// Why.
        errno: Errno,
    },
    /// Files of a runtime that is not ours.
    #[error(transparent)]
    Foreign(seacow_spec::ErrorReport),
    /// Cgroups cannot be emptied or removed.
    #[error("{0}: {source}", source = text(.0))]
    Cgroup(#[from] cgroup::Error),
}

fn text(error: &cgroup::Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

/// Removes everything but the exit status, which it writes if there is none.
///
/// # Errors
/// A shim lives, or something cannot be removed; everything else was.
pub(crate) fn cleanup(dir: &Dir) -> Result<(), CleanupError> {
    if dir.is_served()? {
        return Err(CleanupError::Alive);
    }
    let record = dir.read_cleanup()?;
    let mut outcome = Ok(());
    if let Some(record) = record.as_ref().filter(|record| record.runtime.is_some()) {
        crate::foreign::clean_up(record, dir.foreign());
    }
    if let Some((pid, started)) = record.as_ref().and_then(|record| record.init) {
        let thaw = || {
            let path = record.as_ref().map(|record| record.cgroups_path.as_str());
            // What cannot be thawed was never frozen, or is gone.
            let _ = path.and_then(|path| Cgroups::new(path).ok()).map(|cgroups| cgroups.thaw());
        };
        outcome = kill(pid, started, thaw).map_err(|errno| CleanupError::Kill { pid, errno });
    }
    if let Some(record) = &record {
        outcome = outcome.and(remove_cgroups(&record.cgroups_path).map_err(CleanupError::from));
    }
    if !dir.has_exit() {
        let reason = Some("the container's shim was killed".to_owned());
        let exit = Exit { code: KILLED, at: Timestamp::now(), oom_killed: false, reason };
        outcome = outcome.and(dir.write_exit(&exit).map_err(CleanupError::from));
    }
    outcome?;
    crate::foreign::remove_files(dir.foreign()).map_err(CleanupError::Foreign)?;
    Ok(dir.clear()?)
}

fn remove_cgroups(path: &str) -> Result<(), cgroup::Error> {
    let cgroups = Cgroups::new(path)?;
    if cgroups.exists() {
        cgroups.kill_all()?;
        cgroups.remove()?;
    }
    Ok(())
}

/// Kills the process if it is still the one that started then, and waits until it is gone. A frozen
/// one goes when it was thawed.
fn kill(pid: i32, started: u64, thaw: impl FnOnce()) -> Result<(), Errno> {
    let pidfd = match pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    // Asked after the pidfd was opened: if the start time fits, the pidfd is that process.
    if start_time(pid) != Some(started) {
        return Ok(());
    }
    match pidfd_signal(pidfd.as_fd(), SIGKILL) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    thaw();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let patience = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&patience)))? {
        0 => Err(Errno::TIMEDOUT),
        _ => Ok(()),
    }
}

/// When a process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state follows the last one.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_that_was_meant_is_killed() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = start_time(pid).unwrap();
        kill(pid, started + 1, || ()).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        // A zombie is dead enough.
        kill(pid, started, || ()).unwrap();
        assert!(!child.wait().unwrap().success());
        kill(pid, started, || ()).unwrap();
    }
}
