//! How trees are cloned: by the file system, or file by file.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::Mode;
use seacow_sys::btrfs;
use seacow_sys::rooted::Root;

use crate::disk::Disk;
use crate::error::{At, IoFailure};
use crate::fsutil::copy::{Marks, copy_tree};
use crate::fsutil::stack::{Take, lay_over};
use crate::layout::mkdir;
use crate::snapshot::driver::DriverKind;

/// A way of cloning.
#[derive(Clone, Copy, Debug)]
pub(in crate::snapshot) enum Clones {
    /// Subvolumes: in one call, whatever is in them.
    Subvolumes,
    /// Copies: every file on its own. `shared`: the file system shares their extents.
    Copies {
        /// Two files can have the same extents.
        shared: bool,
    },
}

impl Clones {
    pub(super) fn kind(self) -> DriverKind {
        match self {
            Self::Subvolumes => DriverKind::Btrfs,
            Self::Copies { .. } => DriverKind::Copy,
        }
    }

    pub(super) fn status(self) -> Vec<[String; 2]> {
        let how = match self {
            Self::Subvolumes => "subvolume snapshots",
            Self::Copies { shared: true } => "files, extents shared",
            Self::Copies { shared: false } => "files, whole",
        };
        vec![["Copies".into(), how.into()]]
    }

    /// Whether what is not changed takes no room.
    pub(super) fn shares(self) -> bool {
        matches!(self, Self::Subvolumes | Self::Copies { shared: true })
    }

    /// How layers get into a tree that nobody writes to.
    pub(super) fn take(self) -> Take {
        match self {
            // A link cannot lead into another subvolume.
            Self::Subvolumes => Take::Copies,
            Self::Copies { .. } => Take::Links,
        }
    }

    /// A new tree at `to` with what is in the plain directory `from`.
    pub(super) fn seed(self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes => {
                let (dir, name) = place(to)?;
                btrfs::create(dir.as_fd(), name).at("make subvolume", to)?;
                rustix::fs::chmod(to, Mode::from_raw_mode(0o755)).at("set the mode of", to)?;
            }
            Self::Copies { .. } => mkdir(to, 0o755)?,
        }
        lay_over(from, &Root::open(to).at("open", to)?, Take::Copies)
    }

    /// The same tree once more, to be added to.
    pub(super) fn tree(self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes => self.snapshot(from, to),
            Self::Copies { .. } => {
                mkdir(to, 0o755)?;
                lay_over(from, &Root::open(to).at("open", to)?, Take::Links)
            }
        }
    }

    /// A tree's writable clone.
    pub(super) fn snapshot(self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes => {
                let source = File::open(from).at("open", from)?;
                let (dir, name) = place(to)?;
                btrfs::snapshot(source.as_fd(), dir.as_fd(), name).at("snapshot to", to)
            }
            Self::Copies { .. } => {
                mkdir(to, 0o755)?;
                let source = Root::open(from).at("open", from)?;
                copy_tree(&source, Path::new(""), &Root::open(to).at("open", to)?, Marks::None)
            }
        }
    }

    /// Nothing will be changed in this tree any more.
    pub(super) fn seal(self, tree: &Path) -> Result<(), IoFailure> {
        match self {
            Self::Subvolumes => {
                let top = File::open(tree).at("open", tree)?;
                btrfs::set_read_only(top.as_fd(), true).at("make read-only", tree)
            }
            Self::Copies { .. } => Ok(()),
        }
    }

    /// Has a fresh clone on the disk.
    pub(super) fn sync(self, disk: &Disk, tree: &Path) -> Result<(), IoFailure> {
        match self {
            // The file system has committed it.
            Self::Subvolumes => Ok(()),
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
