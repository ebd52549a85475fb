//! Layers: read-only file trees, shared by all images and containers that are built on them.
//!
//! Vocabulary
//! - *diff id*: digest of the layer's uncompressed tar. *chain id*: digest of the whole stack up to
//!   and including the layer; it names the layer's directory, because the same tar on another
//!   parent may unpack differently.
//! - *draft*: a layer in the making, in a private directory, seen by nobody. [`LayerDraft::commit`]
//!   makes it a layer; dropping it leaves nothing.
//! - *recipe*: beside the files, what is needed to give the layer back as the very tar it came
//!   from: headers and padding, and which file's content comes where.
//! - *frozen*: a layer that was made of a container's files without reading them ([`Frozen`]): a made-up
//!   number stands for its diff id until somebody asks for the tar. *Sealed*: that was done.
//! - *pin*: a [`Layer`] handle keeps its layer (and so all below) from being removed; so do
//!   snapshots, images, and layers on top.
//!
//! Order of a commit: files, sync, directory renamed into place, directory synced, metadata. What
//! the metadata does not name is removed at the next open.

mod apply;
mod commit;
mod diff;
mod draft;
mod export;
mod files;
mod frozen;
mod loose;
mod place;
mod recipe;

use std::collections::HashSet;
use std::sync::Arc;

use seacow_spec::{ChainId, Classified, Digest, ErrorClass, Timestamp};
use serde::{Deserialize, Serialize};

pub use commit::{Unpacked, UpperMode};
pub(crate) use diff::{first_name, head, open};
pub(crate) use draft::FS;
pub use draft::LayerDraft;
pub use frozen::Frozen;
pub(crate) use frozen::{MARK, become_layer, finish_freezes, mark};
pub(crate) use loose::Loose;
pub use place::PlaceError;
pub(crate) use place::{Place, PlacePolicy, path_of};

use crate::error::IoFailure;
use crate::meta::MetaError;
use crate::shared::{Pins, Shared};
use crate::tar::TarError;

/// Why a layer could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// There is none of that name.
    #[error("layer {0} does not exist")]
    NotFound(ChainId),
    /// The tar stream is broken or refused.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry of the tar cannot be or may not be put on the disk.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The content is not what was announced.
    #[error("layer digest does not match: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More layers than an image may have.
    #[error("max depth exceeded: an image has at most {0} layers")]
    TooDeep(usize),
    /// The layer's own files contradict its recipe.
    #[error("layer {chain} is damaged: {reason}")]
    Damaged {
        /// Which.
        chain: ChainId,
        /// How.
        reason: String,
    },
    /// The layer is the live root file system of this machine.
    #[error(
        "the base of this image is the root file system of this machine, which is a view and has no \
         archive; export a container of the image instead, or build on another base"
    )]
    HostBase,
    /// The view of this machine's root cannot be made.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// Where the archive was to go does not take it.
    #[error("write the archive: {0}")]
    Output(#[source] std::io::Error),
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Classified for LayerError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Tar(TarError::Read(_)) | Self::Output(_) | Self::Damaged { .. } => ErrorClass::Internal,
            Self::Tar(_) | Self::DigestMismatch { .. } | Self::TooDeep(_) => ErrorClass::InvalidArgument,
            Self::Place(error) => error.class(),
            Self::HostBase => ErrorClass::NotImplemented,
            Self::Host(error) => error.class(),
            Self::Io(error) => error.class(),
            Self::Meta(error) => error.class(),
        }
    }
}

/// What a layer is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Files in the store.
    #[default]
    Files,
    /// The live root file system of this machine; nothing of it is in the store.
    Host,
}

/// What is known about a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Names the stack that ends with this layer.
    pub chain_id: ChainId,
    /// Digest of the uncompressed tar (made up for [`LayerKind::Host`]).
    pub diff_id: Digest,
    /// The stack below.
    pub parent: Option<ChainId>,
    /// Files or the host.
    #[serde(default)]
    pub kind: LayerKind,
    /// Sum of the sizes of its files, as Docker counts a layer's size.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Bytes taken on the disk when it was made.
    pub disk: u64,
    /// When it was made.
    pub created: Timestamp,
    /// It was frozen, and what is known of it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
}

/// A layer that cannot go away while this handle lives.
#[derive(Debug)]
pub struct Layer {
    info: Arc<LayerInfo>,
    pins: Arc<Pins>,
}

