//! Whole directories: list, remove.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};

use crate::Errno;

/// The names in a directory with their types, without `.` and `..`, in the file system's order.
pub fn list(dir: BorrowedFd<'_>) -> Result<Vec<(OsString, FileType)>, Errno> {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::new();
    // Reopened: the given handle may be O_PATH, and its position is its owner's.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(rustix::fs::openat(dir, ".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            out.push((OsString::from_vec(name.to_vec()), entry.file_type()));
        }
    }
    Ok(out)
}

/// How many directories are held open at once; deeper ones are first moved up. A layer may nest
/// thousands of levels, and descriptors are few.
const DEPTH: usize = 32;

/// Removes `name` in `dir` with everything below. Not there is fine; what disappears meanwhile
/// too; a mount point inside is refused with `EXDEV` (a volume must not be emptied by accident).
pub fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match unlink(dir, name) {
        Err(Errno::ISDIR | Errno::PERM | Errno::NOTEMPTY) => {}
        done => return done,
    }
    let top = match open_dir(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut moved = 0u64;
    let mut stack = vec![Level::enter(top, name.to_owned())?];
    while let Some(level) = stack.last_mut() {
        match level.dirs.pop() {
            Some(child) if stack.len() < DEPTH => {
                let parent = stack.last().map_or(dir, |l| l.fd.as_fd());
                stack.push(Level::enter(open_dir(parent, &child)?, child)?);
            }
            Some(child) => {
                if let [top, .., deepest] = stack.as_mut_slice() {
                    top.dirs.push(move_up(deepest.fd.as_fd(), &child, top.fd.as_fd(), &mut moved)?);
                }
            }
            None => {
                let Some(done) = stack.pop() else { break };
                let parent = stack.last().map_or(dir, |l| l.fd.as_fd());
                match rustix::fs::unlinkat(parent, &done.name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
    }
    Ok(())
}

/// Moves a directory under a new name of its own; the tree may hold names like ours.
fn move_up(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    moved: &mut u64,
) -> Result<OsString, Errno> {
    loop {
        *moved += 1;
        let target = OsString::from(format!(".seacow-removing-{moved}"));
        match rustix::fs::renameat_with(from, name, to, &target, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            done => return done.map(|()| target),
        }
    }
}

/// A directory on the way down: open, its files gone, its directories yet to go.
struct Level {
    fd: OwnedFd,
    name: OsString,
    dirs: Vec<OsString>,
}

impl Level {
    fn enter(fd: OwnedFd, name: OsString) -> Result<Self, Errno> {
        let mut dirs = Vec::new();
        for (child, kind) in list(fd.as_fd())? {
            if kind == FileType::Directory {
                dirs.push(child);
                continue;
            }
            match unlink(fd.as_fd(), &child) {
                // A file system that does not tell types in its listings.
                Err(Errno::ISDIR | Errno::PERM) => dirs.push(child),
                done => done?,
            }
        }
        Ok(Self { fd, name, dirs })
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        dir,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_XDEV | ResolveFlags::BENEATH,
    )
}
