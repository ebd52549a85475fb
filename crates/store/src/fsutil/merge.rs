//! Layers in overlayfs's form laid over each other as one of that form: deletions are kept, since there
//! is more below.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use seacow_sys::Errno;
use seacow_sys::rooted::{Entry, Root, list, remove_tree};

use super::attrs;
use super::copy::{Marks, copy_node};
use super::walk::{Node, Walk};
use crate::error::{At, IoFailure};

/// Lays `layer`, which nobody will write to any more, over what is in `merged`. Files become the same
/// files under one more name.
pub(crate) fn merge_over(layer: &Path, merged: &Root) -> Result<(), IoFailure> {
    let from = Root::open(layer).at("open", layer)?;
    let mut directories: Vec<(PathBuf, _)> = Vec::new();
    let mut walk = Walk::new(&from, Path::new(""));
    while let Some(node) = walk.next()? {
        let target = merged.entry(&node.path).at("open the directory of", &node.path)?;
        lay(&node, &target, merged).at("merge", &node.path)?;
        if node.is_dir() {
            directories.push((node.path, attrs::mtime(&node.stat)));
        }
    }
    // Last, because every entry in a directory changes its time.
    for (path, mtime) in directories {
        let entry = merged.entry(&path).at("open", &path)?;
        entry.utimens(&attrs::modified(mtime)).at("set the times of", &path)?;
    }
    let look = from.entry(Path::new(".")).and_then(|top| attrs::read(&top)).at("look at", layer)?;
    let top = merged.entry(Path::new(".")).at("open", layer)?;
    attrs::apply(&top, &look).at("set the attributes of", "the merged layer")
}

fn lay(node: &Node, target: &Entry, merged: &Root) -> Result<(), Errno> {
    let there = target.file_type()?;
    if node.is_dir() {
        return lay_directory(node, target, there, merged);
    }
    if there.is_some() {
        target.remove_tree()?;
    }
    if attrs::is_whiteout(&node.stat) {
        return attrs::make_whiteout(target);
    }
    match target.link_from(&node.entry) {
        // As many names as the file system allows.
        Err(Errno::MLINK) => copy_node(node, target, merged, Marks::Keep, &mut Default::default()).map(drop),
        done => done,
    }
}

fn lay_directory(node: &Node, target: &Entry, there: Option<FileType>, merged: &Root) -> Result<(), Errno> {
    let opaque = attrs::is_opaque(&node.entry)?;
    match there {
        Some(FileType::Directory) => {
            if opaque {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let dir = target.open(flags, Mode::empty())?;
                for (name, _) in list(dir.as_fd())? {
                    remove_tree(dir.as_fd(), &name)?;
                }
                attrs::set_opaque(target)?;
            }
            for (name, _) in attrs::xattrs(target)? {
                target.remove_xattr(std::os::unix::ffi::OsStrExt::from_bytes(name.as_slice()))?;
            }
            attrs::apply(target, &attrs::read(&node.entry)?)
        }
        other => {
            if other.is_some() {
                target.remove_tree()?;
            }
            copy_node(node, target, merged, Marks::Keep, &mut Default::default())?;
            // What was removed hides what is further below, and so must this.
            if other.is_some() { attrs::set_opaque(target) } else { Ok(()) }
        }
    }
}
