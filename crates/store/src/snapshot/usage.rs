//! The CoW ledger of one writable layer: what it takes on the disk, and why.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use seacow_sys::rooted::{Entry, Root};

use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::lower::Lowers;
use crate::fsutil::walk::Walk;

/// How many paths each list names; the counts are of all.
const MAX_LISTED: usize = 1000;

/// What a writable layer takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on the disk: allocated blocks that it does not share, hard links once, directories and
    /// the layer's own included.
    pub bytes: u64,
    /// Sum of the files' sizes, hard links once: Docker's `SizeRw`.
    pub size: u64,
    /// Inodes.
    pub inodes: u64,
    /// Files of the image that were copied to be changed.
    pub copied_up: Paths,
    /// Files the image does not have.
    pub new: Paths,
    /// Names of the image that are gone; they take no bytes.
    pub deleted: Paths,
}

/// A list of paths, cut when long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// How many there are.
    pub count: u64,
    /// Bytes on the disk of them all.
    pub bytes: u64,
    /// The first of them, sorted.
    pub listed: Vec<PathUse>,
}

/// A path and its bytes on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathUse {
    /// Absolute, as seen in the container.
    pub path: PathBuf,
    /// Allocated bytes.
    pub bytes: u64,
}

impl Paths {
    pub(super) fn add(&mut self, path: &Path, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(PathUse { path: Path::new("/").join(path), bytes });
        }
    }
}

/// Of an upper directory. `shares`: the file system may have copied files up by sharing their extents,
/// which then are not this layer's alone.
pub(super) fn usage(upper: &Path, lowers: &mut Lowers, shares: bool) -> Result<Usage, IoFailure> {
    let root = Root::open(upper).at("open", upper)?;
    let top = root.stat(Path::new(".")).at("look at", upper)?;
    let mut usage = Usage { bytes: blocks(&top), inodes: 1, ..Usage::default() };
    let mut seen = HashSet::new();
    let mut walk = Walk::new(&root, Path::new(""));
    while let Some(node) = walk.next()? {
        let stat = &node.stat;
        if attrs::is_whiteout(stat) {
            usage.deleted.add(&node.path, 0);
            continue;
        }
        let first = node.is_dir() || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
        let bytes = match (first, shares) {
            (false, _) => 0,
            (true, false) => blocks(stat),
            (true, true) => own_bytes(&node.entry, stat),
        };
        usage.bytes += bytes;
        usage.inodes += u64::from(first);
        if node.is_dir() {
            if let Some(redirect) = attrs::redirect(&node.entry).at("look at", &node.path)? {
                lowers.follow(&node.path, &redirect).at("look below at", &node.path)?;
            }
            continue;
        }
        if first {
            usage.size += u64::try_from(stat.st_size).unwrap_or(0);
        }
        match lowers.find(&node.path).at("look below at", &node.path)? {
            Some(below) if !below.is_dir() => usage.copied_up.add(&node.path, bytes),
            _ => usage.new.add(&node.path, bytes),
        }
    }
    Ok(usage)
}

pub(super) fn blocks(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// Bytes that a file does not share, where the file system can tell; else all that it takes.
pub(super) fn own_bytes(entry: &Entry, stat: &Stat) -> u64 {
    let all = blocks(stat);
    if all == 0 || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return all;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let own = entry.open(flags, Mode::empty()).and_then(|file| seacow_sys::space::own_bytes(file.as_fd()));
    own.map_or(all, |own| own.min(all))
}
