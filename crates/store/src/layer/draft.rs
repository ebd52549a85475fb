//! A layer in the making.

use std::path::{Path, PathBuf};

use seacow_spec::{ChainId, Digest};

use super::place::Replaced;
use super::{Layer, LayerError, LayerKind, Layers};
use crate::error::At;
use crate::fsutil::attrs::{self, Attrs};
use crate::fsutil::lower::{LowerDir, Lowers};
use crate::hash;

/// The files, in a layer's directory.
pub(crate) const FS: &str = "fs";
/// What rebuilds the tar.
pub(crate) const RECIPE: &str = "recipe";
/// Things that the tar itself had replaced.
pub(crate) const EXTRA: &str = "extra";
/// Which those are.
pub(crate) const MOVES: &str = "moves";

/// A layer in the making, in a private directory that nobody else sees.
#[derive(Debug)]
pub struct LayerDraft {
    pub(super) layers: Layers,
    /// Keeps the parent while we build on it.
    pub(super) parent: Option<Layer>,
    pub(super) dir: PathBuf,
    pub(super) done: bool,
}

/// What a finished draft holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) diff_id: Digest,
    pub(super) tar_size: u64,
    pub(super) size: u64,
    pub(super) replaced: Vec<Replaced>,
}

impl LayerDraft {
    pub(super) fn begin(layers: &Layers, parent: Option<&ChainId>) -> Result<Self, LayerError> {
        let parent = layers.pin_below(parent)?;
        let dir = layers.shared.layout.new_draft()?;
        Ok(Self { layers: layers.clone(), parent, dir, done: false })
    }

    pub(super) fn fs(&self) -> PathBuf {
        self.dir.join(FS)
    }

    pub(super) fn parent_chain(&self) -> Option<&ChainId> {
        self.parent.as_ref().map(Layer::chain_id)
    }

    /// The layers below, merged.
    pub(super) fn lowers(&self) -> Result<Lowers, LayerError> {
        self.layers.lowers(self.parent_chain())
    }

    /// Attributes of the merged root below: overlayfs shows those of the topmost layer.
    pub(super) fn root_attrs(&self) -> Result<Attrs, LayerError> {
        let lowers = self.lowers()?;
        let Some(top) = lowers.roots().first() else {
            return Ok(Attrs { mode: 0o755, uid: 0, gid: 0, mtime: None, xattrs: Vec::new() });
        };
        dir_attrs(&top.path).at("look at", &top.path).map_err(Into::into)
    }

    pub(super) fn chain_of(&self, diff_id: &Digest) -> ChainId {
        hash::chain_id(self.parent_chain(), diff_id)
    }
}

impl Drop for LayerDraft {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed at the next open.
            let _ = self.layers.shared.discard(&self.dir);
        }
    }
}

impl Layers {
    /// A handle on what a new layer will stand on.
    pub(super) fn pin_below(&self, parent: Option<&ChainId>) -> Result<Option<Layer>, LayerError> {
        let parent = parent.map(|chain| self.pin(chain)).transpose()?;
        if let Some(parent) = &parent {
            let limit = self.shared.limits.max_layers;
            if self.stack(parent.chain_id())?.len() >= limit {
                return Err(LayerError::TooDeep(limit));
            }
        }
        Ok(parent)
    }

    /// The directories of a stack, topmost first, as overlayfs would merge them.
    pub(crate) fn lowers(&self, top: Option<&ChainId>) -> Result<Lowers, LayerError> {
        let mut roots = Vec::new();
        if let Some(top) = top {
            self.make_files(top)?;
        }
        for layer in top.map(|top| self.stack(top)).transpose()?.unwrap_or_default() {
            match layer.kind {
                LayerKind::Files => {
                    roots.push(LowerDir::layer(self.shared.layout.layer_fs(&layer.chain_id)));
                }
                LayerKind::Host => {
                    let (mask, root) = crate::host::view_of(&self.shared.layout)?;
                    roots.push(LowerDir::layer(mask));
                    roots.push(LowerDir::without_mounts(root).at("look at", "/")?);
                }
            }
        }
        Ok(Lowers::new(roots))
    }
}

pub(crate) fn dir_attrs(path: &Path) -> Result<Attrs, seacow_sys::Errno> {
    let root = seacow_sys::rooted::Root::open(path)?;
    attrs::read(&root.entry(Path::new("."))?)
}
