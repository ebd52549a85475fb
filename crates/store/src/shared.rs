//! What all parts of the store share: paths, metadata, and the catalog that mirrors it in memory.
//!
//! Order of locks: `change` (one changer of images, tags and layers at a time), then the pins, then
//! the catalog. Readers take the catalog alone, and it is never held over a write to the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use seacow_spec::{ChainId, Digest, Reference};

use crate::disk::Disk;
use crate::error::IoFailure;
use crate::image::KeptManifest;
use crate::image::record::{ImageRecord, TagRecord};
use crate::layer::LayerInfo;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::meta::{self, Durability, Meta, MetaError, Table, Write};
use crate::point::Point;
use crate::quota::Quotas;
use crate::store::OpenError;
use crate::sweeper::Sweeper;

/// What all parts of the store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    pub(crate) disk: Disk,
    pub(crate) meta: Meta,
    pub(crate) limits: Limits,
    pub(crate) pins: Arc<Pins>,
    pub(crate) sweeper: Sweeper,
    pub(crate) quotas: Quotas,
    catalog: RwLock<Catalog>,
    change: Mutex<()>,
}

/// Layers, images and tags, as the metadata has them.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) layers: HashMap<ChainId, Arc<LayerInfo>>,
    pub(crate) images: BTreeMap<Digest, Arc<ImageRecord>>,
    pub(crate) tags: BTreeMap<Reference, TagRecord>,
    pub(crate) points: BTreeMap<String, Arc<Point>>,
    pub(crate) manifests: BTreeMap<Digest, Arc<KeptManifest>>,
}

impl Shared {
    pub(crate) fn new(layout: Layout, disk: Disk, meta: Meta, limits: Limits) -> Result<Self, OpenError> {
        Ok(Self {
            catalog: RwLock::new(Catalog::load(&meta)?),
            quotas: Quotas::load(&meta)?,
            layout,
            disk,
            meta,
            limits,
            pins: Arc::default(),
            sweeper: Sweeper::start()?,
            change: Mutex::new(()),
        })
    }

