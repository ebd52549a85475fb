//! What the metadata keeps of an image.

use std::sync::Arc;

use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{ChainId, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::meta::{self, MetaError, Table};

/// An image in memory.
#[derive(Debug)]
pub(crate) struct ImageRecord {
    pub(crate) id: Digest,
    /// The config blob, byte for byte.
    pub(crate) raw: Arc<[u8]>,
    pub(crate) config: Arc<ImageConfig>,
    /// Topmost layer.
    pub(crate) chain: Option<ChainId>,
    /// The image it was built on, for the classic builder's cache and `docker history`.
    pub(crate) parent: Option<Digest>,
    /// When it came into this store.
    pub(crate) added: Timestamp,
}

/// The same on the disk, but for the config blob, which has a table of its own.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) chain: Option<ChainId>,
    pub(crate) parent: Option<Digest>,
    pub(crate) added: Timestamp,
}

/// A name of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) id: Digest,
    pub(crate) at: Timestamp,
}

impl ImageRecord {
    pub(crate) fn load(key: &str, stored: &[u8], raw: Vec<u8>) -> Result<Self, MetaError> {
        let unreadable =
            |reason: String| MetaError::Document { table: Table::Images.name(), key: key.to_owned(), reason };
        let id: Digest = format!("sha256:{key}").parse().map_err(|error| unreadable(format!("{error}")))?;
        let stored: Stored = meta::decode(Table::Images, key, stored)?;
        let config = meta::decode(Table::Configs, key, &raw)?;
        Ok(Self {
            id,
            raw: raw.into(),
            config: Arc::new(config),
            chain: stored.chain,
            parent: stored.parent,
            added: stored.added,
        })
    }

    pub(crate) fn stored(&self) -> Stored {
        Stored { chain: self.chain.clone(), parent: self.parent.clone(), added: self.added }
    }
}
