//! Where copies go in an image.
//!
//! - a directory's contents go into the destination, which is made if missing;
//! - a file goes into the destination if that is a directory or ends in a slash, else becomes it;
//! - an archive of `ADD` is unpacked into the destination.
//!
//! The destination itself is resolved through the image's symlinks, below the image's root. Inside
//! a copied tree nothing is followed: what stands in the way of a directory is replaced, directories
//! are merged.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Cursor, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Mode;

use super::mode::Chmod;
use super::select::{Meta, Node, Picked, PickedKind};
use super::write::{self, Look};
use super::{CopyError, at, unpack};
use crate::rooted::{Entry, Errno, FileType, Root};

/// Links in the way of a destination, at most (the kernel's own limit).
const MAX_LINKS: usize = 40;

/// Mode of directories that are made on the way.
const DIR_MODE: u32 = 0o755;

/// Who owns the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// This user and group.
    Set(u32, u32),
    /// As in the source (`COPY --from` without `--chown`).
    Keep,
}

impl Ownership {
    /// For one file.
    pub(super) fn of(self, meta: &Meta) -> (u32, u32) {
        match self {
            Self::Set(uid, gid) => (uid, gid),
            Self::Keep => (meta.uid, meta.gid),
        }
    }

    /// For directories that the source does not have.
    fn of_new(self) -> (u32, u32) {
        match self {
            Self::Set(uid, gid) => (uid, gid),
            Self::Keep => (0, 0),
        }
    }
}

/// How to place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placing<'a> {
    /// Where the files come from.
    pub from: &'a Root,
    /// The image.
    pub to: &'a Root,
    /// Absolute; a trailing slash means a directory.
    pub dest: &'a str,
    /// Who owns the copies.
    pub owner: Ownership,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// Permissions of the copies, if not those of the source.
    pub chmod: Option<&'a Chmod>,
}

impl Placing<'_> {
    fn look(&self, meta: &Meta) -> Look {
        Look { owner: self.owner.of(meta), mode: self.mode(meta) }
    }

    fn mode(&self, meta: &Meta) -> u32 {
        let is_dir = meta.kind == FileType::Directory;
        self.chmod.map_or(meta.mode, |chmod| chmod.apply(meta.mode, is_dir))
    }

    /// The same with another destination.
    fn at<'a>(&'a self, dest: &'a str) -> Placing<'a> {
        Placing { dest, ..*self }
    }
}

/// Writes one picked file or tree.
pub(crate) fn place(placing: &Placing<'_>, picked: &Picked) -> Result<(), CopyError> {
    if let Some(under) = &picked.under {
        let dest = with_parents(placing, picked, under)?;
        return place_at(&placing.at(&dest), picked);
    }
    place_at(placing, picked)
}

fn place_at(placing: &Placing<'_>, picked: &Picked) -> Result<(), CopyError> {
    match &picked.kind {
        PickedKind::Tree(nodes) => place_tree(placing, &picked.path, nodes),
        PickedKind::Text(node, data) => {
            place_file(placing, &picked.path, node, || Ok(Cursor::new(data.as_slice())))
        }
        PickedKind::File(node) => {
            let may_be_archive = placing.unpack && node.meta.kind == FileType::RegularFile;
            if may_be_archive && let Some(archive) = unpack::open(placing.from, &picked.path)? {
                let dir = make_dir(placing.to, Path::new(placing.dest), (0, 0))?;
                // What is in it keeps its own owners and permissions, whatever was asked for.
                return unpack::into(archive, dir, &picked.path);
            }
            let path = &picked.path;
            let open = || placing.from.open_at(path, write::READ, Mode::empty()).map(File::from);
            place_file(placing, path, node, || open().map_err(at("open", path)))
        }
    }
}

/// Makes the directories that stand before a name, like those of the source; gives the destination
/// of the thing itself.
fn with_parents(placing: &Placing<'_>, picked: &Picked, under: &Path) -> Result<String, CopyError> {
    let top = Path::new(placing.dest);
    let pivot: PathBuf = {
        let kept = under.components().count();
        let all: Vec<_> = picked.path.components().collect();
        all[..all.len().saturating_sub(kept)].iter().collect()
    };
    let parents = under.parent().unwrap_or(Path::new(""));
    make_dir(placing.to, top, placing.owner.of_new())?;
    let mut so_far = PathBuf::new();
    for component in parents.components() {
        so_far.push(component);
        let source = placing.from.stat(&pivot.join(&so_far)).map_err(at("stat", &so_far))?;
        let meta = Meta::from(&source);
        let path = top.join(&so_far);
        make_dir(placing.to, &path, placing.owner.of_new())?;
        let entry = placing.to.entry(&path).map_err(at("open", &path))?;
        let look = placing.look(&meta);
        entry.chown(look.owner.0, look.owner.1).map_err(at("set owner of", &path))?;
        entry.chmod(Mode::from(look.mode)).map_err(at("set mode of", &path))?;
    }
    let dest = match picked.kind {
        PickedKind::Tree(_) => top.join(under),
        PickedKind::File(_) | PickedKind::Text(..) => top.join(parents),
    };
    Ok(format!("{}/", dest.display()))
}

