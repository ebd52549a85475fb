//! Pieces of files on the disk, and the sets of those who have them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use seacow_sys::rooted::{Entry, Root};
use seacow_sys::space::{self, Piece};

use super::{Census, Holder, Part};
use crate::error::IoFailure;
use crate::fsutil::walk::Walk;

/// A stretch of the disk that a holder has.
#[derive(Clone, Copy, Debug)]
struct Claim {
    from: u64,
    to: u64,
    holder: usize,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    holders: Vec<Holder>,
    index: HashMap<Holder, usize>,
    /// Bytes that nobody else can have.
    alone: BTreeMap<usize, u64>,
    /// Stretches that others may have too.
    claims: Vec<Claim>,
    /// Files with several links that are one piece each.
    linked: HashMap<(u64, u64), (u64, BTreeSet<usize>)>,
}

impl Pieces {
    /// Counts everything below a path, and itself. One that is not there has nothing.
    pub(super) fn count(&mut self, holder: Holder, path: &Path) -> Result<(), IoFailure> {
        let holder = self.number(holder);
        let Ok(stat) = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.alone(holder, blocks(&stat));
            return Ok(());
        }
        let root = match Root::open(path) {
            Ok(root) => root,
            Err(seacow_sys::Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(IoFailure::new("open", path, errno)),
        };
        self.alone(holder, blocks(&stat));
        let how = Extents::of(&root);
        let mut walk = Walk::new(&root, Path::new(""));
        while let Some(node) = walk.next().at_top(path)? {
            let is_file = node.kind() == FileType::RegularFile && blocks(&node.stat) > 0;
            let told =
                is_file && how != Extents::Unshared && self.by_extents(holder, &node.entry, &node.stat, how);
            if !told && how != Extents::Compared {
                self.as_one(holder, &node.stat);
            }
        }
        Ok(())
    }

    fn number(&mut self, holder: Holder) -> usize {
        if let Some(known) = self.index.get(&holder) {
            return *known;
        }
        let number = self.holders.len();
        self.holders.push(holder.clone());
        self.index.insert(holder, number);
        number
    }

    fn alone(&mut self, holder: usize, bytes: u64) {
        *self.alone.entry(holder).or_default() += bytes;
    }

    fn as_one(&mut self, holder: usize, stat: &Stat) {
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir || stat.st_nlink < 2 {
            return self.alone(holder, blocks(stat));
        }
        let empty = || (blocks(stat), BTreeSet::new());
        self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(empty).1.insert(holder);
    }

    /// False where the file system does not tell.
    fn by_extents(&mut self, holder: usize, entry: &Entry, stat: &Stat, how: Extents) -> bool {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = entry.open(flags, Mode::empty()) else { return false };
        let ask = stat.st_nlink > 1 || how == Extents::Compared;
        let (mut alone, mut claims) = (0u64, Vec::new());
        let told = space::pieces(file.as_fd(), |Piece { at, bytes, shared }| match at {
            Some(from) if shared || ask => claims.push(Claim { from, to: from + bytes, holder }),
            _ => alone += bytes,
        });
        if told.is_err() {
            return false;
        }
        self.alone(holder, alone);
        self.claims.append(&mut claims);
        true
    }

    /// Everything by who has it.
    pub(super) fn sum(self) -> Census {
        let mut parts: HashMap<Vec<usize>, u64> = HashMap::new();
        for (holder, bytes) in self.alone {
            *parts.entry(vec![holder]).or_default() += bytes;
        }
        for (bytes, holders) in self.linked.into_values() {
            *parts.entry(holders.into_iter().collect()).or_default() += bytes;
        }
        sweep(self.claims, &mut parts);
        let mut parts: Vec<Part> = parts
            .into_iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(holders, bytes)| Part { bytes, holders })
            .collect();
        parts.sort_by(|a, b| a.holders.cmp(&b.holders));
        Census { holders: self.holders, parts }
    }
}

/// Goes along the disk and notes who has each stretch.
fn sweep(claims: Vec<Claim>, parts: &mut HashMap<Vec<usize>, u64>) {
    let mut edges: Vec<(u64, bool, usize)> = Vec::with_capacity(claims.len() * 2);
    for claim in claims {
        edges.push((claim.from, true, claim.holder));
        edges.push((claim.to, false, claim.holder));
    }
    edges.sort_unstable();
    let mut here: BTreeMap<usize, usize> = BTreeMap::new();
    let mut at = 0;
    for (edge, begins, holder) in edges {
        if edge > at && !here.is_empty() {
            *parts.entry(here.keys().copied().collect()).or_default() += edge - at;
        }
        at = edge;
        let count = here.entry(holder).or_default();
        *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            here.remove(&holder);
        }
    }
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// What a file system's extents tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extents {
    /// None is shared.
    Unshared,
    /// Those that are shared say so.
    Marked,
    /// They say so of one file and not of the other, where a subvolume was cloned: all are compared. What
    /// has none lies in the file system's own trees.
    Compared,
}

impl Extents {
    fn of(root: &Root) -> Self {
        const EXT4: u64 = 0xef53;
        const BTRFS: u64 = 0x9123_683e;
        match rustix::fs::fstatfs(root).map(|stat| stat.f_type as u64) {
            Ok(EXT4) => Self::Unshared,
            Ok(BTRFS) => Self::Compared,
            Ok(_) | Err(_) => Self::Marked,
        }
    }
}

/// Something that vanishes while it is counted has nothing.
trait AtTop<T> {
    fn at_top(self, top: &Path) -> Result<Option<T>, IoFailure>;
}

impl<T> AtTop<T> for Result<Option<T>, IoFailure> {
    fn at_top(self, top: &Path) -> Result<Option<T>, IoFailure> {
        match self {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound && !top.exists() => Ok(None),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_belong_to_all_who_claim_them() {
        let claim = |from, to, holder| Claim { from, to, holder };
        let mut parts = HashMap::new();
        sweep(
            vec![claim(0, 10, 0), claim(5, 20, 1), claim(5, 20, 1), claim(20, 30, 2), claim(8, 9, 2)],
            &mut parts,
        );
        let of = |holders: &[usize]| parts.get(holders).copied().unwrap_or(0);
        assert_eq!((of(&[0]), of(&[0, 1]), of(&[1]), of(&[2]), of(&[0, 1, 2])), (5, 4, 10, 10, 1));
        assert_eq!(parts.values().sum::<u64>(), 30);
    }
}
