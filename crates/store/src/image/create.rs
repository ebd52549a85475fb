//! New images: from a config and a stack, from a root file system's tar.

use std::io::Read;
use std::sync::Arc;

use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{ChainId, Digest, Reference, Timestamp};

use super::record::{ImageRecord, TagRecord};
use super::{Image, ImageError, Images, KeptManifest, NewManifest};
use crate::hash;
use crate::meta::{Durability, Table, Write};

/// An image to be.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// The config blob; its digest becomes the id.
    pub config: Vec<u8>,
    /// Topmost layer; its stack must be what the config's `rootfs.diff_ids` say.
    pub chain: Option<ChainId>,
    /// The image it was built on.
    pub parent: Option<Digest>,
}

impl NewImage {
    /// From a config that is yet to be written down. Its diff ids need not be filled in.
    pub fn from_config(config: &ImageConfig, chain: Option<ChainId>, parent: Option<Digest>) -> Self {
        // Only maps with non-string keys fail to serialise, and the config has none; should one
        // come, the empty blob is refused as an invalid config.
        Self { config: serde_json::to_vec(config).unwrap_or_default(), chain, parent }
    }
}

impl Images {
    /// Makes an image, durably. One of the same id stays as it is.
    ///
    /// # Errors
    /// The config is unreadable or lists other layers than the stack has, a layer or the parent
    /// does not exist, or the metadata failed.
    pub fn create(&self, new: NewImage) -> Result<Image, ImageError> {
        self.create_with(new, Durability::Durable)
    }

    /// As [`Images::create`]; with [`Durability::Unsynced`] for the steps within a build, which a
    /// crash of the machine may take away: they reach the disk with the image that is durable.
    ///
    /// # Errors
    /// As [`Images::create`].
    pub fn create_with(&self, new: NewImage, durability: Durability) -> Result<Image, ImageError> {
        self.create_named(new, &[], durability)
    }

    /// As [`Images::create_with`], with names, in one transaction: there is never an image that
    /// should have a name and has none.
    ///
    /// # Errors
    /// As [`Images::create`]; a name is reserved.
    pub fn create_named(
        &self,
        new: NewImage,
        names: &[Reference],
        durability: Durability,
    ) -> Result<Image, ImageError> {
        if let Some(name) = names.iter().find(|name| name.is_host()) {
            return Err(ImageError::Reserved(name.familiar()));
        }
        self.create_any(new, names, None, durability)
    }

    /// As [`Images::create_named`], with the manifest that a registry has of it.
    ///
    /// # Errors
    /// As [`Images::create_named`]; the manifest is not one of this image.
    pub fn create_from_registry(
        &self,
        new: NewImage,
        names: &[Reference],
        manifest: NewManifest,
    ) -> Result<Image, ImageError> {
        if let Some(name) = names.iter().find(|name| name.is_host()) {
            return Err(ImageError::Reserved(name.familiar()));
        }
        self.create_any(new, names, Some(manifest), Durability::Durable)
    }

    pub(super) fn create_any(
        &self,
        new: NewImage,
        names: &[Reference],
        manifest: Option<NewManifest>,
        durability: Durability,
    ) -> Result<Image, ImageError> {
        let config = self.check_config(&new.config, new.chain.as_ref())?;
        let id = hash::digest(&new.config);
        let manifest =
            manifest.map(|new| KeptManifest::new(new, &id, &config.rootfs.diff_ids)).transpose()?;
        // Held until the image itself keeps the layer.
        let _pin = new.chain.as_ref().map(|chain| self.layers.pin(chain)).transpose()?;
        let mut change = self.shared.change();
        if let Some(parent) = &new.parent
            && !self.shared.catalog().images.contains_key(parent)
        {
            return Err(ImageError::NotFound(parent.to_string()));
        }
        let record = ImageRecord {
            id: id.clone(),
            raw: new.config.into(),
            config: Arc::new(config),
            chain: new.chain,
            parent: new.parent,
            added: Timestamp::now(),
        };
        let known = self.shared.catalog().images.contains_key(&id);
        if !known {
            change.write(Write::json(Table::Images, id.hex(), &record.stored())?);
            change.write(Write::Put(Table::Configs, id.hex().to_owned(), record.raw.to_vec()));
        }
        if let Some(manifest) = &manifest {
            change.write(manifest.write()?);
        }
        let mut tags = Vec::new();
        for name in names {
            let (name, tag) = (name.clone().or_latest(), TagRecord { id: id.clone(), at: Timestamp::now() });
            change.write(Write::json(Table::Tags, &name.to_string(), &tag)?);
            tags.push((name, tag));
        }
        change.commit_with(durability, |catalog| {
            catalog.images.entry(id.clone()).or_insert_with(|| Arc::new(record));
            catalog.tags.extend(tags);
            let manifest = manifest.map(|kept| (kept.digest.clone(), Arc::new(kept)));
            catalog.manifests.extend(manifest);
        })?;
        drop(change);
        self.get(&id).ok_or_else(|| ImageError::NotFound(id.to_string()))
    }

    /// Makes an image from a config whose diff ids are filled in from the stack.
    ///
    /// # Errors
    /// As [`Images::create`].
    pub fn create_from_config(
        &self,
        mut config: ImageConfig,
        chain: Option<&ChainId>,
        parent: Option<&Digest>,
    ) -> Result<Image, ImageError> {
        config.rootfs.diff_ids = self.layers.diff_ids(chain)?;
        self.create(NewImage::from_config(&config, chain.cloned(), parent.cloned()))
    }

    /// Makes a one-layer image of a root file system's tar (plain, or packed with gzip, bzip2, xz or zstd). `config` gets the
    /// layer's diff id filled in.
    ///
    /// # Errors
    /// The tar is refused, or the disk failed.
    pub fn import(&self, tar: impl Read + Send, config: ImageConfig) -> Result<Image, ImageError> {
        let layer = self.layers.begin(None)?.apply_tar(tar)?.commit(None)?;
        self.create_from_config(config, Some(layer.chain_id()), None)
    }

    pub(super) fn check_config(
        &self,
        bytes: &[u8],
        chain: Option<&ChainId>,
    ) -> Result<ImageConfig, ImageError> {
        let limit = self.shared.limits.max_document;
        if bytes.len() as u64 > limit {
            return Err(ImageError::Config(format!("larger than {limit} bytes")));
        }
        let config = parse_config(bytes)?;
        if !self.layers.is_stack_of(chain, &config.rootfs.diff_ids) {
            return Err(ImageError::Config("its layers are not those of the image".into()));
        }
        Ok(config)
    }
}

/// A config blob; serde alone would take a JSON array for one.
pub(super) fn parse_config(bytes: &[u8]) -> Result<ImageConfig, ImageError> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ImageError::Config("not a JSON object".into()));
    }
    serde_json::from_slice(bytes).map_err(|error| ImageError::Config(error.to_string()))
}
