//! What the standard library lacks for whole file trees: attributes, walking, copying.

pub(crate) mod attrs;
pub(crate) mod copy;
pub(crate) mod ids;
pub(crate) mod lower;
pub(crate) mod merge;
pub(crate) mod merged;
pub(crate) mod stack;
pub(crate) mod walk;

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use seacow_sys::Errno;
use seacow_sys::rooted::Root;

use crate::error::IoFailure;

/// Bytes that everything below a directory takes on the disk, hard links once.
pub(crate) fn disk_bytes(root: &Root) -> Result<u64, IoFailure> {
    let (mut bytes, mut seen) = (0, HashSet::new());
    let mut walk = walk::Walk::new(root, Path::new(""));
    while let Some(node) = walk.next()? {
        let stat = &node.stat;
        if node.is_dir() || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }
    Ok(bytes)
}

/// Where something open is, seen from the root. `/proc` knows, as both are open.
pub(crate) fn real_path(root: &Root, fd: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    let link = |fd: BorrowedFd<'_>| -> Result<PathBuf, Errno> {
        let text = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
        Ok(crate::layer::path_of(text.into_bytes()))
    };
    let (root, path) = (link(root.as_fd())?, link(fd)?);
    path.strip_prefix(&root).map(Path::to_owned).map_err(|_| Errno::XDEV)
}
