//! A draft becomes a layer.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use seacow_spec::{ChainId, Digest, Timestamp};
use seacow_sys::rooted::Root;

use super::draft::{Contents, LayerDraft, MOVES, RECIPE};
use super::recipe::RecipeWriter;
use super::{Layer, LayerError, LayerInfo, LayerKind, Layers};
use crate::disk::Disk;
use crate::error::{At, IoFailure};
use crate::fsutil::copy::{Marks, copy_tree};
use crate::fsutil::walk::Walk;
use crate::meta::{Durability, Table, Write};
use crate::shared::Shared;

/// Up to this many files are synced one by one; beyond, the file system as a whole.
const SYNC_SINGLY: usize = 24;

/// What becomes of an upper directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperMode {
    /// It becomes the layer: renamed, nothing copied. Nothing may be mounted on it, and its
    /// snapshot is good for nothing but removal afterwards.
    Move,
    /// It is copied (extents shared where the file system can) and stays as it is. For a
    /// container that goes on; the caller pauses it.
    Copy,
}

/// A draft that holds everything it will hold. [`Unpacked::commit`] makes it a layer; dropping it
/// leaves nothing.
#[derive(Debug)]
pub struct Unpacked {
    draft: LayerDraft,
    contents: Contents,
}

impl Unpacked {
    pub(super) fn new(draft: LayerDraft, contents: Contents) -> Self {
        Self { draft, contents }
    }

    /// Digest of the uncompressed tar.
    pub fn diff_id(&self) -> &Digest {
        &self.contents.diff_id
    }

    /// Makes it a layer, or finds that there is one with the same content on the same parent.
    /// Nothing but the old or the new state is seen, whenever the power fails.
    ///
    /// # Errors
    /// The digest is not the `expected` one, or the disk failed.
    pub fn commit(self, expected: Option<&Digest>) -> Result<Layer, LayerError> {
        if let Some(expected) = expected
            && *expected != self.contents.diff_id
        {
            let (expected, actual) = (expected.clone(), self.contents.diff_id.clone());
            return Err(LayerError::DigestMismatch { expected, actual });
        }
        let Self { mut draft, contents } = self;
        draft.finish(contents)
    }
}

impl Layers {
    /// Makes a layer of what a container has changed.
    ///
    /// `upper` is the upper directory of a snapshot on top of `parent`.
    ///
    /// # Errors
    /// The parent does not exist, the stack is full, or the disk failed; the directory is still in
    /// place then.
    pub fn commit_upper(
        &self,
        parent: Option<&ChainId>,
        upper: &Path,
        mode: UpperMode,
    ) -> Result<Layer, LayerError> {
        let mut draft = self.begin(parent)?;
        let fs = draft.fs();
        let source = match mode {
            UpperMode::Move => upper,
            UpperMode::Copy => {
                std::fs::create_dir(&fs).at("make directory", &fs)?;
                let from = Root::open(upper).at("open", upper)?;
                let to = Root::open(&fs).at("open", &fs)?;
                copy_tree(&from, Path::new(""), &to, Marks::Keep)?;
                &fs
            }
        };
        let recipe = RecipeWriter::create(&draft.dir.join(RECIPE))?;
        let contents = super::diff::upper_contents(source, recipe)?;
        if let Ok(layer) = self.pin(&draft.chain_of(&contents.diff_id)) {
            return Ok(layer);
        }
        if mode == UpperMode::Move {
            self.shared.disk.rename(upper, &fs)?;
        }
        let made = draft
            .root_attrs()
            .and_then(|attrs| Ok(super::apply::apply_root_attrs(&fs, &attrs)?))
            .and_then(|()| draft.finish(contents));
        if made.is_err() && mode == UpperMode::Move {
            // Undo of the move, before the draft takes the files with it.
            let _ = std::fs::rename(&fs, upper);
        }
        made
    }

    /// Registers the live root file system as a lowest layer, by a digest that stands for it.
    pub(crate) fn register_host(&self, diff_id: &Digest) -> Result<Layer, LayerError> {
        let info = LayerInfo {
            chain_id: crate::hash::chain_id(None, diff_id),
            diff_id: diff_id.clone(),
            parent: None,
            kind: LayerKind::Host,
            size: 0,
            tar_size: 0,
            disk: 0,
            created: Timestamp::now(),
            frozen: None,
        };
        self.record(info, |_| Ok(()))
    }

