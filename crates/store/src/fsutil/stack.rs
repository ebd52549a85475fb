//! Layers laid over each other for good: a plain tree that shows what overlayfs would, without it.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use seacow_sys::Errno;
use seacow_sys::rooted::{Entry, Root, list};

use super::attrs;
use super::copy::{Marks, copy_node};
use super::walk::{Node, Walk};
use crate::error::{At, IoFailure};

/// What becomes of a layer's files in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// They are copied; extents are shared where the file system can.
    Copies,
    /// They are the same files under one more name, for a tree that nobody writes to.
    Links,
}

/// Lays `layer`, in overlayfs's form, over everything in `tree`.
pub(crate) fn lay_over(layer: &Path, tree: &Root, take: Take) -> Result<(), IoFailure> {
    let from = Root::open(layer).at("open", layer)?;
    let mut directories = Vec::new();
    let mut links = HashMap::new();
    let mut walk = Walk::new(&from, Path::new(""));
    while let Some(node) = walk.next()? {
        let target = tree.entry(&node.path).at("open the directory of", &node.path)?;
        lay(&node, &target, tree, take, &mut links).at("lay out", &node.path)?;
        if node.is_dir() {
            directories.push((node.path, attrs::mtime(&node.stat)));
        }
    }
    // Last, because every entry in a directory changes its time.
    for (path, mtime) in directories {
        let entry = tree.entry(&path).at("open", &path)?;
        entry.utimens(&attrs::modified(mtime)).at("set the times of", &path)?;
    }
    let look = from.entry(Path::new(".")).and_then(|top| attrs::read(&top)).at("look at", layer)?;
    let top = tree.entry(Path::new(".")).at("open", layer)?;
    clear_xattrs(&top).and_then(|()| attrs::apply(&top, &look)).at("set the attributes of", "the tree")
}

fn lay(
    node: &Node,
    target: &Entry,
    tree: &Root,
    take: Take,
    links: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<(), Errno> {
    if attrs::is_whiteout(&node.stat) {
        return target.remove_tree();
    }
    let there = target.file_type()?;
    if node.is_dir() && there == Some(FileType::Directory) {
        return lay_directory(node, target);
    }
    if there.is_some() {
        target.remove_tree()?;
    }
    if take == Take::Links && !node.is_dir() {
        match target.link_from(&node.entry) {
            // As many names as the file system allows, or another file system.
            Err(Errno::MLINK | Errno::XDEV | Errno::PERM) => {}
            done => return done,
        }
    }
    copy_node(node, target, tree, Marks::None, links).map(drop)
}

/// A directory on one that is there already.
fn lay_directory(node: &Node, target: &Entry) -> Result<(), Errno> {
    if attrs::is_opaque(&node.entry)? {
        let dir = target.open(rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY, Mode::empty())?;
        for (name, _) in list(dir.as_fd())? {
            seacow_sys::rooted::remove_tree(dir.as_fd(), &name)?;
        }
    }
    clear_xattrs(target)?;
    attrs::apply(target, &attrs::read(&node.entry)?)
}

/// Overlayfs shows the upper directory's attributes alone.
fn clear_xattrs(entry: &Entry) -> Result<(), Errno> {
    for (name, _) in attrs::xattrs(entry)? {
        entry.remove_xattr(std::os::unix::ffi::OsStrExt::from_bytes(name.as_slice()))?;
    }
    Ok(())
}
