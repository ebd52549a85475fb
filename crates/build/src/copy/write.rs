//! Writing one file, directory, link or node.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, Timespec};

use super::select::{CAPABILITY, Meta, Node};
use super::{CopyError, at};
use crate::rooted::{Entry, Errno, FileType, Timestamps};

/// How sources are opened; a fifo that takes a file's place must not block us.
pub(super) const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Owner only, until the file has its bytes and its owner.
const NEW: u32 = 0o600;

/// Owner and permissions of a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub owner: (u32, u32),
    pub mode: u32,
}

/// Puts a copy of `node` at `entry`; `shown` is its path for messages. A directory joins one that
/// is there; anything else replaces what is there.
pub(super) fn node<S: io::Read>(
    entry: &Entry,
    shown: &Path,
    node: &Node,
    look: Look,
    open_source: impl FnOnce() -> Result<S, CopyError>,
) -> Result<(), CopyError> {
    let kind = node.meta.kind;
    if kind == FileType::Socket {
        // A tar could not hold it, so no layer has ever had one.
        return Ok(());
    }
    let there = entry.file_type().map_err(at("stat", shown))?;
    if there.is_some() && (kind, there) != (FileType::Directory, Some(FileType::Directory)) {
        entry.remove_tree().map_err(at("remove", shown))?;
    }
    match kind {
        FileType::Directory if there == Some(FileType::Directory) => {}
        FileType::Directory => entry.mkdir(Mode::from(0o700)).map_err(at("make directory", shown))?,
        FileType::Symlink => {
            let target = node.target.as_deref().unwrap_or(Path::new(""));
            entry.symlink(target).map_err(at("make link", shown))?;
        }
        FileType::RegularFile => contents(entry, shown, open_source()?)?,
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            let (major, minor) = node.meta.device;
            entry.mknod(kind, Mode::from(NEW), major, minor).map_err(at("make node", shown))?;
        }
        FileType::Socket | FileType::Unknown => return Err(at("copy", shown)(Errno::OPNOTSUPP)),
    }
    attributes(entry, shown, node, look)
}

/// Makes `entry` another name of `first`.
pub(super) fn hard_link(entry: &Entry, shown: &Path, first: &Entry) -> Result<(), CopyError> {
    entry.remove_tree().map_err(at("remove", shown))?;
    entry.link_from(first).map_err(at("link", shown))
}

/// Time of last change, for both times: when a copy was last read is nobody's matter.
pub(super) fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: meta.mtime_nanos };
    Timestamps { last_access: time, last_modification: time }
}

/// Within one file system that can share extents (xfs, btrfs) no byte is copied: std uses
/// copy_file_range.
fn contents(entry: &Entry, shown: &Path, mut source: impl io::Read) -> Result<(), CopyError> {
    let mut target = File::from(entry.create_new(Mode::from(NEW)).map_err(at("create", shown))?);
    let copied = io::copy(&mut source, &mut target);
    copied.map(drop).map_err(|source| CopyError::Data { step: "write", path: shown.to_owned(), source })
}

/// Owner first: a change of owner clears set-id bits and capabilities. Times last.
fn attributes(entry: &Entry, shown: &Path, node: &Node, look: Look) -> Result<(), CopyError> {
    entry.chown(look.owner.0, look.owner.1).map_err(at("set owner of", shown))?;
    if node.meta.kind != FileType::Symlink {
        let mode = Mode::from(look.mode);
        entry.chmod(mode).map_err(at("set mode of", shown))?;
    }
    if let Some(capability) = &node.capability {
        entry.set_xattr(CAPABILITY.as_ref(), capability).map_err(at("set capabilities of", shown))?;
    }
    entry.utimens(&times(&node.meta)).map_err(at("set times of", shown))
}
