//! After a crash: directories and numbers agree again.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use seacow_sys::rooted::{Entry, Root};
use seacow_sys::{Errno, btrfs, quota};

use super::{Limit, Means, Owner, QuotaError, Quotas, SNAPSHOT, Subject, VOLUME};
use crate::error::{At, IoFailure};
use crate::fsutil::walk::Walk;
use crate::layout::ROOT;
use crate::shared::Shared;

impl Quotas {
    /// Every directory gets the number and the limit that the metadata has for its owner, and numbers without
    /// directory are given back. To be called when nothing else works on the store.
    pub(crate) fn repair(&self, shared: &Shared) -> Result<(), QuotaError> {
        let known: Vec<(Owner, Limit)> =
            self.known().iter().map(|(owner, limit)| (owner.clone(), *limit)).collect();
        if known.is_empty() {
            return Ok(());
        }
        // A data root that was moved to where there are no limits still opens: what it holds goes on without.
        let Ok(means) = Means::of(&shared.layout)? else { return Ok(()) };
        for (owner, limit) in known.iter().filter(|(owner, _)| !owner.is_gone()) {
            match directory(shared, owner) {
                Some((path, subject)) => self.settle(shared, means, (owner, *limit), &path, subject)?,
                None => self.release(shared, owner)?,
            }
        }
        self.forget_gone(shared)
    }

    fn settle(
        &self,
        shared: &Shared,
        means: Means,
        (owner, limit): (&Owner, Limit),
        path: &Path,
        subject: Subject,
    ) -> Result<(), QuotaError> {
        match means {
            Means::Subvolumes => {
                let is_own = path.parent().zip(path.file_name()).is_some_and(|(dir, name)| {
                    File::open(dir).is_ok_and(|dir| btrfs::is_subvolume(dir.as_fd(), name).unwrap_or(false))
                });
                if !is_own {
                    // It was copied here by hand: the limit would be everybody's.
                    return self.release(shared, owner);
                }
                self.limit_subvolume(shared, path, owner, subject, limit.bytes)
            }
            Means::Projects => {
                let dir = File::open(path).at("open", path)?;
                let actual = quota::project(dir.as_fd()).at("look at the project of", path)?;
                let wanted = u32::try_from(limit.number).map_err(|_| QuotaError::NoNumber)?;
                if actual != wanted && actual != 0 {
                    // It was passed on, and the crash came before the metadata had it.
                    let moved = Limit { number: actual.into(), ..limit };
                    self.put(
                        shared,
                        vec![(owner.clone(), Some(moved)), (Owner::gone(limit.number), Some(limit))],
                    )?;
                    return Ok(quota::limit_project(dir.as_fd(), actual, limit.bytes).at("limit", path)?);
                }
                quota::limit_project(dir.as_fd(), wanted, limit.bytes).at("limit", path)?;
                if actual == 0 {
                    give_all(path, wanted)?;
                }
                Ok(())
            }
        }
    }

    /// Forgets numbers that nothing is counted for any more.
    pub(super) fn forget_gone(&self, shared: &Shared) -> Result<(), QuotaError> {
        let (gone, used) = {
            let known = self.known();
            let used: HashSet<u64> =
                known.iter().filter(|(owner, _)| !owner.is_gone()).map(|(_, limit)| limit.number).collect();
            let gone = known.iter().filter(|(owner, _)| owner.is_gone());
            (gone.map(|(owner, limit)| (owner.clone(), limit.number)).collect::<Vec<_>>(), used)
        };
        if gone.is_empty() {
            return Ok(());
        }
        let Ok(means) = Means::of(&shared.layout)? else { return Ok(()) };
        let root = shared.layout.data();
        let dir = File::open(root).at("open", root)?;
        let mut forgotten = Vec::new();
        for (owner, number) in gone {
            if used.contains(&number) || forget(means, &dir, number) {
                forgotten.push((owner, None));
            }
        }
        if forgotten.is_empty() { Ok(()) } else { self.put(shared, forgotten) }
    }
}

/// Whether nothing is counted by a number any more; then it has no limit either.
fn forget(means: Means, dir: &File, number: u64) -> bool {
    match means {
        Means::Projects => {
            let Ok(project) = u32::try_from(number) else { return true };
            let unused = quota::use_of_project(dir.as_fd(), project).is_ok_and(|used| used.inodes == 0);
            unused && quota::limit_project(dir.as_fd(), project, 0).is_ok()
        }
        // While its blocks are being freed the file system keeps the group.
        Means::Subvolumes => {
            matches!(btrfs::forget_quota(dir.as_fd(), number), Ok(()) | Err(Errno::NOENT | Errno::NOTCONN))
        }
    }
}

/// Where an owner's limit holds.
fn directory(shared: &Shared, owner: &Owner) -> Option<(PathBuf, Subject)> {
    let layout = &shared.layout;
    let (path, subject) = if let Some(key) = owner.0.strip_prefix(SNAPSHOT) {
        let (dir, subvolume) = (layout.snapshots().join(key), layout.snapshots().join(key).join(ROOT));
        (if subvolume.exists() { subvolume } else { dir }, Subject::Container)
    } else {
        let name = owner.0.strip_prefix(VOLUME)?;
        (layout.volumes().join(name).join(crate::layout::DATA), Subject::Volume)
    };
    path.is_dir().then_some((path, subject))
}

/// Makes everything in a directory a project's.
fn give_all(path: &Path, project: u32) -> Result<(), IoFailure> {
    let root = Root::open(path).at("open", path)?;
    let give = |entry: &Entry, at: &Path| {
        let file = entry.open(OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty());
        file.and_then(|file| quota::set_project(file.as_fd(), project)).at("set the project of", at)
    };
    give(&root.entry(Path::new(".")).at("open", path)?, path)?;
    let mut walk = Walk::new(&root, Path::new(""));
    while let Some(node) = walk.next()? {
        // What is neither file nor directory takes no blocks.
        if matches!(node.kind(), FileType::Directory | FileType::RegularFile) {
            give(&node.entry, &node.path)?;
        }
    }
    Ok(())
}
