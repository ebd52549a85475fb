//! How the file system of a data root keeps limits, if it does.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use seacow_sys::{Errno, btrfs, quota};

use crate::error::{At, IoFailure};
use crate::layout::Layout;

const XFS_MAGIC: u64 = 0x5846_5342;
/// There with every xfs.
pub(crate) const XFS: &str = "/proc/fs/xfs";
/// There with every xfs that was built with quota.
pub(crate) const XFS_QUOTA: &str = "/proc/fs/xfs/xqmstat";

/// By what the file system counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// Projects of xfs.
    Projects,
    /// Subvolumes of btrfs.
    Subvolumes,
}

impl Means {
    /// As `docker info` shows it.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Projects => "projects of xfs",
            Self::Subvolumes => "subvolumes of btrfs",
        }
    }

    /// The outer error is the disk's; the inner one says what is missing.
    pub(crate) fn of(layout: &Layout) -> Result<Result<Self, String>, IoFailure> {
        let root = layout.data();
        match rustix::fs::statfs(root).at("look at", root)?.f_type as u64 {
            btrfs::MAGIC => Ok(Ok(Self::Subvolumes)),
            XFS_MAGIC => of_xfs(root),
            _ => Ok(Err(format!(
                "the data root {} is neither on an xfs with project quota nor on btrfs; `seacow storage init` \
                 makes an xfs of it, which has the quota where the kernel has it",
                root.display()
            ))),
        }
    }
}

fn of_xfs(root: &Path) -> Result<Result<Means, String>, IoFailure> {
    let dir = File::open(root).at("open", root)?;
    match quota::are_projects_limited(dir.as_fd()) {
        Ok(true) => Ok(Ok(Means::Projects)),
        Ok(false) | Err(Errno::NOSYS) if Path::new(XFS_QUOTA).exists() => Ok(Err(format!(
            "the xfs of the data root {} is mounted without quota: mount it with the option prjquota",
            root.display()
        ))),
        Ok(false) | Err(Errno::NOSYS) => {
            Ok(Err("this kernel's xfs has no quota (it is built without CONFIG_XFS_QUOTA)".to_owned()))
        }
        Err(errno) => Err(IoFailure::new("look at the quota of", root, errno)),
    }
}
