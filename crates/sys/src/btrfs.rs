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
