//! `docker diff`: an upper directory against the layers below it.
//!
//! As dockerd lists it: a directory whose own attributes did not change appears only when an entry
//! of it came or went. Unlike dockerd, a directory that was removed and made again is compared with
//! what it was, entry by entry.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rustix::fs::Stat;
use seacow_sys::rooted::Root;

use super::{Change, ChangeKind};
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::lower::Lowers;
use crate::fsutil::walk::{Node, Walk};

pub(super) fn changes(upper: &Path, lowers: &mut Lowers) -> Result<Vec<Change>, IoFailure> {
    let root = Root::open(upper).at("open", upper)?;
    let mut found = Changes { lowers, kinds: BTreeMap::new() };
    let mut walk = Walk::new(&root, Path::new(""));
    while let Some(node) = walk.next()? {
        found.node(&root, &node)?;
    }
    let path = |path: PathBuf| Path::new("/").join(path);
    Ok(found.kinds.into_iter().map(|(at, kind)| Change { path: path(at), kind }).collect())
}

struct Changes<'a> {
    lowers: &'a mut Lowers,
    /// Paths order by components, as a walk does.
    kinds: BTreeMap<PathBuf, ChangeKind>,
}

impl Changes<'_> {
    fn node(&mut self, root: &Root, node: &Node) -> Result<(), IoFailure> {
        let below = self.lowers.find(&node.path).at("look below at", &node.path)?;
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

    /// What an opaque directory hides, and does not have itself.
    fn hidden(&mut self, root: &Root, path: &Path) -> Result<(), IoFailure> {
        let own: HashSet<_> = match root.locate_dir(path) {
            Ok(dir) => seacow_sys::rooted::list(std::os::fd::AsFd::as_fd(&dir))
                .at("list", path)?
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            Err(_) => return Ok(()),
        };
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

/// Whether the copy of a directory, made only because something in it was changed, is unchanged.
fn same_directory(a: &Stat, b: &Stat) -> bool {
    let look = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    look(a) == look(b)
}
