//! Manifests of images, byte for byte as registries have them.
//!
//! An image that was pulled, or pushed, has at least one; it goes with the image. A manifest tells which blob holds
//! a layer, so that a layer that is in a registry already is found there by any image that has it.

use std::collections::HashSet;
use std::sync::Arc;

use seacow_spec::oci::image::{Descriptor, Manifest};
use seacow_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};

use super::{ImageError, Images};
use crate::hash;
use crate::meta::{self, MetaError, Table, Write};

/// A manifest to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewManifest {
    /// As it is in the registry.
    pub raw: Vec<u8>,
    /// What the registry calls it.
    pub media_type: String,
    /// Blobs of it that were unpacked to the image's layers, or packed from them. Of others, whose layers were here,
    /// it only says so.
    pub seen: Vec<Digest>,
}

/// A manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptManifest {
    /// Digest of its bytes.
    pub digest: Digest,
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub raw: Vec<u8>,
    /// The same, parsed.
    pub manifest: Manifest,
    /// The image's id.
    pub image: Digest,
    /// Digests of the unpacked layers, in the order of the manifest's.
    pub diff_ids: Vec<Digest>,
    /// Blobs that are known to hold their layers. For the others there is the manifest's word, which is good for
    /// this image and no other.
    pub seen: Vec<Digest>,
}

/// The same on the disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    image: Digest,
    media_type: String,
    diff_ids: Vec<Digest>,
    #[serde(default)]
    seen: Vec<Digest>,
    raw: String,
}

impl KeptManifest {
    /// Of an image with these layers.
    pub(super) fn new(new: NewManifest, image: &Digest, diff_ids: &[Digest]) -> Result<Self, ImageError> {
        let manifest: Manifest =
            serde_json::from_slice(&new.raw).map_err(|error| ImageError::Manifest(error.to_string()))?;
        if manifest.layers.len() != diff_ids.len() {
            let (listed, layers) = (manifest.layers.len(), diff_ids.len());
            return Err(ImageError::Manifest(format!("it lists {listed} layers, the image has {layers}")));
        }
        Ok(Self {
            digest: hash::digest(&new.raw),
            media_type: new.media_type,
            raw: new.raw,
            manifest,
            image: image.clone(),
            diff_ids: diff_ids.to_vec(),
            seen: new.seen,
        })
    }

    pub(super) fn write(&self) -> Result<Write, ImageError> {
        let raw =
            String::from_utf8(self.raw.clone()).map_err(|error| ImageError::Manifest(error.to_string()))?;
        let stored = Stored {
            image: self.image.clone(),
            media_type: self.media_type.clone(),
            diff_ids: self.diff_ids.clone(),
            seen: self.seen.clone(),
            raw,
        };
        Ok(Write::json(Table::Manifests, self.digest.hex(), &stored)?)
    }

    pub(crate) fn load(key: &str, value: &[u8]) -> Result<Self, MetaError> {
        let stored: Stored = meta::decode(Table::Manifests, key, value)?;
        let manifest = meta::decode(Table::Manifests, key, stored.raw.as_bytes())?;
        Ok(Self {
            digest: hash::digest(stored.raw.as_bytes()),
            media_type: stored.media_type,
            raw: stored.raw.into_bytes(),
            manifest,
            image: stored.image,
            diff_ids: stored.diff_ids,
            seen: stored.seen,
        })
    }
}

impl Images {
    /// The manifests of an image.
    pub fn manifests(&self, id: &Digest) -> Vec<Arc<KeptManifest>> {
        let catalog = self.shared.catalog();
        catalog.manifests.values().filter(|kept| kept.image == *id).cloned().collect()
    }

    /// Keeps one more manifest of an image, and gives its digest.
    ///
    /// # Errors
    /// There is no such image, it is no manifest of it, or the metadata failed.
    pub fn keep_manifest(&self, id: &Digest, new: NewManifest) -> Result<Digest, ImageError> {
        let image = self.get(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        let mut kept = KeptManifest::new(new, id, &image.config.rootfs.diff_ids)?;
        let digest = kept.digest.clone();
        let mut change = self.shared.change();
        let catalog = self.shared.catalog();
        let before = catalog.manifests.get(&digest).filter(|known| known.image == *id);
        let known = before.is_some_and(|before| kept.seen.iter().all(|blob| before.seen.contains(blob)));
        kept.seen.extend(before.iter().flat_map(|before| before.seen.iter().cloned()));
        if !catalog.images.contains_key(id) {
            return Err(ImageError::NotFound(id.to_string()));
        }
        drop(catalog);
        if !known {
            change.write(kept.write()?);
            change.commit(|catalog| {
                catalog.manifests.insert(digest.clone(), Arc::new(kept));
            })?;
        }
        Ok(digest)
    }

    /// Blobs that are known to hold a layer, by whichever image.
    pub fn packed(&self, diff_id: &Digest) -> Vec<Descriptor> {
        let catalog = self.shared.catalog();
        let mut told = HashSet::new();
        let mut out = Vec::new();
        for kept in catalog.manifests.values() {
            for (id, layer) in kept.diff_ids.iter().zip(&kept.manifest.layers) {
                // A manifest that only says so may be anybody's.
                if id == diff_id && kept.seen.contains(&layer.digest) && told.insert(&layer.digest) {
                    out.push(layer.clone());
                }
            }
        }
        out
    }

    /// Repositories of a registry that are known to have a blob, as paths.
    pub fn repositories_with(&self, blob: &Digest, domain: &str) -> Vec<String> {
        let catalog = self.shared.catalog();
        let lists =
            |kept: &&Arc<KeptManifest>| kept.manifest.layers.iter().any(|layer| layer.digest == *blob);
        let images: HashSet<_> = catalog.manifests.values().filter(lists).map(|kept| &kept.image).collect();
        let there = |name: &Reference| name.digest().is_some() && name.domain() == domain;
        let names = catalog.tags.iter().filter(|(name, tag)| there(name) && images.contains(&tag.id));
        let mut out: Vec<String> = names.map(|(name, _)| name.path().to_owned()).collect();
        out.dedup();
        out
    }
}
