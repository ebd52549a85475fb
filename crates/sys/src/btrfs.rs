//! Subvolumes of btrfs: trees that are snapshotted and removed as a whole.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::AtFlags;

use crate::{Errno, raw};

/// What statfs says of a btrfs.
pub const MAGIC: u64 = 0x9123_683e;

/// Inode number of every subvolume's top directory (BTRFS_FIRST_FREE_OBJECTID).
const TOP: u64 = 256;
/// Room for a name in `btrfs_ioctl_vol_args`, its final zero included.
const NAME: usize = 4088;
/// The same in `btrfs_ioctl_vol_args_v2`.
const NAME_V2: usize = 4040;
const READ_ONLY: u64 = 1 << 1;

const SUBVOL_CREATE: libc::Ioctl = 0x5000_940e_u32 as libc::Ioctl;
const SNAP_DESTROY: libc::Ioctl = 0x5000_940f_u32 as libc::Ioctl;
const SNAP_CREATE_V2: libc::Ioctl = 0x5000_9417_u32 as libc::Ioctl;
const SUBVOL_SETFLAGS: libc::Ioctl = 0x4008_941a_u32 as libc::Ioctl;

const INO_LOOKUP: libc::Ioctl = 0xd000_9412_u32 as libc::Ioctl;
const QUOTA_CTL: libc::Ioctl = 0xc010_9428_u32 as libc::Ioctl;
const QGROUP_CREATE: libc::Ioctl = 0x4010_942a_u32 as libc::Ioctl;
const QGROUP_LIMIT: libc::Ioctl = 0x8030_942b_u32 as libc::Ioctl;
const QUOTA_RESCAN_WAIT: libc::Ioctl = 0x0000_942e;
/// `BTRFS_QUOTA_CTL_ENABLE`.
const ENABLE: u64 = 1;

/// What of a subvolume is counted against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Everything in it (`BTRFS_QGROUP_LIMIT_MAX_RFER`).
    Referenced,
    /// What no other subvolume has (`BTRFS_QGROUP_LIMIT_MAX_EXCL`).
    Exclusive,
}

/// `btrfs_ioctl_quota_ctl_args`, and `btrfs_ioctl_qgroup_create_args`, which looks the same.
#[repr(C)]
struct Pair {
    first: u64,
    second: u64,
}

/// `btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct Limit {
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved: [u64; 2],
}

/// `btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

#[repr(C)]
struct Args {
    fd: i64,
    name: [u8; NAME],
}

#[repr(C)]
struct ArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_V2],
}

/// Makes an empty subvolume `name` in `dir`.
pub fn create(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let args = Args { fd: 0, name: padded(name)? };
    // SAFETY: the ioctl reads one `btrfs_ioctl_vol_args`, whose layout Args has; it lives across the call.
    raw::check(unsafe { libc::ioctl(dir.as_raw_fd(), SUBVOL_CREATE, &raw const args) }.into()).map(drop)
}

/// Makes `name` in `dir` a writable copy of the subvolume that `source` is the top of. Everything
/// that was written before is on the disk when this returns: the file system commits a transaction.
pub fn snapshot(source: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let args =
        ArgsV2 { fd: source.as_raw_fd().into(), transid: 0, flags: 0, unused: [0; 4], name: padded(name)? };
    // SAFETY: the ioctl reads and writes one `btrfs_ioctl_vol_args_v2`, whose layout ArgsV2 has; it is
    // not used afterwards, so that it may as well be written through the pointer.
    let done = unsafe { libc::ioctl(dir.as_raw_fd(), SNAP_CREATE_V2, &raw const args) };
    raw::check(done.into()).map(drop)
}

/// Removes the subvolume `name` in `dir` at once; its blocks are freed by the file system behind
/// everybody's back. `ENOTEMPTY` when there is another subvolume in it.
pub fn destroy(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let args = Args { fd: 0, name: padded(name)? };
    // SAFETY: as in `create`.
    raw::check(unsafe { libc::ioctl(dir.as_raw_fd(), SNAP_DESTROY, &raw const args) }.into()).map(drop)
}

