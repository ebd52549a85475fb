//! The console socket: where another runtime sends the master of a terminal that it made.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use seacow_spec::shim::Stdio;
use seacow_sys::unix;

use super::files::Files;

const NAME: &str = "console.sock";
/// The runtime has sent by the time it is asked; this bounds the wait for one that has not.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// A listening console socket.
pub(super) struct Console {
    dir: OwnedFd,
    listener: OwnedFd,
}

impl Console {
    pub(super) fn listen(files: &Files) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(files.dir(), flags, Mode::empty())?;
        remove(dir.as_fd());
        let listener = unix::listen(dir.as_fd(), NAME, 1)?;
        Ok(Self { dir, listener })
    }

    /// Its path for the runtime: by descriptor, because a socket address holds 108 bytes.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}/{NAME}", seacow_sys::process::own_pid(), self.dir.as_raw_fd())
    }

    /// The terminal's master, with the size that the client wants.
    pub(super) fn take(self, stdio: Stdio) -> Result<OwnedFd, Errno> {
        await_readable(self.listener.as_fd())?;
        let connection = unix::accept(self.listener.as_fd())?;
        await_readable(connection.as_fd())?;
        // The name of the terminal, which nobody needs, comes with it.
        let mut name = [0; 4096];
        let received = unix::receive(connection.as_fd(), &mut name)?;
        let master = received.fds.into_iter().next().ok_or(Errno::BADMSG)?;
        if stdio.rows != 0 {
            let size = Winsize { ws_row: stdio.rows, ws_col: stdio.cols, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&master, size)?;
        }
        Ok(master)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        remove(self.dir.as_fd());
    }
}

fn remove(dir: BorrowedFd<'_>) {
    // There is none, as a rule.
    let _ = rustix::fs::unlinkat(dir, NAME, rustix::fs::AtFlags::empty());
}

fn await_readable(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&PATIENCE)))? {
        0 => Err(Errno::TIMEDOUT),
        _ => Ok(()),
    }
}