    /// Puts a layer's files into place and then into the metadata; one of the same name wins.
    pub(super) fn record(
        &self,
        info: LayerInfo,
        install: impl FnOnce(&Shared) -> Result<(), IoFailure>,
    ) -> Result<Layer, LayerError> {
        let chain = info.chain_id.clone();
        let mut change = self.shared.change();
        if let Ok(layer) = self.pin(&chain) {
            return Ok(layer);
        }
        install(&self.shared)?;
        change.write(Write::json(Table::Layers, chain.hex(), &info)?);
        let info = Arc::new(info);
        self.shared.pins.add(&chain);
        let layer = Layer { info: info.clone(), pins: self.shared.pins.clone() };
        // Nothing refers to it yet. The image that will is written durably, and this with it.
        change.commit_with(Durability::Unsynced, |catalog| {
            catalog.layers.insert(chain, info);
        })?;
        Ok(layer)
    }
}

impl LayerDraft {
    /// Sync, rename into place, sync, metadata.
    pub(super) fn finish(&mut self, contents: Contents) -> Result<Layer, LayerError> {
        if !contents.replaced.is_empty() {
            self.write_moves(&contents)?;
        }
        let shared = self.layers.shared.clone();
        let disk = sync_tree(&shared.disk, &self.dir)?;
        let info = LayerInfo {
            chain_id: self.chain_of(&contents.diff_id),
            diff_id: contents.diff_id,
            parent: self.parent_chain().cloned(),
            kind: LayerKind::Files,
            size: contents.size,
            tar_size: contents.tar_size,
            disk,
            created: Timestamp::now(),
            frozen: None,
        };
        let target = shared.layout.layer(&info.chain_id);
        let dir = self.dir.clone();
        let made = self.layers.record(info, |shared| {
            // A directory that the metadata does not name: left behind by a crash.
            shared.discard(&target)?;
            shared.disk.rename(&dir, &target)?;
            shared.disk.sync_dirs_before_metadata(&[shared.layout.layers()]);
            Ok(())
        });
        if made.is_err() && !dir.exists() {
            // Undo of the rename: the files are the draft's again.
            let _ = std::fs::rename(&target, &dir);
        }
        // When there was such a layer already, the draft is dropped with its files.
        self.done = !dir.exists();
        made
    }

    pub(super) fn write_moves(&self, contents: &Contents) -> Result<(), LayerError> {
        let path = self.dir.join(MOVES);
        let write = || -> std::io::Result<()> {
            serde_json::to_writer(File::create_new(&path)?, &contents.replaced).map_err(Into::into)
        };
        Ok(write().at("write", &path)?)
    }
}

/// Writes a draft out to the disk, and gives the bytes that it takes there. Names follow with the
/// metadata's own sync where the file system has one journal for all.
pub(super) fn sync_tree(disk: &Disk, dir: &Path) -> Result<u64, IoFailure> {
    let root = Root::open(dir).at("open", dir)?;
    let mut walk = Walk::new(&root, Path::new(""));
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    let (mut bytes, mut count) = (0u64, 0usize);
    let mut seen = HashSet::new();
    while let Some(node) = walk.next()? {
        let stat = &node.stat;
        if stat.st_nlink < 2 || node.is_dir() || seen.insert((stat.st_dev, stat.st_ino)) {
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        count += 1;
        if count > SYNC_SINGLY {
            continue;
        }
        if node.is_dir() {
            dirs.push(dir.join(&node.path));
        } else if node.kind() == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            let file = node.entry.open(flags, Mode::empty()).at("open", &node.path)?;
            files.push((File::from(file), node.path));
        }
    }
    if count > SYNC_SINGLY {
        disk.sync_fs(dir)?;
    } else {
        disk.sync_files(&files)?;
        disk.sync_dirs_on_the_way(&dirs)?;
    }
    Ok(bytes)
}
