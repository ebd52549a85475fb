//! Programs of others, run as children.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Errno;

/// Lets the program be killed when the calling thread ends: what it was to make would have no
/// owner. (Lost when it executes something set-id.) Signals are as programs expect them: std passes
/// on what its caller blocked for a descriptor of signals.
pub fn die_with_parent(command: &mut Command) {
    let parent = crate::process::own_pid();
    let tie = move || {
        crate::signal::reset()?;
        crate::process::die_with_parent()?;
        // The parent may have ended before the tie was there.
        if crate::process::parent_pid() == parent { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(tie) };
}

/// Gives the program a process group of its own, and the terminal on its standard input, if there
/// is one, to that group: `^C` is for it and not for its parent. Signals are as programs expect
/// them.
pub fn take_foreground(command: &mut Command) {
    let take = || {
        rustix::process::setpgid(None, None)?;
        let stdin = rustix::stdio::stdin();
        if crate::pty::is_terminal(stdin) {
            // From the background, which we are since the call above, this is answered by a stop.
            crate::signal::block(&[libc::SIGTTOU])?;
            match rustix::termios::tcsetpgrp(stdin, rustix::process::getpid()) {
                // A terminal that is not our session's.
                Ok(()) | Err(Errno::NOTTY | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(crate::signal::reset()?)
    };
    // SAFETY: between fork and exec the closure makes system calls and allocates nothing.
    unsafe { command.pre_exec(take) };
}

/// Waits for a child, but not for ever: `None` when it still ran after `patience` and was killed.
///
/// # Errors
/// The child cannot be watched.
pub fn wait_within(child: &mut Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let pidfd = crate::process::pidfd_open(i32::try_from(child.id()).unwrap_or(-1))?;
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))?;
    if ready == 0 {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok((ready != 0).then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_and_waits_are_bounded() {
        let mut ending = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let status = wait_within(&mut ending, Duration::from_secs(20)).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        let mut command = Command::new("sleep");
        die_with_parent(&mut command);
        let mut hanging = command.arg("1000").spawn().unwrap();
        assert!(wait_within(&mut hanging, Duration::from_millis(10)).unwrap().is_none());
    }
}
