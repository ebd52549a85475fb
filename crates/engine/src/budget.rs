//! What images may take of the disk, and who goes when they take more.
//!
//! Only what nobody uses goes: first what is kept of packed layers, then the nameless steps of builds, then images, each in the order in which
//! they were last used (a container was made of them, they were named, or they came here). Containers,
//! volumes, snapshots and what these stand on stay, however much that is.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use seacow_spec::{Digest, Timestamp};
use seacow_store::image::Image;
use seacow_store::layer::LayerKind;
use seacow_store::{Durability, RecordKind};

use crate::blocking::lock;
use crate::error::EngineError;
use crate::{Engine, Inner, blocking};

/// How often it is looked: one directory is listed and nothing else, as long as there is enough.
const LOOK: Duration = Duration::from_secs(1);
/// Key of the times of use among the engine's records.
const KEY: &str = "image-use";

/// When images were last used, by id.
#[derive(Debug, Default)]
pub(crate) struct LastUse {
    times: HashMap<Digest, Timestamp>,
    changed: bool,
}

impl Engine {
    /// Notes that a container was made of an image.
    pub(crate) fn note_use(&self, image: &Digest) {
        if self.config().storage_budget.is_none() {
            return;
        }
        let mut last = lock(&self.0.last_use);
        last.times.insert(image.clone(), Timestamp::now());
        last.changed = true;
    }

    /// Removes what nobody uses until images take no more than they may; tells whether they do now.
    async fn keep_budget(&self, budget: u64) -> Result<bool, EngineError> {
        self.measure_frozen().await?;
        let taken = self.layer_bytes().saturating_add(self.blob_bytes().await?);
        if taken <= budget {
            return Ok(true);
        }
        // What can be made or fetched again goes before any image.
        let engine = self.clone();
        let over = taken - budget;
        let freed = blocking::run("evict blobs", move || engine.store().blobs().evict(over)).await?;
        let freed = freed.map_err(seacow_store::ImageError::from)?;
        if freed >= over {
            return Ok(true);
        }
        for image in self.by_last_use() {
            if !self.image_users(&image.id).is_empty() {
                continue;
            }
            self.0.pool.forget(Some(&image.id), self).await;
            let engine = self.clone();
            let gone = blocking::run("evict an image", move || engine.drop_unused(&image)).await?;
            for entry in &gone {
                tracing::info!(?entry, budget, "evicted: images take more than they may");
            }
            if self.layer_bytes() <= budget {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What packed layers take that are kept as registries have them.
    async fn blob_bytes(&self) -> Result<u64, EngineError> {
        let engine = self.clone();
        let bytes = blocking::run("count blobs", move || engine.store().blobs().bytes()).await?;
        Ok(bytes.map_err(seacow_store::ImageError::from)?)
    }

    fn layer_bytes(&self) -> u64 {
        let layers = self.store().layers().list();
        layers.iter().filter(|layer| layer.kind == LayerKind::Files).map(|layer| layer.disk).sum()
    }

    /// Nameless ones first, then those that were not used for longest.
    fn by_last_use(&self) -> Vec<Image> {
        let mut images = self.store().images().list();
        images.retain(|image| !image.on_host);
        let last = lock(&self.0.last_use);
        let used = |image: &Image| {
            let told = image.last_tagged.unwrap_or(image.added).max(image.added);
            last.times.get(&image.id).map_or(told, |used| told.max(*used))
        };
        images.sort_by_key(|image| (!image.names.is_empty(), used(image)));
        images
    }

    fn load_last_use(&self) -> Result<(), EngineError> {
        if let Some(bytes) = self.store().records().get(RecordKind::Engine, KEY)? {
            // What cannot be read is learnt again.
            let times: HashMap<Digest, Timestamp> = serde_json::from_slice(&bytes).unwrap_or_default();
            lock(&self.0.last_use).times.extend(times);
        }
        Ok(())
    }

    /// Writes the times down, without images that are no more.
    pub(crate) fn save_last_use(&self) -> Result<(), EngineError> {
        let bytes = {
            let mut last = lock(&self.0.last_use);
            if !std::mem::take(&mut last.changed) {
                return Ok(());
            }
            last.times.retain(|id, _| self.store().images().get(id).is_some());
            serde_json::to_vec(&last.times).unwrap_or_default()
        };
        Ok(self.store().records().put(RecordKind::Engine, KEY, bytes, Durability::Unsynced)?)
    }
}

/// Keeps the budget for as long as the engine lives.
pub(crate) async fn tend(budget: u64, inner: Weak<Inner>) {
    if let Some(inner) = inner.upgrade()
        && let Err(error) = Engine(inner).load_last_use()
    {
        tracing::warn!(%error, "read when images were used");
    }
    let mut complained = false;
    while let Some(inner) = inner.upgrade() {
        let engine = Engine(inner);
        match engine.keep_budget(budget).await {
            Ok(true) => complained = false,
            // Once, not every second.
            Ok(false) if !complained => {
                complained = true;
                let taken = engine.layer_bytes();
                tracing::warn!(taken, budget, "images take more than they may, and all of them are used");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "keep the images' budget"),
        }
        if let Err(error) = engine.save_last_use() {
            tracing::warn!(%error, "note when images were used");
        }
        drop(engine);
        tokio::time::sleep(LOOK).await;
    }
}
