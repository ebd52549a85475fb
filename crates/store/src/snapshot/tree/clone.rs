//! How trees are cloned: by the file system, or file by file.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use seacow_sys::btrfs;
use seacow_sys::rooted::Root;

use super::zfs::Zfs;
use crate::disk::Disk;
use crate::error::{At, IoFailure};
use crate::fsutil::copy::{Marks, copy_tree};
use crate::fsutil::stack::{Take, lay_over};
use crate::layout::mkdir;
use crate::snapshot::driver::DriverKind;

/// A way of cloning.
#[derive(Debug)]
pub(in crate::snapshot) enum Clones {
    /// Subvolumes: in one call, whatever is in them.
    Subvolumes,
    /// Datasets of zfs: the same by its tools. In a tree's place is a symlink to it.
    Datasets(Zfs),
    /// Copies: every file on its own. `shared`: the file system shares their extents.
    Copies {
        /// Two files can have the same extents.
        shared: bool,
    },
}

impl Clones {
    pub(super) fn kind(&self) -> DriverKind {
        match self {
            Self::Subvolumes => DriverKind::Btrfs,
            Self::Datasets(_) => DriverKind::Zfs,
            Self::Copies { .. } => DriverKind::Copy,
        }
    }

    pub(super) fn status(&self) -> Vec<[String; 2]> {
        let how = match self {
            Self::Subvolumes => "subvolume snapshots",
            Self::Datasets(_) => "clones of datasets",
            Self::Copies { shared: true } => "files, extents shared",
            Self::Copies { shared: false } => "files, whole",
        };
        let copies = ["Copies".to_owned(), how.to_owned()];
        let untested = ["Tested".to_owned(), "no: this driver was never run on a zfs".to_owned()];
        match self {
            Self::Datasets(_) => vec![copies, untested],
            Self::Subvolumes | Self::Copies { .. } => vec![copies],
        }
    }

    /// Whether what is not changed takes no room.
    pub(super) fn shares(&self) -> bool {
        matches!(&self, Self::Subvolumes | Self::Copies { shared: true })
    }

    /// How layers get into a tree that nobody writes to.
    pub(super) fn take(&self) -> Take {
        match self {
            // A link cannot lead into another subvolume or dataset.
            Self::Subvolumes | Self::Datasets(_) => Take::Copies,
            Self::Copies { .. } => Take::Links,
        }
    }

    /// A new tree at `to` with what is in the plain directory `from`.
    pub(super) fn seed(&self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes => {
                let (dir, name) = place(to)?;
                btrfs::create(dir.as_fd(), name).at("make subvolume", to)?;
                rustix::fs::chmod(to, Mode::from_raw_mode(0o755)).at("set the mode of", to)?;
            }
            Self::Datasets(zfs) => {
                let place = zfs.create(to)?;
                rustix::fs::chmod(&place, Mode::from_raw_mode(0o755)).at("set the mode of", &place)?;
            }
            Self::Copies { .. } => mkdir(to, 0o755)?,
        }
        lay_over(from, &Root::open(to).at("open", to)?, Take::Copies)
    }

    /// The same tree once more, to be added to.
    pub(super) fn tree(&self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes | Self::Datasets(_) => self.snapshot(from, to),
            Self::Copies { .. } => {
                mkdir(to, 0o755)?;
                lay_over(from, &Root::open(to).at("open", to)?, Take::Links)
            }
        }
    }

    /// A tree's writable clone.
    pub(super) fn snapshot(&self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes => {
                let source = File::open(from).at("open", from)?;
                let (dir, name) = place(to)?;
                btrfs::snapshot(source.as_fd(), dir.as_fd(), name).at("snapshot to", to)
            }
            Self::Datasets(zfs) => zfs.clone(from, to).map(drop),
            Self::Copies { .. } => {
                mkdir(to, 0o755)?;
                let source = Root::open(from).at("open", from)?;
                copy_tree(&source, Path::new(""), &Root::open(to).at("open", to)?, Marks::None).map(drop)
            }
        }
    }

    /// Nothing will be changed in this tree any more.
    pub(super) fn seal(&self, tree: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes => {
                let top = File::open(tree).at("open", tree)?;
                btrfs::set_read_only(top.as_fd(), true).at("make read-only", tree)
            }
            Self::Datasets(zfs) => zfs.seal(tree),
            Self::Copies { .. } => Ok(()),
        }
    }

    /// Whether a tree was made by this way of cloning.
    pub(super) fn are_of(&self, tree: &Path) -> bool {
        let is_subvolume =
            || place(tree).is_ok_and(|(dir, name)| btrfs::is_subvolume(dir.as_fd(), name).unwrap_or(false));
        match self {
            Self::Datasets(_) => tree.is_symlink(),
            Self::Subvolumes => is_subvolume(),
            Self::Copies { .. } => !tree.is_symlink() && !is_subvolume(),
        }
    }

    /// Where the files of a tree are.
    pub(super) fn place(&self, tree: PathBuf) -> Result<PathBuf, IoFailure> {
        match self {
            Self::Subvolumes | Self::Copies { .. } => Ok(tree),
            Self::Datasets(_) => std::fs::read_link(&tree).at("read the link", &tree),
        }
    }

    /// Has a fresh clone on the disk.
    pub(super) fn sync(&self, disk: &Disk, tree: &Path) -> Result<(), IoFailure> {
        match self {
            // The file system has committed it.
            Self::Subvolumes | Self::Datasets(_) => Ok(()),
            Self::Copies { .. } => disk.sync_fs(tree),
        }
    }
}

fn place(path: &Path) -> Result<(File, &OsStr), IoFailure> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(IoFailure::new("find the directory of", path, seacow_sys::Errno::INVAL));
    };
    Ok((File::open(dir).at("open", dir)?, name))
}
