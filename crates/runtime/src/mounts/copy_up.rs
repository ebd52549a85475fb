//! The content of a directory in the tmpfs that hides it (`tmpcopyup`).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use seacow_sys::Errno;

/// Deeper trees than any image has are refused rather than followed.
const DEPTH: u32 = 128;

/// Copies everything in `from` into `to`, with modes, owners and times. Links are copied, never
/// followed.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    copy_level(from, to, 0)
}

fn copy_level(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth > DEPTH {
        return Err(Errno::LOOP);
    }
    // Read anew: `from` may be a handle that only names the directory.
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::mkdirat(to, name, Mode::from(0o700))?;
                let below = rustix::fs::openat(from, name, directory, Mode::empty())?;
                let copy = rustix::fs::openat(to, name, directory, Mode::empty())?;
                copy_level(below.as_fd(), copy.as_fd(), depth + 1)?;
            }
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut below = std::fs::File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
                let copy = rustix::fs::openat(to, name, write, Mode::from(0o600))?;
                let copied = std::io::copy(&mut below, &mut std::fs::File::from(copy));
                copied.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
            }
            kind => rustix::fs::mknodat(to, name, kind, Mode::from(stat.st_mode & 0o7777), stat.st_rdev)?,
        }
        adopt(to, name, &stat)?;
    }
    Ok(())
}

/// Owner, mode and times of the original, in this order: a change of owner clears set-id bits.
fn adopt(dir: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(dir, name, Mode::from(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let time =
        |seconds: i64, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
