//! Walks a tree in the order of sorted names, depth first, as Go's filepath.Walk does.
//!
//! The tree may belong to a running container that changes it meanwhile: directories are opened
//! without following symlinks, and what disappears is passed over.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use seacow_sys::Errno;
use seacow_sys::rooted::{Entry, Root, list};

use crate::error::{At, IoFailure};

/// How many directories are held open; deeper ones are opened again by path on the way back.
const OPEN: usize = 48;

/// One thing in the tree.
#[derive(Debug)]
pub(crate) struct Node {
    /// Relative to the top, never empty.
    pub(crate) path: PathBuf,
    pub(crate) entry: Entry,
    pub(crate) stat: Stat,
}

impl Node {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

/// The walk. [`Walk::next`] gives a directory before what is in it.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    root: &'a Root,
    base: PathBuf,
    levels: Vec<Level>,
    /// The directory given last, entered at the next call unless skipped.
    pending: Option<PathBuf>,
}

#[derive(Debug)]
struct Level {
    path: PathBuf,
    dir: Option<OwnedFd>,
    names: std::vec::IntoIter<OsString>,
}

impl<'a> Walk<'a> {
    /// Of everything below `base`, a path within the root without symlinks.
    pub(crate) fn new(root: &'a Root, base: &Path) -> Self {
        Self { root, base: base.to_owned(), levels: Vec::new(), pending: Some(PathBuf::new()) }
    }

    /// Does not enter the directory that was given last.
    pub(crate) fn skip(&mut self) {
        self.pending = None;
    }

    pub(crate) fn next(&mut self) -> Result<Option<Node>, IoFailure> {
        if let Some(path) = self.pending.take() {
            self.enter(path)?;
        }
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let path = level.path.join(&name);
            let Some(entry) = self.entry(&name).at("open the directory of", &path)? else { continue };
            let stat = match entry.stat() {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(errno) => return Err(IoFailure::new("look at", path, errno)),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.pending = Some(path.clone());
            }
            return Ok(Some(Node { path, entry, stat }));
        }
    }

    fn enter(&mut self, path: PathBuf) -> Result<(), IoFailure> {
        let dir = match self.open(&path) {
            Ok(dir) => dir,
            // It went away, or became something else, while we looked.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.as_os_str().is_empty() => return Ok(()),
            Err(errno) => return Err(IoFailure::new("open directory", self.base.join(path), errno)),
        };
        let mut names: Vec<OsString> =
            list(dir.as_fd()).at("list directory", &path)?.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if let Some(far) = self.levels.len().checked_sub(OPEN) {
            self.levels[far].dir = None;
        }
        self.levels.push(Level { path, dir: Some(dir), names: names.into_iter() });
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.root.open_without_symlinks(&self.base.join(path), flags, Mode::empty())
    }

    fn entry(&mut self, name: &OsString) -> Result<Option<Entry>, Errno> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let dir = match &level.dir {
            Some(dir) => rustix::io::fcntl_dupfd_cloexec(dir, 3)?,
            None => {
                let opened = match self.open(&level.path) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                    opened => opened?,
                };
                let dup = rustix::io::fcntl_dupfd_cloexec(&opened, 3)?;
                if let Some(level) = self.levels.last_mut() {
                    level.dir = Some(opened);
                }
                dup
            }
        };
        Entry::in_dir(dir, name).map(Some)
    }
}

/// Which mount something is on: the only thing that tells a mount point on overlayfs, where the
/// device number of a file may be that of its layer.
pub(crate) fn mount_id(entry: &Entry) -> Result<u64, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(entry.dir(), entry.name(), flags, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}
