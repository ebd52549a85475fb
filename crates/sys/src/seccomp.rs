//! System call filters.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::Errno;

/// One instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Options of a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// Put the filter on all threads.
    pub const TSYNC: Self = Self(1);
    /// Log every action but allow.
    pub const LOG: Self = Self(2);
    /// Do not turn on mitigations of speculative store bypass.
    pub const SPEC_ALLOW: Self = Self(4);
    /// Notifications cannot be interrupted by signals that are not deadly.
    pub const WAIT_KILLABLE_RECV: Self = Self(32);
    const NEW_LISTENER: u32 = 8;
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[repr(C)]
struct Program {
    len: libc::c_ushort,
    filter: *const SockFilter,
}

/// Puts a filter on the calling thread, for ever. Needs CAP_SYS_ADMIN or no_new_privs.
pub fn load(filter: &[SockFilter], flags: Flags) -> Result<(), Errno> {
    set_filter(filter, flags.0 & !Flags::NEW_LISTENER).map(drop)
}

/// As [`load`]; gives the descriptor that receives notifications.
pub fn load_with_listener(filter: &[SockFilter], flags: Flags) -> Result<OwnedFd, Errno> {
    let fd = set_filter(filter, flags.0 | Flags::NEW_LISTENER)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: with NEW_LISTENER the call gives a new close-on-exec descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_filter(filter: &[SockFilter], flags: u32) -> Result<libc::c_long, Errno> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let len = libc::c_ushort::try_from(filter.len()).map_err(|_| Errno::TOOBIG)?;
    let program = Program { len, filter: filter.as_ptr() };
    // SAFETY: program points to `len` instructions of the kernel's layout that live across the call;
    // the kernel copies and verifies them.
    crate::raw::check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) })
}

/// Whether the kernel knows this action (SECCOMP_RET_*).
pub fn knows_action(action: u32) -> bool {
    const GET_ACTION_AVAIL: libc::c_uint = 2;
    // SAFETY: the operation reads one u32 that lives across the call.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names it in the answer.
    pub id: u64,
    /// Who calls, as the receiver sees it.
    pub pid: u32,
    /// The call's number.
    pub number: i32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does what was asked.
    Continue,
    /// The call fails with this errno.
    Fail(i32),
    /// The call returns this value.
    Value(i64),
}

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Default)]
struct RawNotification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct RawAnswer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// Waits for the next call; `None` when nobody has the filter any more.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Option<Notification>, Errno> {
    /// `SECCOMP_IOCTL_NOTIF_RECV`: `_IOWR('!', 0, struct seccomp_notif)`.
    const RECEIVE: u32 = 0xc050_2100;
    loop {
        let mut raw = RawNotification::default();
        // SAFETY: raw has the kernel's layout, is zeroed as it demands, and lives across the call.
        let done = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as libc::Ioctl, &raw mut raw) };
        match crate::raw::check(done.into()) {
            Ok(_) => {
                let RawNotification { id, pid, number, args, .. } = raw;
                return Ok(Some(Notification { id, pid, number, args }));
            }
            // A signal, or the caller was killed before we looked: then there may be nobody left.
            Err(Errno::INTR) => {}
            Err(Errno::NOENT) if hung_up(listener)? => return Ok(None),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn hung_up(listener: BorrowedFd<'_>) -> Result<bool, Errno> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::from_borrowed_fd(listener, PollFlags::empty())];
    poll(&mut fds, Some(&rustix::event::Timespec::default()))?;
    Ok(fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP)))
}

/// Answers one call. `ENOENT` when the caller has gone.
pub fn answer(listener: BorrowedFd<'_>, id: u64, what: Answer) -> Result<(), Errno> {
    /// `SECCOMP_IOCTL_NOTIF_SEND`: `_IOWR('!', 1, struct seccomp_notif_resp)`.
    const SEND: u32 = 0xc018_2101;
    const CONTINUE: u32 = 1;
    let (value, error, flags) = match what {
        Answer::Continue => (0, 0, CONTINUE),
        Answer::Fail(errno) => (0, -errno, 0),
        Answer::Value(value) => (value, 0, 0),
    };
    let raw = RawAnswer { id, value, error, flags };
    // SAFETY: raw has the kernel's layout and lives across the call, which only reads it.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), SEND as libc::Ioctl, &raw const raw) };
    crate::raw::check(done.into()).map(drop)
}
