//! Paths below a root that is not ours: a container's file system, an image layer.
//!
//! Vocabulary: a [`Root`] is a directory that plays `/`; every path is resolved by the kernel with
//! `RESOLVE_IN_ROOT` (openat2, Linux 5.6), so that absolute symlinks and `..` stay below it even
//! while somebody else renames things. An [`Entry`] is a directory plus a last name that has *not*
//! been followed: what is done to it is done to the link, not to its target.
//!
//! Paths may be absolute or relative; both mean the same here.
//!
//! ```no_run
//! use std::path::Path;
//! use seacow_sys::rooted::Root;
//! # fn main() -> Result<(), seacow_sys::Errno> {
//! let root = Root::open(Path::new("/var/lib/seacow/rootfs"))?;
//! let passwd = root.read(Path::new("/etc/passwd"), 1 << 20)?;
//! root.entry(Path::new("/etc/link"))?.unlink()?;
//! # let _ = passwd; Ok(()) }
//! ```
//!
//! Not here: what a path may mean (tar entry names, `docker cp` rules) is the caller's matter.

mod entry;
mod tree;

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

pub use entry::Entry;
pub use rustix::fs::{FileType, Stat, Timestamps};
pub use tree::{list, remove_tree};

use crate::Errno;

/// A directory that plays `/` for the paths given to it.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

/// A scoped lookup that races with a rename is answered EAGAIN; an attacker who renames in a loop
/// must not hold us forever.
const RACES: usize = 128;
/// Bytes of a path that are resolved at once when all of it are too many; the kernel takes 4,095.
const PIECE: usize = 3_500;
/// The kernel's own limit of symlinks in one path.
const LINKS: usize = 40;

impl Root {
    /// Opens a directory of the host as a root. The path itself is trusted.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Takes a directory descriptor as a root.
    pub fn from_fd(dir: OwnedFd) -> Self {
        Self { dir }
    }

    /// A second handle on the same root.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        Ok(Self { dir: rustix::io::fcntl_dupfd_cloexec(&self.dir, 3)? })
    }

    /// Opens a path, following symlinks below the root. CLOEXEC is added.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        self.resolve(path, flags, mode, ResolveFlags::empty())
    }

    /// As [`Root::open_at`], but a symlink anywhere in the path is refused with `ELOOP`. The path may
    /// be longer than the kernel takes at once (4,096 bytes): whoever goes down a tree step by step
    /// makes such paths.
    pub fn open_without_symlinks(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        match self.resolve(path, flags, mode, ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NAMETOOLONG) => self.open_in_pieces(path, flags, mode),
            done => done,
        }
    }

    /// Without symlinks and `..` each piece leads on from where the one before it ended.
    fn open_in_pieces(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut from = self.try_clone()?;
        let mut piece = PathBuf::new();
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::NAMETOOLONG),
            };
            if piece.as_os_str().len() + name.len() > PIECE {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let dir = from.resolve(&piece, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
                from = Self::from_fd(dir);
                piece.clear();
            }
            piece.push(name);
        }
        from.resolve(&piece, flags, mode, ResolveFlags::NO_SYMLINKS)
    }

    /// An `O_PATH` handle of whatever the path names, symlinks followed.
    pub fn locate(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_at(path, OFlags::PATH, Mode::empty())
    }

    /// An `O_PATH` handle of a directory.
    pub fn locate_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Resolves everything but the last name. `/`, `..` and the empty path have no last name: the
    /// entry is then that directory itself, under the name `.`.
    pub fn entry(&self, path: &Path) -> Result<Entry, Errno> {
        match split(path) {
            Some((parent, name)) => Ok(Entry::new(self.locate_dir(&parent)?, name.to_owned())),
            None => Ok(Entry::new(self.locate_dir(path)?, ".".into())),
        }
    }

    /// A file's contents, symlinks followed, refused with `EFBIG` when larger than `limit` bytes,
    /// and with `EINVAL` when it is no regular file (a fifo would block for ever).
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Errno> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let mut bytes = Vec::new();
        std::fs::File::from(fd).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io_errno)?;
        if bytes.len() as u64 > limit { Err(Errno::FBIG) } else { Ok(bytes) }
    }

    /// Creates a file, or empties it when it is there and no symlink.
    pub fn create(&self, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
        self.entry(path)?.create(mode)
    }

    /// The directory at `path`, made with all its parents where missing (mode less the umask).
    pub fn mkdir_all(&self, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
        match self.locate_dir(path) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let mut prefix = PathBuf::from("/");
        for component in path.components() {
            prefix.push(match component {
                Component::Normal(name) => name,
                Component::ParentDir => OsStr::new(".."),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            });
            match self.locate_dir(&prefix) {
                Err(Errno::NOENT) => match self.entry(&prefix)?.mkdir(mode) {
                    // Somebody else was faster, or it is a dangling link, which the next lookup refuses.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                },
                Err(errno) => return Err(errno),
                Ok(_) => {}
            }
        }
        self.locate_dir(path)
    }

    /// As [`Root::mkdir_all`], but a symlink whose target is missing gets its target made, below the
    /// root: what a mount point needs in an image whose `/var/run` leads to a `/run` it does not have.
    pub fn mkdir_all_through_links(&self, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut todo = path.to_owned();
        for _ in 0..LINKS {
            match self.mkdir_all(&todo, mode) {
                Err(Errno::NOENT) => {}
                done => return done,
            }
            todo = self.past_dangling_link(&todo)?;
        }
        Err(Errno::LOOP)
    }

    /// The path with its first dangling symlink replaced by that link's text.
    fn past_dangling_link(&self, path: &Path) -> Result<PathBuf, Errno> {
        let mut prefix = PathBuf::from("/");
        let mut components = path.components();
        while let Some(component) = components.next() {
            match component {
                Component::Normal(name) => prefix.push(name),
                Component::ParentDir => prefix.push(".."),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            }
            if self.locate(&prefix).is_ok() {
                continue;
            }
            let target = self.entry(&prefix)?.readlink().map_err(|_| Errno::NOENT)?;
            prefix.pop();
            // An absolute target takes the place of everything before it.
            return Ok(prefix.join(target).join(components.as_path()));
        }
        Err(Errno::NOENT)
    }

    /// Status of what the path names, symlinks followed.
    pub fn stat(&self, path: &Path) -> Result<Stat, Errno> {
        rustix::fs::fstat(self.locate(path)?)
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode, how: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // openat2 refuses a mode where nothing can be created.
        let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode } else { Mode::empty() };
        let how = how | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES {
            match rustix::fs::openat2(&self.dir, path, flags | OFlags::CLOEXEC, mode, how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Parent and last name; `None` when the path ends in `..` or has no name at all.
fn split(path: &Path) -> Option<(PathBuf, &OsStr)> {
    let name = path.file_name()?;
    let parent = path.parent().map(Path::to_owned).unwrap_or_default();
    Some((parent, name))
}

pub(crate) fn io_errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests;