impl Layer {
    /// What is known about it.
    pub fn info(&self) -> &LayerInfo {
        &self.info
    }

    /// Names the stack that ends with it.
    pub fn chain_id(&self) -> &ChainId {
        &self.info.chain_id
    }

    /// Digest of its uncompressed tar.
    pub fn diff_id(&self) -> &Digest {
        &self.info.diff_id
    }
}

impl Clone for Layer {
    fn clone(&self) -> Self {
        self.pins.add(&self.info.chain_id);
        Self { info: self.info.clone(), pins: self.pins.clone() }
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.pins.remove(&self.info.chain_id);
    }
}

/// The layers of a store.
#[derive(Clone, Debug)]
pub struct Layers {
    shared: Arc<Shared>,
}

impl Layers {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Begins a layer on top of `parent` (`None`: the lowest one).
    ///
    /// # Errors
    /// The parent does not exist, the stack is full, or the private directory cannot be made.
    pub fn begin(&self, parent: Option<&ChainId>) -> Result<LayerDraft, LayerError> {
        LayerDraft::begin(self, parent)
    }

    /// A handle that keeps the layer.
    ///
    /// # Errors
    /// It does not exist.
    pub fn pin(&self, chain: &ChainId) -> Result<Layer, LayerError> {
        // Pinned before it is looked up: what is found pinned is not removed.
        self.shared.pins.add(chain);
        let found = self.shared.catalog().layers.get(chain).cloned();
        match found {
            Some(info) => Ok(Layer { info, pins: self.shared.pins.clone() }),
            None => {
                self.shared.pins.remove(chain);
                Err(LayerError::NotFound(chain.clone()))
            }
        }
    }

    /// What is known about a layer.
    pub fn get(&self, chain: &ChainId) -> Option<Arc<LayerInfo>> {
        self.shared.catalog().layers.get(chain).cloned()
    }

    /// A stack, topmost layer first.
    ///
    /// # Errors
    /// One of its layers does not exist.
    pub fn stack(&self, top: &ChainId) -> Result<Vec<Arc<LayerInfo>>, LayerError> {
        self.shared.catalog().stack(top).ok_or_else(|| LayerError::NotFound(top.clone()))
    }

    /// Diff ids of a stack, lowest first, as an image's config lists them.
    ///
    /// # Errors
    /// One of its layers does not exist.
    pub fn diff_ids(&self, top: Option<&ChainId>) -> Result<Vec<Digest>, LayerError> {
        let Some(top) = top else { return Ok(Vec::new()) };
        Ok(self.stack(top)?.iter().rev().map(|layer| layer.diff_id.clone()).collect())
    }

    /// All layers.
    pub fn list(&self) -> Vec<Arc<LayerInfo>> {
        self.shared.catalog().layers.values().cloned().collect()
    }

    /// Lets go of a handle, and removes the layer and those below it as far as nothing refers to them.
    ///
    /// # Errors
    /// The metadata failed.
    pub fn release(&self, layer: Layer) -> Result<(), LayerError> {
        let chain = layer.chain_id().clone();
        drop(layer);
        self.release_if_unused(&chain)
    }

    /// Calls `work` with a layer that cannot be removed meanwhile. Its last user may let go of it in that time,
    /// and could not remove it: that is done afterwards.
    pub(crate) fn with_pinned<T, E: From<LayerError>>(
        &self,
        chain: &ChainId,
        work: impl FnOnce(&Layer) -> Result<T, E>,
    ) -> Result<T, E> {
        let layer = self.pin(chain)?;
        let done = work(&layer);
        // What stays now goes at the next open.
        let _ = self.release(layer);
        done
    }

    /// Removes a stack as far as nothing refers to it.
    pub(crate) fn release_if_unused(&self, top: &ChainId) -> Result<(), LayerError> {
        // Nearly always an image has it, which is quickly seen.
        if !self.shared.catalog().layer_is_used(top, &HashSet::new()) {
            self.shared.change().release_layers(top)?;
        }
        Ok(())
    }

    /// Removes the layers that no image, no snapshot and no handle refers to, and gives their names.
    /// Only failed builds and loads leave such.
    ///
    /// # Errors
    /// The metadata failed.
    pub fn remove_unused(&self) -> Result<Vec<ChainId>, LayerError> {
        Ok(self.shared.change().release_all_unused()?)
    }
}
