//! One name in one directory, not followed.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timestamps, Uid, XattrFlags};

use crate::Errno;

/// A directory and a name in it. Nothing here follows a symlink of that name.
#[derive(Debug)]
pub struct Entry {
    dir: OwnedFd,
    name: OsString,
}

impl Entry {
    /// A name in a directory. The caller guarantees that it is a single name.
    pub(super) fn new(dir: OwnedFd, name: OsString) -> Self {
        Self { dir, name }
    }

    /// A name in a directory that was opened before. Refused with `EINVAL` unless it is a single
    /// name: no slash, not empty, not `..`.
    pub fn in_dir(dir: OwnedFd, name: &OsStr) -> Result<Self, Errno> {
        let bytes = name.as_encoded_bytes();
        if bytes.is_empty() || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
            return Err(Errno::INVAL);
        }
        Ok(Self::new(dir, name.to_owned()))
    }

    /// The directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The name.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Status of the entry itself.
    pub fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Its type; `None` when it does not exist.
    pub fn file_type(&self) -> Result<Option<FileType>, Errno> {
        match self.stat() {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens it; a symlink is refused with `ELOOP` (or given as itself with `O_PATH`).
    pub fn open(&self, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.dir, &self.name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
    }

    /// Creates the file, or empties it when it is there.
    pub fn create(&self, mode: Mode) -> Result<OwnedFd, Errno> {
        self.open(OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOCTTY | OFlags::NONBLOCK, mode)
    }

    /// Creates the file; refused with `EEXIST` when there is anything of that name.
    pub fn create_new(&self, mode: Mode) -> Result<OwnedFd, Errno> {
        self.open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)
    }

    /// Creates a directory.
    pub fn mkdir(&self, mode: Mode) -> Result<(), Errno> {
        rustix::fs::mkdirat(&self.dir, &self.name, mode)
    }

    /// Creates a symlink with any text as its target.
    pub fn symlink(&self, target: &Path) -> Result<(), Errno> {
        rustix::fs::symlinkat(target, &self.dir, &self.name)
    }

    /// Creates a device node, fifo, socket or empty file.
    pub fn mknod(&self, kind: FileType, mode: Mode, major: u32, minor: u32) -> Result<(), Errno> {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(&self.dir, &self.name, kind, mode, device)
    }

    /// Creates this entry as a hard link of `original` (of the link itself, when it is one).
    pub fn link_from(&self, original: &Self) -> Result<(), Errno> {
        rustix::fs::linkat(&original.dir, &original.name, &self.dir, &self.name, AtFlags::empty())
    }

    /// Renames this entry to `target`, replacing it.
    pub fn rename_to(&self, target: &Self) -> Result<(), Errno> {
        rustix::fs::renameat(&self.dir, &self.name, &target.dir, &target.name)
    }

    /// Renames this entry to `target`; refused with `EEXIST` when there is one.
    pub fn rename_to_new(&self, target: &Self) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.dir, &self.name, &target.dir, &target.name, RenameFlags::NOREPLACE)
    }

    /// Removes it, when it is no directory.
    pub fn unlink(&self) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty())
    }

    /// Removes it, when it is an empty directory.
    pub fn rmdir(&self) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::REMOVEDIR)
    }

    /// Removes it whatever it is, with everything below. Not there is fine; a mount point inside
    /// is refused with `EXDEV`.
    pub fn remove_tree(&self) -> Result<(), Errno> {
        super::tree::remove_tree(self.dir.as_fd(), &self.name)
    }

    /// The symlink's text.
    pub fn readlink(&self) -> Result<PathBuf, Errno> {
        use std::os::unix::ffi::OsStringExt;
        let text = rustix::fs::readlinkat(&self.dir, &self.name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(text.into_bytes())))
    }

    /// Sets times; of the link itself when it is one.
    pub fn utimens(&self, times: &Timestamps) -> Result<(), Errno> {
        rustix::fs::utimensat(&self.dir, &self.name, times, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets owner and group; of the link itself when it is one. Clears set-id bits and file
    /// capabilities, as the kernel does: set mode and xattrs afterwards.
    pub fn chown(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        rustix::fs::chownat(
            &self.dir,
            &self.name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
    }

    /// Sets the mode, set-id bits included. A symlink has none: `EOPNOTSUPP`.
    pub fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        let handle = self.open(OFlags::PATH, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        // The handle cannot be swapped for a link any more, its /proc name stands for it alone.
        rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode)
    }

    /// An extended attribute; `None` when there is none of that name.
    pub fn xattr(&self, name: &OsStr) -> Result<Option<Vec<u8>>, Errno> {
        let path = self.proc_path();
        let mut value = vec![0; 1 << 10];
        loop {
            match rustix::fs::lgetxattr(&path, name, value.as_mut_slice()) {
                Ok(len) => {
                    value.truncate(len);
                    return Ok(Some(value));
                }
                Err(Errno::RANGE) if value.len() < XATTR_MAX => value.resize(XATTR_MAX, 0),
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, name: &OsStr, value: &[u8]) -> Result<(), Errno> {
        rustix::fs::lsetxattr(self.proc_path(), name, value, XattrFlags::empty())
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, name: &OsStr) -> Result<(), Errno> {
        rustix::fs::lremovexattr(self.proc_path(), name)
    }

    /// Names of all extended attributes.
    pub fn xattr_names(&self) -> Result<Vec<OsString>, Errno> {
        use std::os::unix::ffi::OsStringExt;
        let path = self.proc_path();
        let mut names = vec![0; 1 << 10];
        let len = loop {
            match rustix::fs::llistxattr(&path, names.as_mut_slice()) {
                Ok(len) => break len,
                Err(Errno::RANGE) if names.len() < XATTR_MAX => names.resize(XATTR_MAX, 0),
                Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(errno) => return Err(errno),
            }
        };
        names.truncate(len);
        Ok(names
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| OsString::from_vec(name.to_vec()))
            .collect())
    }

    /// A path for the calls that take no directory descriptor. Its first part is a magic link to
    /// the directory, its last is our single name, and the l-variants do not follow that.
    fn proc_path(&self) -> PathBuf {
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        path.push(&self.name);
        path
    }
}

/// The kernel's own limit of a value and of a list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const XATTR_MAX: usize = 64 << 10;
