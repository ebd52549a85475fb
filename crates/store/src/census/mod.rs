//! The census: every byte that the data root takes on the disk, and who has it.
//!
//! Vocabulary
//! - *holder*: a directory that belongs to one thing: a layer, a container's snapshot, a volume.
//! - *part*: bytes that the same holders have, be it by extents that their files share or by links to one
//!   file. Every byte is in one part, so the parts add up to what the disk says.
//!
//! Extents are those of FIEMAP, where the file system shares any (xfs, btrfs); elsewhere a file is one
//! piece. What a file system keeps for itself (its trees, its journal) is nobody's, and packed extents
//! (btrfs with compression) count as what they hold.

mod pieces;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use seacow_spec::ChainId;

use crate::error::{At, IoFailure};
use crate::shared::Shared;
use crate::snapshot::SnapshotKey;
use crate::store::{Store, names};
use pieces::Pieces;

/// Who has bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// A layer that the metadata names.
    Layer(ChainId),
    /// What a container, or a prepared one, has written.
    Snapshot(SnapshotKey),
    /// The log of a container and what it wrote into scratch mounts.
    Container(String),
    /// What a volume holds.
    Volume(String),
    /// A snapshot of a volume.
    Saved {
        /// The volume.
        volume: String,
        /// The snapshot.
        name: String,
    },
    /// What is being made or removed.
    Passing,
    /// Metadata, and what all containers have at the bottom.
    Store,
}

/// Bytes that the same holders have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// On the disk.
    pub bytes: u64,
    /// Indexes into [`Census::holders`], sorted, at least one.
    pub holders: Vec<usize>,
}

/// Who has which bytes of the data root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Everybody, each once.
    pub holders: Vec<Holder>,
    /// All bytes, each once.
    pub parts: Vec<Part>,
}

impl Census {
    /// All bytes.
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Of the whole file system that holds the data root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its size in bytes.
    pub size: u64,
    /// Of these, in use; by whomever.
    pub used: u64,
}

impl Store {
    /// Counts who has which bytes. Looks at every file, so it takes as long as there are many; what goes
    /// meanwhile is passed over.
    ///
    /// # Errors
    /// The disk failed.
    pub fn census(&self) -> Result<Census, IoFailure> {
        let mut pieces = Pieces::default();
        for (holder, dir) in holders(&self.shared)? {
            pieces.count(holder, &dir)?;
        }
        Ok(pieces.sum())
    }

    /// Size and use of the file system that holds the data root.
    ///
    /// # Errors
    /// The disk failed.
    pub fn file_system(&self) -> Result<FileSystem, IoFailure> {
        let root = self.data_root();
        let stat = rustix::fs::statvfs(root).at("look at", root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(FileSystem { size: bytes(stat.f_blocks), used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)) })
    }
}

/// Every directory below the data root, with whose it is; what is in one of them is not listed again.
fn holders(shared: &Shared) -> Result<Vec<(Holder, PathBuf)>, IoFailure> {
    let layout = &shared.layout;
    let mut found = Vec::new();
    for name in names(layout.data())? {
        let path = layout.data().join(&name);
        match name.to_str() {
            Some("layers") => found.extend(below(&path, |name| layer(shared, name))?),
            Some("snapshots") => {
                found.extend(below(&path, |name| name.to_str()?.parse().ok().map(Holder::Snapshot))?);
            }
            Some("containers") => {
                found.extend(below(&path, |name| Some(Holder::Container(name.to_str()?.to_owned())))?);
            }
            Some("volumes") => volumes(&path, &mut found)?,
            Some("drafts" | "trash") => found.push((Holder::Passing, path)),
            _ => found.push((Holder::Store, path)),
        }
    }
    Ok(found)
}

fn layer(shared: &Shared, name: &OsStr) -> Option<Holder> {
    let chain = ChainId(format!("sha256:{}", name.to_str()?).parse().ok()?);
    shared.catalog().layers.contains_key(&chain).then_some(Holder::Layer(chain))
}

fn below(dir: &Path, holder: impl Fn(&OsStr) -> Option<Holder>) -> Result<Vec<(Holder, PathBuf)>, IoFailure> {
    let named = |name: std::ffi::OsString| (holder(&name).unwrap_or(Holder::Passing), dir.join(name));
    Ok(names(dir)?.into_iter().map(named).collect())
}

fn volumes(dir: &Path, found: &mut Vec<(Holder, PathBuf)>) -> Result<(), IoFailure> {
    for name in names(dir)? {
        let Some(volume) = name.to_str().map(str::to_owned) else { continue };
        let home = dir.join(&name);
        // One that is removed meanwhile has nothing.
        for inside in names(&home).unwrap_or_default() {
            let path = home.join(&inside);
            if inside != crate::volume::SAVED {
                found.push((Holder::Volume(volume.clone()), path));
                continue;
            }
            let saved = |name: &OsStr| {
                Some(Holder::Saved { volume: volume.clone(), name: name.to_str()?.to_owned() })
            };
            found.extend(below(&path, saved)?);
        }
    }
    Ok(())
}
