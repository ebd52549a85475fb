//! What differs between a container's tree and the one that it was cloned from.
//!
//! Attributes are compared always; content only where the file was touched since the clone was made
//! and looks the same all the same (a size and a time of change can be set back). Clocks are not
//! relied upon for more than that.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use seacow_sys::rooted::{Root, list};

use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::lower::{Below, LowerDir, Lowers};
use crate::fsutil::walk::{Node, Walk};
use crate::snapshot::ChangeKind;
use crate::snapshot::changes::Kinds;
use crate::snapshot::usage::{Usage, own_bytes};

/// Paths with what happened to them, as in `docker diff`.
#[derive(Debug, Default)]
pub(super) struct Differences {
    kinds: Kinds,
}

impl From<Kinds> for Differences {
    fn from(kinds: Kinds) -> Self {
        Self { kinds }
    }
}

/// Compares `root` with the tree it was cloned from at the time `since`.
pub(super) fn compare(root: &Path, tree: &Path, since: (i64, i64)) -> Result<Differences, IoFailure> {
    let top = Root::open(root).at("open", root)?;
    let mut comparison = Comparison {
        tree: Lowers::new(vec![LowerDir::layer(tree.to_owned())]),
        since,
        found: Differences::default(),
        linked: HashMap::new(),
    };
    comparison.gone(&top, Path::new(""))?;
    let mut walk = Walk::new(&top, Path::new(""));
    while let Some(node) = walk.next()? {
        comparison.node(&top, &node)?;
    }
    comparison.spread_over_links();
    Ok(comparison.found)
}

struct Comparison {
    tree: Lowers,
    since: (i64, i64),
    found: Differences,
    /// All names of files that have several.
    linked: HashMap<(u64, u64), Vec<PathBuf>>,
}

impl Comparison {
    fn node(&mut self, root: &Root, node: &Node) -> Result<(), IoFailure> {
        if !node.is_dir() && node.stat.st_nlink > 1 {
            let key = (node.stat.st_dev, node.stat.st_ino);
            self.linked.entry(key).or_default().push(node.path.clone());
        }
        match self.tree.find(&node.path).at("look below at", &node.path)? {
            None => self.found.record(&node.path, ChangeKind::Added),
            Some(below) if below.is_dir() && node.is_dir() => {
                if !self.same_look(node, &below)? {
                    self.found.record(&node.path, ChangeKind::Modified);
                }
                self.gone(root, &node.path)?;
            }
            Some(below) => {
                if !self.same_file(node, &below)? {
                    self.found.record(&node.path, ChangeKind::Modified);
                }
            }
        }
        Ok(())
    }

    /// Names that a directory had.
    fn gone(&mut self, root: &Root, path: &Path) -> Result<(), IoFailure> {
        let Ok(dir) = root.locate_dir(path) else { return Ok(()) };
        let own: HashSet<_> = list(dir.as_fd()).at("list", path)?.into_iter().map(|(name, _)| name).collect();
        for name in self.tree.names(path).at("look below at", path)? {
            if !own.contains(&name) {
                self.found.record(&path.join(name), ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    /// A new name of an old file, or a change through one of its names, is one of all names: they
    /// must stay one file in a layer.
    fn spread_over_links(&mut self) {
        for names in std::mem::take(&mut self.linked).into_values() {
            if names.iter().any(|name| self.found.kinds.contains_key(name)) {
                for name in names {
                    self.found.kinds.entry(name).or_insert(ChangeKind::Modified);
                }
            }
        }
    }

    fn same_file(&self, node: &Node, below: &Below) -> Result<bool, IoFailure> {
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let (own, old) = (&node.stat, &below.stat);
        if kind(own) != kind(old) || own.st_rdev != old.st_rdev || own.st_size != old.st_size {
            return Ok(false);
        }
        if !self.same_look(node, below)? {
            return Ok(false);
        }
        if (own.st_ctime, own.st_ctime_nsec as i64) < self.since {
            return Ok(true);
        }
        match kind(own) {
            FileType::RegularFile => same_content(node, &below.path),
            FileType::Symlink => {
                let target = std::fs::read_link(&below.path).at("read the link", &below.path)?;
                Ok(node.entry.readlink().at("read the link", &node.path)? == target)
            }
            _ => Ok(true),
        }
    }

    /// Owner, mode, time of change, attributes.
    fn same_look(&self, node: &Node, below: &Below) -> Result<bool, IoFailure> {
        let look = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
        if look(&node.stat) != look(&below.stat) {
            return Ok(false);
        }
        if (node.stat.st_ctime, node.stat.st_ctime_nsec as i64) < self.since {
            return Ok(true);
        }
        let (Some(dir), Some(name)) = (below.path.parent(), below.path.file_name()) else { return Ok(true) };
        let old = Root::open(dir)
            .and_then(|root| root.entry(Path::new(name)))
            .and_then(|entry| attrs::xattrs(&entry))
            .at("look at", &below.path)?;
        Ok(attrs::xattrs(&node.entry).at("look at", &node.path)? == old)
    }
}

impl Differences {
    fn record(&mut self, path: &Path, kind: ChangeKind) {
        self.kinds.insert(path.to_owned(), kind);
        if kind == ChangeKind::Modified {
            return;
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.kinds.entry(parent.to_owned()).or_insert(ChangeKind::Modified);
        }
    }

    /// Paths relative to the root, sorted.
    pub(super) fn into_kinds(self) -> Kinds {
        self.kinds
    }

    /// The ledger: changed files and new ones with the bytes that are theirs alone. Where what is not
    /// changed is `shared` it takes nothing; else it is in the sum.
    pub(super) fn usage(&self, root: &Path, shared: bool) -> Result<Usage, IoFailure> {
        let top = Root::open(root).at("open", root)?;
        let mut usage = Usage::default();
        let deleted = self.kinds.iter().filter(|(_, kind)| **kind == ChangeKind::Deleted);
        deleted.for_each(|(path, _)| usage.deleted.add(path, 0));
        let mut seen = HashSet::new();
        let mut walk = Walk::new(&top, Path::new(""));
        while let Some(node) = walk.next()? {
            let kind = self.kinds.get(&node.path).copied();
            if kind.is_none() && shared {
                continue;
            }
            let stat = &node.stat;
            let first = node.is_dir() || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
            let bytes = if first { own_bytes(&node.entry, stat) } else { 0 };
            usage.bytes += bytes;
            usage.inodes += u64::from(first);
            let Some(kind) = kind.filter(|_| !node.is_dir()) else { continue };
            if first {
                usage.size += u64::try_from(stat.st_size).unwrap_or(0);
            }
            match kind {
                ChangeKind::Modified => usage.copied_up.add(&node.path, bytes),
                ChangeKind::Added | ChangeKind::Deleted => usage.new.add(&node.path, bytes),
            }
        }
        Ok(usage)
    }
}

fn same_content(node: &Node, below: &Path) -> Result<bool, IoFailure> {
    const BUFFER: usize = 256 << 10;
    let mut own = crate::layer::open(node)?;
    let mut old = File::open(below).at("open", below)?;
    let (mut own_part, mut old_part) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let (a, b) = (
            read_full(&mut own, &mut own_part).at("read", &node.path)?,
            read_full(&mut old, &mut old_part).at("read", below)?,
        );
        if own_part.get(..a) != old_part.get(..b) {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            len => filled += len,
        }
    }
    Ok(filled)
}