fn place_file<S: Read>(
    placing: &Placing<'_>,
    path: &Path,
    node: &Node,
    source: impl FnOnce() -> Result<S, CopyError>,
) -> Result<(), CopyError> {
    let dest = Path::new(placing.dest);
    let base = path.file_name().unwrap_or(OsStr::new("."));
    let entry = if placing.dest.ends_with('/') || is_dir(placing.to, dest)? {
        Entry::in_dir(make_dir(placing.to, dest, placing.owner.of_new())?, base).map_err(at("open", dest))?
    } else {
        follow(placing.to, dest, placing.owner.of_new())?
    };
    write::node(&entry, dest, node, placing.look(&node.meta), source)
}

fn place_tree(placing: &Placing<'_>, path: &Path, nodes: &[Node]) -> Result<(), CopyError> {
    let dest = Path::new(placing.dest);
    let from = Root::from_fd(placing.from.locate_dir(path).map_err(at("open", path))?);
    let to = Root::from_fd(make_dir(placing.to, dest, placing.owner.of_new())?);
    // Files with several names in the source keep being one file.
    let mut links: HashMap<(u64, u64), &Path> = HashMap::new();
    for node in nodes {
        let shown = dest.join(&node.rel);
        // Parents are plain directories by now: we made or checked them.
        let entry = to.entry(&node.rel).map_err(at("open", &shown))?;
        if let Some(id) = node.meta.shared {
            if let Some(first) = links.get(&id) {
                let first = to.entry(first).map_err(at("open", &shown))?;
                write::hard_link(&entry, &shown, &first)?;
                continue;
            }
            links.insert(id, &node.rel);
        }
        let open = || from.open_without_symlinks(&node.rel, write::READ, Mode::empty());
        let source = || open().map(File::from).map_err(at("open", &shown));
        write::node(&entry, &shown, node, placing.look(&node.meta), source)?;
    }
    // Writing into a directory has changed its time.
    for node in nodes.iter().rev().filter(|node| node.meta.kind == FileType::Directory) {
        let shown = dest.join(&node.rel);
        let entry = to.entry(&node.rel).map_err(at("open", &shown))?;
        entry.utimens(&write::times(&node.meta)).map_err(at("set times of", shown))?;
    }
    Ok(())
}

fn is_dir(root: &Root, path: &Path) -> Result<bool, CopyError> {
    match root.stat(path) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(at("stat", path)(errno)),
    }
}

/// A directory of the image, made with its parents where missing; new ones get the owner. Where a
/// link points to nothing, what it points to is made.
pub(crate) fn make_dir(root: &Root, path: &Path, owner: (u32, u32)) -> Result<OwnedFd, CopyError> {
    make_dir_within(root, path, owner, MAX_LINKS)
}

fn make_dir_within(root: &Root, path: &Path, owner: (u32, u32), links: usize) -> Result<OwnedFd, CopyError> {
    match root.locate_dir(path) {
        Err(Errno::NOENT) => {}
        found => return found.map_err(at("open", path)),
    }
    let mut prefix = PathBuf::from("/");
    for component in path.components() {
        let parent = prefix.clone();
        prefix.push(match component {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        });
        match root.locate_dir(&prefix) {
            Ok(_) => continue,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(at("open", prefix)(errno)),
        }
        let entry = root.entry(&prefix).map_err(at("open", &prefix))?;
        if entry.file_type().map_err(at("stat", &prefix))? == Some(FileType::Symlink) {
            let links = links.checked_sub(1).ok_or_else(|| at("resolve", &prefix)(Errno::LOOP))?;
            let target = entry.readlink().map_err(at("read link", &prefix))?;
            make_dir_within(root, &parent.join(target), owner, links)?;
            continue;
        }
        entry.mkdir(Mode::from(DIR_MODE)).map_err(at("make directory", &prefix))?;
        entry.chown(owner.0, owner.1).map_err(at("set owner of", &prefix))?;
        // The process's umask may have taken bits.
        entry.chmod(Mode::from(DIR_MODE)).map_err(at("set mode of", &prefix))?;
    }
    root.locate_dir(path).map_err(at("open", path))
}

/// The place that a path names after all symlinks, also where nothing is there yet; parents are
/// made.
fn follow(root: &Root, path: &Path, owner: (u32, u32)) -> Result<Entry, CopyError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let parent = path.parent().map(Path::to_owned).unwrap_or_default();
        make_dir(root, &parent, owner)?;
        let entry = root.entry(&path).map_err(at("open", &path))?;
        if entry.file_type().map_err(at("stat", &path))? != Some(FileType::Symlink) {
            return Ok(entry);
        }
        // Absolute targets replace the path; both are resolved below the root again.
        path = parent.join(entry.readlink().map_err(at("read link", &path))?);
    }
    Err(at("resolve", path)(Errno::LOOP))
}
