//! Standard streams of what the command line starts: our own, or a terminal that goes to a console
//! socket or is shown on ours.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use seacow_runtime::Streams;
use seacow_sys::signal::SignalFd;
use seacow_sys::{Errno, process, pty, unix};

use super::error::CliError;

/// Our own streams for a process, or a terminal.
pub(crate) fn own(terminal: bool) -> Result<Streams, CliError> {
    if terminal {
        return Ok(Streams::Terminal);
    }
    let duplicate = |fd: BorrowedFd<'_>| {
        // A stream that is closed for us is /dev/null for the container.
        match rustix::io::fcntl_dupfd_cloexec(fd, 3) {
            Err(Errno::BADF) => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()),
            done => done,
        }
        .map_err(|e| CliError::file("duplicate", "standard stream", e))
    };
    Ok(Streams::Files {
        stdin: duplicate(rustix::stdio::stdin())?,
        stdout: duplicate(rustix::stdio::stdout())?,
        stderr: duplicate(rustix::stdio::stderr())?,
    })
}

/// Whether descriptors 3 to 2 + `count` are the caller's to hand on: they came through execve, so
/// they are open and not close-on-exec. All of ours are, and none of them may leak.
pub(crate) fn check_inherited(count: u32) -> Result<(), CliError> {
    for number in 3..count.saturating_add(3) {
        let missing = |e: std::io::Error| CliError::file("preserve descriptor", number.to_string(), e);
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).map_err(missing)?;
        let octal = flags.lines().find_map(|l| l.strip_prefix("flags:")).map(str::trim).unwrap_or_default();
        let flags = i32::from_str_radix(octal, 8).unwrap_or(libc::O_CLOEXEC);
        if flags & libc::O_CLOEXEC != 0 {
            return Err(missing(Errno::BADF.into()));
        }
    }
    Ok(())
}

/// Sends the terminal's master to whoever listens at `socket`.
pub(crate) fn send_console(socket: &Path, master: &OwnedFd) -> Result<(), CliError> {
    let connection = unix::connect_path(socket).map_err(|e| CliError::file("connect to", socket, e))?;
    let name = pty::slave_name(master.as_fd()).map_err(|e| CliError::file("name", "terminal", e))?;
    unix::send(connection.as_fd(), name.to_bytes(), &[master.as_fd()])
        .map(drop)
        .map_err(|e| CliError::file("send the terminal to", socket, e))
}

/// Signals that are passed on to a foreground container, CHLD and WINCH besides.
const FORWARDED: [i32; 6] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Stays in the foreground until the process has ended: passes signals on and shows its terminal.
pub(crate) struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Before the process is made: no signal may be lost.
    pub(crate) fn new() -> Result<Self, CliError> {
        let mut all = FORWARDED.to_vec();
        all.push(libc::SIGWINCH);
        let signals = SignalFd::new(&all).map_err(|e| CliError::file("receive", "signals", e))?;
        Ok(Self { signals })
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&self, pidfd: &OwnedFd, master: Option<OwnedFd>) -> Result<i32, CliError> {
        let failed = |e: Errno| CliError::file("wait for", "the container", e);
        let raw = match &master {
            Some(master) if pty::is_terminal(rustix::stdio::stdin()) => {
                copy_size(master);
                Some(pty::RawMode::enter(rustix::stdio::stdin()).map_err(failed)?)
            }
            _ => None,
        };
        let mut master = master.map(std::fs::File::from);
        let mut read_stdin = master.is_some();
        loop {
            let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            let stdin = rustix::stdio::stdin();
            if let Some(master) = &master {
                fds.push(PollFd::new(master, PollFlags::IN));
                if read_stdin {
                    fds.push(PollFd::new(&stdin, PollFlags::IN));
                }
            }
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
            if is_ready(1) {
                self.forward(pidfd, master.as_ref());
            }
            if is_ready(3)
                && let Some(master) = &mut master
            {
                read_stdin = copy_once(&mut std::io::stdin(), master);
            }
            // Output before the end: the terminal is read until it is empty.
            if is_ready(2)
                && let Some(open) = &mut master
                && !copy_once(open, &mut std::io::stdout())
            {
                master = None;
            } else if is_ready(0) && !is_ready(2) {
                break;
            }
        }
        drop(raw);
        process::wait(pidfd.as_fd()).map(process::Ended::code).map_err(failed)
    }

    fn forward(&self, pidfd: &OwnedFd, master: Option<&std::fs::File>) {
        while let Ok(Some(received)) = self.signals.next_signal() {
            if received.signal == libc::SIGWINCH {
                if let Some(master) = master {
                    copy_size(master);
                }
            } else {
                // It may just have ended.
                let _ = process::pidfd_signal(pidfd.as_fd(), received.signal);
            }
        }
    }
}

/// Gives the container's terminal the size of ours.
fn copy_size(master: impl AsFd) {
    if let Ok((rows, cols)) = pty::size(rustix::stdio::stdin()) {
        let _ = pty::set_size(master.as_fd(), rows, cols);
    }
}

/// One read, one write; false at the end. A terminal whose slave is closed answers EIO.
fn copy_once(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut buffer = [0; 4096];
    match from.read(&mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(len) => buffer.get(..len).is_some_and(|part| to.write_all(part).and_then(|()| to.flush()).is_ok()),
    }
}
