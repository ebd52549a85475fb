//! Copies out of the merged view of layers, each file from where it really lies.
//!
//! Between an overlay and the file system below it the kernel shares no extents, however near they are:
//! a copy of what a mount shows is whole. A copy from the layer's own directory is not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use seacow_sys::Errno;
use seacow_sys::rooted::{Entry, Root};

use super::attrs;
use super::copy::{Marks, copy_node};
use super::lower::{Below, Lowers};
use super::walk::Node;
use crate::error::{At, IoFailure};

/// Copies everything below the merged directory `base`, a path without symlinks, into the existing directory
/// `to`, whose own attributes are set to those of the top. Tells whether `base` was there.
pub(crate) fn copy_merged(lowers: &mut Lowers, base: &Path, to: &Root) -> Result<bool, IoFailure> {
    let Some(top) = lowers.find(base).at("look at", base)? else { return Ok(false) };
    let look = entry_of(&top).and_then(|entry| attrs::read(&entry)).at("look at", base)?;
    let (mut directories, mut links) = (Vec::new(), HashMap::new());
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        for name in lowers.names(&base.join(&dir)).at("list", &dir)? {
            let path = dir.join(name);
            let Some(below) = lowers.find(&base.join(&path)).at("look at", &path)? else { continue };
            let node = Node { entry: entry_of(&below).at("open", &path)?, stat: below.stat, path };
            let target = to.entry(&node.path).at("open the copy's directory of", &node.path)?;
            copy_node(&node, &target, to, Marks::None, &mut links).at("copy", &node.path)?;
            if node.is_dir() {
                directories.push((node.path.clone(), attrs::mtime(&node.stat)));
                pending.push(node.path);
            }
        }
    }
    // Last, because every entry in a directory changes its time.
    for (path, mtime) in directories {
        let entry = to.entry(&path).at("open", &path)?;
        entry.utimens(&attrs::modified(mtime)).at("set the times of", &path)?;
    }
    let top = to.entry(Path::new(".")).at("open", "the copy")?;
    attrs::apply(&top, &look).at("set the attributes of", "the copy")?;
    Ok(true)
}

fn entry_of(below: &Below) -> Result<Entry, Errno> {
    let (parent, name) = below.path.parent().zip(below.path.file_name()).ok_or(Errno::INVAL)?;
    Root::open(parent)?.entry(Path::new(name))
}