/// Lets nobody write to a subvolume, or everybody again.
pub fn set_read_only(subvolume: BorrowedFd<'_>, read_only: bool) -> Result<(), Errno> {
    let flags = if read_only { READ_ONLY } else { 0 };
    // SAFETY: the ioctl reads one u64, which lives across the call.
    let done = unsafe { libc::ioctl(subvolume.as_raw_fd(), SUBVOL_SETFLAGS, &raw const flags) };
    raw::check(done.into()).map(drop)
}

/// Whether `name` in `dir` is the top of a subvolume.
pub fn is_subvolume(dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_ino != TOP
        || rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory
    {
        return Ok(false);
    }
    Ok(rustix::fs::fstatfs(dir)?.f_type as u64 == MAGIC)
}

/// The number of the subvolume that a file is in.
pub fn subvolume_of(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut args = Lookup { tree: 0, object: TOP, name: [0; 4080] };
    // SAFETY: the ioctl reads and writes one `btrfs_ioctl_ino_lookup_args`, whose layout Lookup has; it lives
    // across the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), INO_LOOKUP, &raw mut args) };
    raw::check(done.into())?;
    Ok(args.tree)
}

/// Has the file system count what every subvolume takes, and waits until it has counted what is there. Costs a
/// pass over all of its metadata the first time, and some of every write from then on.
pub fn enable_quota(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut args = Pair { first: ENABLE, second: 0 };
    // SAFETY: the ioctl reads and writes one `btrfs_ioctl_quota_ctl_args`, whose layout Pair has; it lives
    // across the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), QUOTA_CTL, &raw mut args) };
    raw::check(done.into())?;
    // SAFETY: the ioctl takes no argument.
    raw::check(unsafe { libc::ioctl(file.as_raw_fd(), QUOTA_RESCAN_WAIT) }.into()).map(drop)
}

/// Limits the subvolume that a file is in; `None` takes the limit away. `ENOTCONN` where quota is not enabled.
pub fn limit(file: BorrowedFd<'_>, counted: Counted, bytes: Option<u64>) -> Result<(), Errno> {
    // All ones is no limit.
    let value = bytes.unwrap_or(u64::MAX);
    let (flags, referenced, exclusive) = match counted {
        Counted::Referenced => (1, value, 0),
        Counted::Exclusive => (2, 0, value),
    };
    // Group 0 is the file's own subvolume's.
    let args = Limit { group: 0, flags, referenced, exclusive, reserved: [0; 2] };
    // SAFETY: the ioctl reads one `btrfs_ioctl_qgroup_limit_args`, whose layout Limit has; it lives across the
    // call.
    raw::check(unsafe { libc::ioctl(file.as_raw_fd(), QGROUP_LIMIT, &raw const args) }.into()).map(drop)
}

/// Forgets what was counted of a subvolume that is gone. `EBUSY` while its blocks are being freed, `ENOENT` when
/// there is nothing to forget.
pub fn forget_quota(file: BorrowedFd<'_>, subvolume: u64) -> Result<(), Errno> {
    let args = Pair { first: 0, second: subvolume };
    // SAFETY: the ioctl reads one `btrfs_ioctl_qgroup_create_args`, whose layout Pair has; it lives across the
    // call.
    raw::check(unsafe { libc::ioctl(file.as_raw_fd(), QGROUP_CREATE, &raw const args) }.into()).map(drop)
}

fn padded<const N: usize>(name: &OsStr) -> Result<[u8; N], Errno> {
    let bytes = name.as_encoded_bytes();
    let mut out = [0; N];
    if bytes.is_empty() || bytes.len() >= N {
        return Err(Errno::NAMETOOLONG);
    }
    if bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(Errno::INVAL);
    }
    let (start, _) = out.split_at_mut(bytes.len());
    start.copy_from_slice(bytes);
    Ok(out)
}
