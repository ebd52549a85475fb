//! What a step's layer must not keep: mount points that were made for it, and times after the epoch.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Timespec};
use seacow_spec::Timestamp;
use seacow_store::rooted::{Entry, Root, Timestamps};
use seacow_store::snapshot::ChangeKind;
use seacow_store::{Errno, SnapshotKey, Store};

use crate::error::EngineError;

/// How a layer is made ready.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finish {
    /// Where something was mounted.
    pub(crate) targets: Vec<PathBuf>,
    /// No file is newer.
    pub(crate) epoch: Option<Timestamp>,
}

impl Finish {
    /// Whether there is nothing to do.
    pub(crate) fn is_nothing(&self) -> bool {
        self.targets.is_empty() && self.epoch.is_none()
    }

    /// Goes through what was changed.
    pub(crate) fn apply(&self, store: &Store, key: &SnapshotKey) -> Result<(), EngineError> {
        let snapshots = store.snapshots();
        let changes = snapshots.changes(key)?;
        let added = |path: &Path| {
            changes.iter().any(|change| change.path == path && change.kind == ChangeKind::Added)
        };
        let stubs: Vec<&Path> = self
            .targets
            .iter()
            .flat_map(|target| target.ancestors())
            .filter(|path| path.parent().is_some() && added(path))
            .collect();
        let kept = changes.iter().filter(|change| change.kind != ChangeKind::Deleted);
        let touched: Vec<&Path> = kept.map(|change| change.path.as_path()).collect();
        if stubs.is_empty() && self.epoch.is_none() {
            return Ok(());
        }
        let rootfs = snapshots.get(key)?;
        let done = store.with_mounted(&rootfs, &[], |root| -> Result<(), Errno> {
            let root = root.root();
            // Children come before their parents.
            stubs.iter().try_for_each(|path| remove_stub(root, path))?;
            match self.epoch {
                Some(epoch) => touched.iter().rev().try_for_each(|path| clamp(root, path, epoch)),
                None => Ok(()),
            }
        });
        let done = done.map_err(crate::container::archive::FilesError::Archive)?;
        done.map_err(|errno| {
            let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
            crate::container::ContainerError::io("finish the layer of", Path::new(key.as_str()), error).into()
        })
    }
}

/// Removes a mount point that is as empty as it was made.
fn remove_stub(root: &Root, path: &Path) -> Result<(), Errno> {
    let Some(entry) = entry(root, path)? else { return Ok(()) };
    match entry.file_type()? {
        Some(FileType::Directory) => match entry.rmdir() {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            removed => removed,
        },
        Some(FileType::RegularFile) if entry.stat()?.st_size == 0 => entry.unlink(),
        _ => Ok(()),
    }
}

fn clamp(root: &Root, path: &Path, epoch: Timestamp) -> Result<(), Errno> {
    let Some(entry) = entry(root, path)? else { return Ok(()) };
    if entry.file_type()?.is_none() || entry.stat()?.st_mtime <= epoch.unix_seconds() {
        return Ok(());
    }
    let time = Timespec { tv_sec: epoch.unix_seconds(), tv_nsec: 0 };
    entry.utimens(&Timestamps { last_access: time, last_modification: time })
}

/// `None` where its directory is gone.
fn entry(root: &Root, path: &Path) -> Result<Option<Entry>, Errno> {
    match root.entry(path) {
        Ok(entry) => Ok(Some(entry)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}
