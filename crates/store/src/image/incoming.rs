//! An image that comes from elsewhere, its layers at once and in any order: a pull.
//!
//! ```text
//! incoming(config) ─▶ known(n)? ─▶ unpack(blob) × layers, on any threads ─▶ place(n) from the lowest on ─▶ finish(names)
//! ```
//! Nothing of it is visible before [`Incoming::finish`]; dropping it leaves nothing but layers that others
//! may use.

use std::io::Read;
use std::sync::Arc;

use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{ChainId, Digest, Reference};

use super::create::parse_config;
use super::{Image, ImageError, Images, NewImage, NewManifest};
use crate::hash;
use crate::layer::{Layer, LayerError, LayerInfo, Loose};

/// An image whose layers are yet to come.
#[derive(Debug)]
pub struct Incoming {
    images: Images,
    config: Vec<u8>,
    parsed: ImageConfig,
    /// What is in its place, from the lowest on; each keeps those below it.
    placed: Vec<Layer>,
}

/// A layer that was unpacked and has no place yet. Dropping it leaves nothing.
#[derive(Debug)]
pub struct Arrived(Loose);

impl Images {
    /// Begins an image with this config, of which `layers` are announced.
    ///
    /// # Errors
    /// The config is none, or lists another number of layers.
    pub fn incoming(&self, config: Vec<u8>, layers: usize) -> Result<Incoming, ImageError> {
        let parsed = parse_config(&config)?;
        let listed = parsed.rootfs.diff_ids.len();
        if listed != layers {
            return Err(ImageError::Config(format!("it lists {listed} layers, the manifest {layers}")));
        }
        Ok(Incoming { images: self.clone(), config, parsed, placed: Vec::new() })
    }
}

impl Incoming {
    /// The image's id.
    pub fn id(&self) -> Digest {
        hash::digest(&self.config)
    }

    /// Its config.
    pub fn config(&self) -> &ImageConfig {
        &self.parsed
    }

    /// The image, if it is here already.
    pub fn present(&self) -> Option<Image> {
        self.images.get(&self.id()).or_else(|| self.images.known_as(&self.id()))
    }

    /// Takes what is here already of the lowest layers, and tells how many those are.
    pub fn take_known(&mut self) -> usize {
        while let Some(diff_id) = self.parsed.rootfs.diff_ids.get(self.placed.len()) {
            let Ok(layer) = self.images.layers.pin(&hash::chain_id(self.below(), diff_id)) else { break };
            self.placed.push(layer);
        }
        self.placed.len()
    }

    /// Whether a layer's content is here, though on something else: then it need not come.
    pub fn is_elsewhere(&self, number: usize) -> bool {
        self.elsewhere(number).is_some()
    }

    fn elsewhere(&self, number: usize) -> Option<Arc<LayerInfo>> {
        let diff_id = self.parsed.rootfs.diff_ids.get(number)?;
        self.images.layers.list().into_iter().find(|layer| layer.diff_id == *diff_id)
    }

    /// Unpacks a layer's blob (a tar, plain or packed), whichever layer it is.
    ///
    /// # Errors
    /// The tar is refused, reading it fails, or the disk does.
    pub fn unpack(&self, blob: impl Read + Send) -> Result<Arrived, ImageError> {
        Ok(Arrived(self.images.layers.unpack_loose(blob)?))
    }

    /// Puts the next layer in its place; without one that arrived, from where its content is.
    ///
    /// # Errors
    /// It is not what the config lists there, or the disk failed.
    pub fn place(&mut self, arrived: Option<Arrived>) -> Result<(), ImageError> {
        let number = self.placed.len();
        let Some(diff_id) = self.parsed.rootfs.diff_ids.get(number) else {
            return Err(ImageError::Config("more layers came than it lists".into()));
        };
        let below = self.below();
        let chain = hash::chain_id(below, diff_id);
        let layer = match (self.images.layers.pin(&chain), arrived) {
            // Somebody else was faster.
            (Ok(known), _) => known,
            (Err(_), Some(arrived)) => arrived.0.commit(below, diff_id)?,
            (Err(_), None) => {
                let from = self.elsewhere(number).ok_or(LayerError::NotFound(chain))?;
                self.images.layers.again(&from.chain_id, below, diff_id)?
            }
        };
        self.placed.push(layer);
        Ok(())
    }

    fn below(&self) -> Option<&ChainId> {
        self.placed.last().map(Layer::chain_id)
    }

    /// Makes it visible under these names, with one transaction, and keeps the manifest with it.
    ///
    /// # Errors
    /// A layer is missing, a name is reserved, or the metadata failed.
    pub fn finish(self, names: &[Reference], manifest: NewManifest) -> Result<Image, ImageError> {
        let chain = self.below().cloned();
        let new = NewImage { config: self.config.clone(), chain, parent: None };
        self.images.create_from_registry(new, names, manifest)
    }
}
