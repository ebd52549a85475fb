//! Namespaces: leave, join, name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::Errno;

/// A set of namespace kinds, as the kernel's CLONE_NEW* bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u64);

impl Kinds {
    /// Mounts.
    pub const MOUNT: Self = Self(0x0002_0000);
    /// Cgroup root.
    pub const CGROUP: Self = Self(0x0200_0000);
    /// Host and domain name.
    pub const UTS: Self = Self(0x0400_0000);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(0x0800_0000);
    /// User and group ids, capabilities.
    pub const USER: Self = Self(0x1000_0000);
    /// Process ids (of children).
    pub const PID: Self = Self(0x2000_0000);
    /// Network.
    pub const NETWORK: Self = Self(0x4000_0000);
    /// Boot and monotonic clocks (of children).
    pub const TIME: Self = Self(0x80);

    /// No kind.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Both sets, in constants.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has no kind.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other`'s kinds are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without `other`'s kinds.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The CLONE_NEW* bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Names of the kinds under `/proc/<pid>/ns`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Kinds, &str); 8] = [
            (Kinds::USER, "user"),
            (Kinds::MOUNT, "mnt"),
            (Kinds::CGROUP, "cgroup"),
            (Kinds::UTS, "uts"),
            (Kinds::IPC, "ipc"),
            (Kinds::PID, "pid"),
            (Kinds::NETWORK, "net"),
            (Kinds::TIME, "time"),
        ];
        NAMES.into_iter().filter(move |(kind, _)| self.contains(*kind)).map(|(_, name)| name)
    }
}

impl std::ops::BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Moves the calling thread into new namespaces.
pub fn unshare(kinds: Kinds) -> Result<(), Errno> {
    let bits = libc::c_int::try_from(kinds.bits()).map_err(|_| Errno::INVAL)?;
    // SAFETY: only CLONE_NEW* bits can be in a Kinds, never CLONE_FILES or CLONE_VM; no memory is touched.
    crate::raw::check(unsafe { libc::unshare(bits) }.into()).map(drop)
}

/// Moves the calling thread into the namespace of this descriptor (for PID and TIME: its children).
/// The descriptor must be of one of `kinds`; empty accepts any.
pub fn enter(namespace: BorrowedFd<'_>, kinds: Kinds) -> Result<(), Errno> {
    setns(namespace, kinds)
}

/// Moves the calling thread into all these namespaces of the process, at once or not at all
/// (Linux 5.8).
pub fn enter_process(pidfd: BorrowedFd<'_>, kinds: Kinds) -> Result<(), Errno> {
    setns(pidfd, kinds)
}

fn setns(fd: BorrowedFd<'_>, kinds: Kinds) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let bits = libc::c_int::try_from(kinds.bits()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the descriptor is borrowed for the call; no memory is touched.
    crate::raw::check(unsafe { libc::setns(fd.as_raw_fd(), bits) }.into()).map(drop)
}

/// Opens a namespace of a process. Use it while the process cannot have been reaped.
pub fn open(pid: i32, kind: Kinds) -> Result<OwnedFd, Errno> {
    let mut names = kind.names();
    let (Some(name), None) = (names.next(), names.next()) else { return Err(Errno::INVAL) };
    open_path(format!("/proc/{pid}/ns/{name}"))
}

/// Opens a namespace of the calling thread.
pub fn open_own(kind: Kinds) -> Result<OwnedFd, Errno> {
    let mut names = kind.names();
    let (Some(name), None) = (names.next(), names.next()) else { return Err(Errno::INVAL) };
    open_path(format!("/proc/thread-self/ns/{name}"))
}

/// Opens a namespace by a path such as `/proc/1/ns/net` or a bind mount of one. That it is a
/// namespace at all is checked when it is entered.
pub fn open_path(path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    // Not waiting, should it be a fifo.
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
}

/// Which kind of namespace a descriptor is of; `ENOTTY` when of none.
pub fn kind_of(namespace: BorrowedFd<'_>) -> Result<Kinds, Errno> {
    use std::os::fd::AsRawFd;
    // _IO(0xb7, 3), see ioctl_ns(2).
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the descriptor is borrowed for the call, which touches no memory of ours.
    let bits = crate::raw::check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _) }.into())?;
    u64::try_from(bits).map(Kinds).map_err(|_| Errno::INVAL)
}

/// Whether two descriptors are of the same namespace.
pub fn same(a: impl AsFd, b: impl AsFd) -> Result<bool, Errno> {
    let (a, b) = (rustix::fs::fstat(a)?, rustix::fs::fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}
