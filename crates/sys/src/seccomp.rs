//! System call filters.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

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
