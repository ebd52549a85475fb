//! Signals as descriptors, masks, dispositions.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Errno;

/// A descriptor that becomes readable when one of its signals arrives.
#[derive(Debug)]
pub struct SignalFd {
    file: std::fs::File,
}

/// One received signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Who sent it, as far as the kernel knows.
    pub pid: i32,
}

impl SignalFd {
    /// Blocks `signals` for the calling thread (others inherit it when made later) and gives them
    /// as a non-blocking descriptor.
    pub fn new(signals: &[i32]) -> Result<Self, Errno> {
        let set = set_of(signals);
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: set is initialised and lives across the call; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        crate::raw::check(fd.into())?;
        // SAFETY: the call gave a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: fd.into() })
    }

    /// The next signal that arrived, if any.
    pub fn next_signal(&self) -> Result<Option<Received>, Errno> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut buffer = [0; SIZE];
        match (&self.file).read(&mut buffer) {
            Ok(SIZE) => {}
            Ok(_) => return Err(Errno::IO),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(crate::rooted::io_errno(error)),
        }
        let word = |at: usize| buffer.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
        // ssi_signo is the first word, ssi_pid the fourth (signalfd(2)).
        match (word(0), word(12)) {
            (Some(signal), Some(pid)) => Ok(Some(Received { signal, pid })),
            _ => Err(Errno::IO),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Waiting for SIGCHLD by the calling thread alone: blocked while this lives, and what was taken is sent anew at
/// the end, for whoever else it may have been meant for.
pub struct ChildNews {
    before: libc::sigset_t,
    taken: bool,
}

impl ChildNews {
    /// From now on none is missed.
    pub fn begin() -> Result<Self, Errno> {
        let mut before = set_of(&[]);
        let blocked = set_of(&[libc::SIGCHLD]);
        // SAFETY: both sets are initialised and live across the call.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before) } {
            0 => Ok(Self { before, taken: false }),
            errno => Err(Errno::from_raw_os_error(errno)),
        }
    }

    /// Waits for the next one, no longer than that and than a second. Another thread that has it unblocked may take it first.
    pub fn wait(&mut self, at_most: std::time::Duration) {
        let set = set_of(&[libc::SIGCHLD]);
        let nanos = if at_most.as_secs() > 0 { 999_999_999 } else { at_most.subsec_nanos() };
        let time = libc::timespec { tv_sec: 0, tv_nsec: nanos.into() };
        // SAFETY: set and time are initialised and live across the call; no siginfo is asked for.
        let signal = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time) };
        self.taken |= signal == libc::SIGCHLD;
    }
}

impl std::fmt::Debug for ChildNews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChildNews").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Drop for ChildNews {
    fn drop(&mut self) {
        if self.taken {
            // Blocked, or ignored where nobody asked for it.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::CHILD);
        }
        // What the mask was is a valid mask.
        let _ = mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Puts the calling thread in the state a program expects: nothing blocked, nothing ignored
/// (Rust's start code ignores SIGPIPE, and a parent may ignore more).
pub fn reset() -> Result<(), Errno> {
    // An all-zero `struct sigaction` of the kernel (four words at most) is SIG_DFL, no flags.
    let default = [0u64; 4];
    let old: *mut u64 = std::ptr::null_mut();
    for signal in 1..=64 {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        // Not libc's signal(): it refuses 32 and 33, which glibc's posix_spawn leaves ignored.
        // SAFETY: the new action lives across the call and is as large as the kernel's structure
        // with its 8-byte mask; the old one is not asked for; SIG_DFL needs no handler function.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, size_of::<u64>()) };
    }
    mask(libc::SIG_SETMASK, &set_of(&[]))
}

/// Blocks these signals for the calling thread.
pub fn block(signals: &[i32]) -> Result<(), Errno> {
    mask(libc::SIG_BLOCK, &set_of(signals))
}

fn mask(how: libc::c_int, set: &libc::sigset_t) -> Result<(), Errno> {
    // SAFETY: set is initialised and lives across the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the call above, which cannot fail for a valid pointer.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: set is initialised; a bad number is refused with EINVAL and leaves it as it was.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_of_children_are_passed_on() {
        let fd = SignalFd::new(&[libc::SIGCHLD]).unwrap();
        let mut news = ChildNews::begin().unwrap();
        // SAFETY: raises a signal that the calling thread has blocked.
        unsafe { libc::raise(libc::SIGCHLD) };
        let began = std::time::Instant::now();
        news.wait(std::time::Duration::from_secs(20));
        assert!(began.elapsed() < std::time::Duration::from_secs(10));
        assert_eq!(fd.next_signal().unwrap(), None);
        news.wait(std::time::Duration::from_millis(1));
        drop(news);
        // Sent to the process: other threads of the tests have it unblocked, and may have ignored it.
        let _ = fd.next_signal().unwrap();
    }

    #[test]
    fn a_blocked_signal_is_read() {
        let fd = SignalFd::new(&[libc::SIGUSR2]).unwrap();
        assert_eq!(fd.next_signal().unwrap(), None);
        // SAFETY: raises a signal that the calling thread has blocked.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert_eq!(fd.next_signal().unwrap().map(|r| r.signal), Some(libc::SIGUSR2));
    }
}