    /// Moves something out of sight at once, and removes it some time.
    pub(crate) fn discard(&self, path: &std::path::Path) -> Result<(), IoFailure> {
        if let Some(hidden) = self.layout.hide(path)? {
            self.sweeper.remove(hidden);
        }
        Ok(())
    }

    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a change of images, tags or layers.
    pub(crate) fn change(&self) -> Change<'_> {
        Change {
            shared: self,
            writes: Vec::new(),
            _one_at_a_time: self.change.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    fn load(meta: &Meta) -> Result<Self, MetaError> {
        let mut catalog = Self::default();
        for (key, value) in meta.all(Table::Layers)? {
            let info: LayerInfo = meta::decode(Table::Layers, &key, &value)?;
            catalog.layers.insert(info.chain_id.clone(), Arc::new(info));
        }
        let mut configs: HashMap<String, Vec<u8>> = meta.all(Table::Configs)?.into_iter().collect();
        for (key, value) in meta.all(Table::Images)? {
            let config = configs.remove(&key).unwrap_or_default();
            let record = ImageRecord::load(&key, &value, config)?;
            catalog.images.insert(record.id.clone(), Arc::new(record));
        }
        for (key, value) in meta.all(Table::Tags)? {
            let reference = key.parse().map_err(|error: seacow_spec::reference::InvalidReference| {
                MetaError::Document { table: Table::Tags.name(), key: key.clone(), reason: error.to_string() }
            })?;
            catalog.tags.insert(reference, meta::decode(Table::Tags, &key, &value)?);
        }
        for (key, value) in meta.all(Table::Points)? {
            let point = meta::decode(Table::Points, &key, &value)?;
            catalog.points.insert(key, Arc::new(point));
        }
        for (key, value) in meta.all(Table::Manifests)? {
            let kept = KeptManifest::load(&key, &value)?;
            catalog.manifests.insert(kept.digest.clone(), Arc::new(kept));
        }
        Ok(catalog)
    }

    /// The layers of a stack, topmost first.
    pub(crate) fn stack(&self, top: &ChainId) -> Option<Vec<Arc<LayerInfo>>> {
        let mut stack = Vec::new();
        let mut next = Some(top.clone());
        while let Some(chain) = next {
            let layer = self.layers.get(&chain)?;
            next = layer.parent.clone();
            stack.push(layer.clone());
        }
        Some(stack)
    }

    /// Images whose parent this is.
    pub(crate) fn children(&self, id: &Digest) -> impl Iterator<Item = &Arc<ImageRecord>> {
        self.images.values().filter(move |image| image.parent.as_ref() == Some(id))
    }

    /// Names of an image, sorted.
    pub(crate) fn names(&self, id: &Digest) -> Vec<Reference> {
        self.tags.iter().filter(|(_, tag)| tag.id == *id).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn layer_is_used(&self, chain: &ChainId, gone: &HashSet<ChainId>) -> bool {
        self.images.values().any(|image| image.chain.as_ref() == Some(chain))
            || self.points.values().any(|point| point.layer == *chain)
            || self
                .layers
                .values()
                .any(|layer| layer.parent.as_ref() == Some(chain) && !gone.contains(&layer.chain_id))
    }
}

/// A change in the making: writes that are collected, committed, then shown in the catalog.
pub(crate) struct Change<'a> {
    pub(crate) shared: &'a Shared,
    writes: Vec<Write>,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Change<'_> {
    pub(crate) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Commits what was collected; `show` then makes the same changes to the catalog.
    pub(crate) fn commit(&mut self, show: impl FnOnce(&mut Catalog)) -> Result<(), MetaError> {
        self.commit_with(Durability::Durable, show)
    }

    pub(crate) fn commit_with(
        &mut self,
        durability: Durability,
        show: impl FnOnce(&mut Catalog),
    ) -> Result<(), MetaError> {
        let writes = std::mem::take(&mut self.writes);
        if !writes.is_empty() {
            self.shared.meta.commit(writes, durability)?;
        }
        show(&mut self.shared.catalog_mut());
        Ok(())
    }

    /// Takes the layers of a stack that nothing refers to any more out of the metadata, topmost
    /// first, and their directories out of sight.
    pub(crate) fn release_layers(&mut self, top: &ChainId) -> Result<Vec<ChainId>, MetaError> {
        let stack = self.shared.catalog().stack(top).unwrap_or_default();
        self.release(stack.into_iter())
    }

    /// As [`Change::release_layers`], for all layers there are.
    pub(crate) fn release_all_unused(&mut self) -> Result<Vec<ChainId>, MetaError> {
        let mut all = Vec::new();
        loop {
            let leaves: Vec<_> = {
                let catalog = self.shared.catalog();
                let none = HashSet::new();
                let unused = |layer: &&Arc<LayerInfo>| !catalog.layer_is_used(&layer.chain_id, &none);
                catalog.layers.values().filter(unused).cloned().collect()
            };
            let mut freed = false;
            for leaf in leaves {
                let released = self.release_layers(&leaf.chain_id)?;
                freed |= !released.is_empty();
                all.extend(released);
            }
            if !freed {
                return Ok(all);
            }
        }
    }

    fn release(&mut self, stack: impl Iterator<Item = Arc<LayerInfo>>) -> Result<Vec<ChainId>, MetaError> {
        // Held to the end: nobody may pin a layer between the check and the commit.
        let pins = self.shared.pins.lock();
        let mut gone = HashSet::new();
        let mut released = Vec::new();
        for layer in stack {
            let chain = &layer.chain_id;
            if pins.contains_key(chain) || self.shared.catalog().layer_is_used(chain, &gone) {
                break;
            }
            gone.insert(chain.clone());
            self.writes.push(Write::Delete(Table::Layers, chain.hex().to_owned()));
            released.push(chain.clone());
        }
        if gone.is_empty() {
            return Ok(released);
        }
        // A crash of the machine may bring the records back; the next open finds that nobody refers to them.
        let show = |catalog: &mut Catalog| catalog.layers.retain(|chain, _| !gone.contains(chain));
        self.commit_with(Durability::Unsynced, show)?;
        for chain in &released {
            // What stays in sight is garbage that the next open finds.
            let _ = self.shared.discard(&self.shared.layout.layer(chain));
        }
        Ok(released)
    }
}

/// Layers that somebody works with: a snapshot, a draft, a handle.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<HashMap<ChainId, usize>>);

impl Pins {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChainId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, chain: &ChainId) {
        *self.lock().entry(chain.clone()).or_default() += 1;
    }

    pub(crate) fn remove(&self, chain: &ChainId) {
        let mut pins = self.lock();
        if let Some(count) = pins.get_mut(chain) {
            *count -= 1;
            if *count == 0 {
                pins.remove(chain);
            }
        }
    }
}
