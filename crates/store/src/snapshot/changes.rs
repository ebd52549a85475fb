//! `docker diff`: an upper directory against the layers below it.
//!
//! As dockerd lists it: a directory whose own attributes did not change appears only when an entry
//! of it came or went. Unlike dockerd, a directory that was removed and made again is compared with
//! what it was, entry by entry.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;
use seacow_sys::rooted::Root;

use super::{Change, ChangeKind};
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::lower::Lowers;
use crate::fsutil::walk::{Node, Walk};

/// Paths with what happened to them, relative to the root. They order by components, as a walk does.
pub(super) type Kinds = BTreeMap<PathBuf, ChangeKind>;

/// As they are told.
pub(super) fn told(kinds: Kinds) -> Vec<Change> {
    let path = |path: PathBuf| Path::new("/").join(path);
    kinds.into_iter().map(|(at, kind)| Change { path: path(at), kind }).collect()
}

pub(super) fn changes(upper: &Path, lowers: Lowers) -> Result<Kinds, IoFailure> {
    let root = Root::open(upper).at("open", upper)?;
    let merged = Lowers::new(lowers.roots().to_vec());
    let mut found = Changes { lowers, merged, moved: None, kinds: BTreeMap::new() };
    let mut walk = Walk::new(&root, Path::new(""));
    while let Some(node) = walk.next()? {
        found.node(&root, &node)?;
    }
    Ok(found.kinds)
}

struct Changes {
    /// The image, as it is.
    lowers: Lowers,
    /// What the upper directory's own directories are merged with: not always the image's of the same
    /// name.
    merged: Lowers,
    /// The directory that was renamed, while the walk is in it.
    moved: Option<PathBuf>,
    kinds: Kinds,
}

impl Changes {
    fn node(&mut self, root: &Root, node: &Node) -> Result<(), IoFailure> {
        let below = self.lowers.find(&node.path).at("look below at", &node.path)?;
        if self.moved.as_ref().is_some_and(|moved| !node.path.starts_with(moved)) {
            self.moved = None;
        }
        if node.is_dir()
            && let Some(redirect) = attrs::redirect(&node.entry).at("look at", &node.path)?
        {
            self.merged.follow(&node.path, &redirect).at("look below at", &node.path)?;
            self.moved.get_or_insert_with(|| node.path.clone());
        }
        if self.moved.is_some() && !attrs::is_whiteout(&node.stat) {
            let kind = if below.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
            self.record(&node.path, kind);
            return if node.is_dir() { self.moved_along(root, &node.path) } else { Ok(()) };
        }
        match below {
            _ if attrs::is_whiteout(&node.stat) => {
                if below.is_some() {
                    self.record(&node.path, ChangeKind::Deleted);
                }
            }
            None => self.record(&node.path, ChangeKind::Added),
            Some(below) if below.is_dir() && node.is_dir() => {
                if !same_directory(&below.stat, &node.stat) {
                    self.record(&node.path, ChangeKind::Modified);
                }
                if attrs::is_opaque(&node.entry).at("look at", &node.path)? {
                    self.hidden(root, &node.path)?;
                }
            }
            Some(_) => self.record(&node.path, ChangeKind::Modified),
        }
        Ok(())
    }

    /// What a renamed directory shows from below under its new name, and what it hides there.
    fn moved_along(&mut self, root: &Root, path: &Path) -> Result<(), IoFailure> {
        let own = names_of(root, path)?;
        let from_below = self.merged.names(path).at("look below at", path)?;
        let shown: HashSet<&OsString> = own.iter().chain(&from_below).collect();
        for name in self.lowers.names(path).at("look below at", path)? {
            if !shown.contains(&name) {
                self.record(&path.join(name), ChangeKind::Deleted);
            }
        }
        for name in from_below.iter().filter(|name| !own.contains(*name)) {
            self.came_along(&path.join(name))?;
        }
        Ok(())
    }

    /// Something that is only below, and has come under another name with its directory.
    fn came_along(&mut self, path: &Path) -> Result<(), IoFailure> {
        let there = self.lowers.find(path).at("look below at", path)?.is_some();
        self.record(path, if there { ChangeKind::Modified } else { ChangeKind::Added });
        for name in self.merged.names(path).at("look below at", path)? {
            self.came_along(&path.join(name))?;
        }
        Ok(())
    }

    /// What an opaque directory hides, and does not have itself.
    fn hidden(&mut self, root: &Root, path: &Path) -> Result<(), IoFailure> {
        let own = names_of(root, path)?;
        for name in self.lowers.names(path).at("look below at", path)? {
            if !own.contains(&name) {
                self.record(&path.join(name), ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    fn record(&mut self, path: &Path, kind: ChangeKind) {
        self.kinds.insert(path.to_owned(), kind);
        if kind == ChangeKind::Modified {
            return;
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.kinds.entry(parent.to_owned()).or_insert(ChangeKind::Modified);
        }
    }
}

/// The names in an upper directory itself; none when it went away meanwhile.
fn names_of(root: &Root, path: &Path) -> Result<HashSet<OsString>, IoFailure> {
    let Ok(dir) = root.locate_dir(path) else { return Ok(HashSet::new()) };
    let names = seacow_sys::rooted::list(std::os::fd::AsFd::as_fd(&dir)).at("list", path)?;
    Ok(names.into_iter().map(|(name, _)| name).collect())
}

/// Whether the copy of a directory, made only because something in it was changed, is unchanged.
fn same_directory(a: &Stat, b: &Stat) -> bool {
    let look = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    look(a) == look(b)
}
