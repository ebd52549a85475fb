//! An upper directory that leaves content below becomes one that stands for itself, as layers must.
//!
//! With metacopy, overlayfs notes in a file of the upper directory that its content is that of the
//! layers below, and in a renamed directory where below its entries are. Both notes hold until the
//! content is there: a crash in between leaves an upper directory that shows the same.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use seacow_sys::Errno;
use seacow_sys::rooted::{Entry, Root, list};

use crate::disk::Disk;
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::copy::{Marks, copy_content, copy_node};
use crate::fsutil::lower::{Below, Lowers};
use crate::fsutil::walk::{Node, Walk};

/// Brings everything into `upper` that it shows and does not have. `merged` is what lies below.
pub(super) fn resolve(upper: &Path, mut merged: Lowers, disk: &Disk) -> Result<(), IoFailure> {
    let root = Root::open(upper).at("open", upper)?;
    let mut moved: Vec<PathBuf> = Vec::new();
    let mut inside: Option<PathBuf> = None;
    let mut needless: Vec<PathBuf> = Vec::new();
    let mut walk = Walk::new(&root, Path::new(""));
    while let Some(node) = walk.next()? {
        let redirect = attrs::redirect(&node.entry).at("look at", &node.path)?;
        if node.kind() == FileType::RegularFile {
            if attrs::is_metacopy(&node.entry).at("look at", &node.path)? {
                disk.step("bring content").at("bring the content of", &node.path)?;
                let below = match &redirect {
                    Some(redirect) => merged.redirected(&node.path, redirect),
                    None => merged.find(&node.path),
                };
                let below = below.and_then(|below| below.ok_or(Errno::NOENT));
                fill_file(&node, &below.at("find the content of", &node.path)?)?;
            } else if redirect.is_some() {
                // What is left of a note when the content came after a renaming.
                attrs::clear_marks(&node.entry).at("set the attributes of", &node.path)?;
            }
            continue;
        }
        if attrs::is_whiteout(&node.stat) && (is_in(&inside, &node) || is_in_opaque(&root, &node)?) {
            needless.push(node.path.clone());
        }
        if !node.is_dir() {
            continue;
        }
        if inside.as_ref().is_some_and(|inside| !node.path.starts_with(inside)) {
            inside = None;
        }
        if let Some(redirect) = redirect {
            merged.follow(&node.path, &redirect).at("look below at", &node.path)?;
            moved.push(node.path.clone());
            inside.get_or_insert_with(|| node.path.clone());
        }
        if inside.is_some() {
            fill_directory(&root, &node.path, &mut merged)?;
        }
    }
    // The inner ones first: what they refer to may be found through the outer one.
    for path in moved.iter().rev() {
        disk.step("stand alone").at("set the attributes of", path)?;
        let stand_alone = root.entry(path).and_then(|entry| {
            attrs::set_opaque(&entry)?;
            attrs::clear_marks(&entry)
        });
        stand_alone.at("set the attributes of", path)?;
    }
    // Overlayfs lists them where there is nothing to be hidden any more.
    for path in needless {
        remove_whiteout(&root, &path)?;
    }
    Ok(())
}

fn is_in(moved: &Option<PathBuf>, node: &Node) -> bool {
    moved.as_ref().is_some_and(|moved| node.path.starts_with(moved))
}

/// Of a directory that stood for itself when a crash came.
fn is_in_opaque(root: &Root, node: &Node) -> Result<bool, IoFailure> {
    let parent = node.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let Some(parent) = parent else { return Ok(false) };
    root.entry(parent).and_then(|entry| attrs::is_opaque(&entry)).at("look at", parent)
}

fn remove_whiteout(root: &Root, path: &Path) -> Result<(), IoFailure> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let stat = root.stat(parent).at("look at", parent)?;
    root.entry(path).and_then(|entry| entry.unlink()).at("remove the mark of", path)?;
    let dir = root.entry(&parent.join(".")).at("open", parent)?;
    dir.utimens(&attrs::modified(attrs::mtime(&stat))).at("set the times of", parent)
}

/// The content of a file of which only attributes are here.
fn fill_file(node: &Node, below: &Below) -> Result<(), IoFailure> {
    let fill = || -> io::Result<()> {
        let own = attrs::read(&node.entry)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut to = File::from(node.entry.open(flags, Mode::empty())?);
        let mut from = File::open(&below.path)?;
        // Of a copy of a file that got its content meanwhile, some of that may be here.
        to.set_len(0)?;
        copy_content(&mut from, &mut to)?;
        to.set_len(u64::try_from(node.stat.st_size).unwrap_or(0))?;
        // Writing has taken set-id bits, capabilities and the time.
        attrs::apply(&node.entry, &own)?;
        // On the disk before the note is gone.
        to.sync_data()?;
        attrs::clear_marks(&node.entry)?;
        Ok(())
    };
    fill().at("bring the content of", &node.path)
}

/// Everything that a directory shows from below and does not have.
fn fill_directory(root: &Root, path: &Path, merged: &mut Lowers) -> Result<(), IoFailure> {
    let dir = root.locate_dir(path).at("open", path)?;
    let stat = rustix::fs::fstat(&dir).at("look at", path)?;
    let own: HashSet<_> =
        list(std::os::fd::AsFd::as_fd(&dir)).at("list", path)?.into_iter().map(|(name, _)| name).collect();
    for name in merged.names(path).at("look below at", path)? {
        if !own.contains(&name) {
            bring(root, &path.join(name), merged)?;
        }
    }
    let entry = root.entry(path).at("open", path)?;
    entry.utimens(&attrs::modified(attrs::mtime(&stat))).at("set the times of", path)
}

/// Copies what is below at `path`, with everything in it.
fn bring(root: &Root, path: &Path, merged: &mut Lowers) -> Result<(), IoFailure> {
    let Some(below) = merged.find(path).at("look below at", path)? else { return Ok(()) };
    let (dir, name) = (below.path.parent(), below.path.file_name());
    let entry = match (dir, name) {
        (Some(dir), Some(name)) => Root::open(dir).and_then(|dir| dir.entry(Path::new(name))),
        _ => Err(Errno::INVAL),
    };
    let entry: Entry = entry.at("open", &below.path)?;
    let node = Node { path: path.to_owned(), entry, stat: below.stat };
    let target = root.entry(path).at("open", path)?;
    copy_node(&node, &target, root, Marks::None, &mut std::collections::HashMap::new()).at("copy", path)?;
    if !node.is_dir() {
        return Ok(());
    }
    for name in merged.names(path).at("look below at", path)? {
        bring(root, &path.join(name), merged)?;
    }
    target.utimens(&attrs::modified(attrs::mtime(&node.stat))).at("set the times of", path)
}
