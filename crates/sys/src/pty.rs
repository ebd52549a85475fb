//! Terminals.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};

pub use rustix::termios::Winsize;

use crate::Errno;

/// Both ends of a new terminal.
#[derive(Debug)]
pub struct Pair {
    /// The end of whoever plays the terminal.
    pub master: OwnedFd,
    /// The end of the program.
    pub slave: OwnedFd,
}

/// Makes a terminal in the devpts instance mounted at `devpts`. The slave is opened through the
/// master, not by a path that the container might have replaced (Linux 4.13).
pub fn open_pair(devpts: BorrowedFd<'_>) -> Result<Pair, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(Pair { master, slave })
}

/// The slave's path in its own devpts instance, `/dev/pts/<n>`.
pub fn slave_name(master: BorrowedFd<'_>) -> Result<std::ffi::CString, Errno> {
    rustix::pty::ptsname(master, Vec::new())
}

/// Makes the terminal the controlling one of the calling session leader.
pub fn make_controlling(slave: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::ioctl_tiocsctty(slave)
}

/// Sets the size in characters.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<(), Errno> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// The size in characters, rows and columns.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16), Errno> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Lets line ends pass as the program writes them: its output may go to a file.
pub fn keep_line_ends(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut how = rustix::termios::tcgetattr(terminal)?;
    how.output_modes.remove(rustix::termios::OutputModes::ONLCR);
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &how)
}

/// Whether it is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// A terminal in raw mode; the old mode comes back on drop.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    old: Termios,
}

impl RawMode {
    /// Passes every key through: for the terminal of a client.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self, Errno> {
        let terminal = rustix::io::fcntl_dupfd_cloexec(terminal, 3)?;
        let old = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = old.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Self { terminal, old })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing sensible can be done when the terminal is gone.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_size() {
        let devpts = rustix::fs::open("/dev/pts", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let pair = match open_pair(devpts.as_fd()) {
            // ptmxmode=000 for who is not root.
            Err(Errno::ACCESS) => return eprintln!("SKIP: /dev/pts/ptmx may not be opened"),
            pair => pair.unwrap(),
        };
        set_size(pair.master.as_fd(), 33, 77).unwrap();
        assert_eq!(size(pair.slave.as_fd()).unwrap(), (33, 77));
        assert!(is_terminal(&pair.slave));
    }
}
