//! Drivers whose snapshots are whole trees: subvolumes of btrfs, or copies.
//!
//! ```text
//! layers/<chain>/fs      the layer as everywhere else, in overlayfs's form
//! layers/<chain>/tree    that layer on all below it, plain and read-only; made when first needed,
//!                        removed with the layer
//! snapshots/<key>/root   a container's: the tree, cloned
//! ```
//! Only the topmost layers of images that are used get a tree. Nothing is mounted: a snapshot is a
//! directory.

mod changes;
mod clone;
mod collect;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use seacow_spec::ChainId;
use seacow_spec::shim::Rootfs;
use seacow_sys::rooted::Root;

use super::changes::told;
use super::driver::DriverKind;
use super::shelf::Shelf;
use super::{
    Change, PrepareOptions, SnapshotDriver, SnapshotError, SnapshotInfo, SnapshotKey, Usage, compose, init,
};
use crate::error::At;
use crate::fsutil::lower::{LowerDir, Lowers};
use crate::fsutil::stack::lay_over;
use crate::layer::{Layer, LayerInfo, LayerKind, Layers, UpperMode};
use crate::layout::{ROOT, TREE};
use crate::shared::Shared;
pub(super) use clone::Clones;

/// A driver of trees.
#[derive(Debug)]
pub(super) struct TreeDriver {
    shelf: Shelf,
    clones: Clones,
    /// One tree is made at a time: two containers that start from a new image want the same.
    making: Mutex<()>,
}

impl TreeDriver {
    pub(super) fn open(shared: Arc<Shared>, layers: Layers, clones: Clones) -> Result<Self, SnapshotError> {
        init::make(&shared.layout.init())?;
        Ok(Self { shelf: Shelf::open(shared, layers)?, clones, making: Mutex::new(()) })
    }

    fn root(&self, key: &SnapshotKey) -> PathBuf {
        self.shelf.dir(key).join(ROOT)
    }

    /// The plain tree of a stack, which the caller keeps from being removed. Of none it is `init`.
    fn tree(&self, parent: Option<&ChainId>) -> Result<PathBuf, SnapshotError> {
        let Some(parent) = parent else { return Ok(self.shelf.shared.layout.init()) };
        let tree = self.shelf.shared.layout.layer(parent).join(TREE);
        if tree.exists() {
            return Ok(tree);
        }
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if !tree.exists() {
            self.make_tree(parent, &tree)?;
        }
        Ok(tree)
    }

    /// Out of sight first, then renamed into place.
    fn make_tree(&self, parent: &ChainId, tree: &Path) -> Result<(), SnapshotError> {
        let shared = &self.shelf.shared;
        let draft = shared.layout.new_draft()?;
        let made = self.build_tree(parent, &draft).and_then(|built| {
            // Not to be found torn after a crash of the machine.
            shared.disk.sync_fs(&draft)?;
            shared.disk.rename(&built, tree)?;
            // Last: what is read-only cannot be renamed.
            Ok(self.clones.seal(tree)?)
        });
        // What cannot be removed now is removed at the next open.
        let _ = shared.discard(&draft);
        made
    }

    /// The nearest tree below, with all layers above it laid over it.
    fn build_tree(&self, top: &ChainId, draft: &Path) -> Result<PathBuf, SnapshotError> {
        let layout = &self.shelf.shared.layout;
        let stack = self.shelf.layers.stack(top)?;
        if stack.iter().any(|layer| layer.kind == LayerKind::Host) {
            return Err(SnapshotError::HostNeedsOverlay(self.name()));
        }
        let below = stack.iter().map(|layer| layout.layer(&layer.chain_id).join(TREE));
        let nearest = below.enumerate().find(|(_, tree)| tree.exists());
        let built = draft.join(TREE);
        let above = match nearest {
            Some((above, tree)) => {
                self.clones.tree(&tree, &built)?;
                above
            }
            None => {
                self.clones.seed(&layout.init(), &built)?;
                stack.len()
            }
        };
        let root = Root::open(&built).at("open", &built)?;
        let take = self.clones.take();
        for layer in stack.iter().take(above).rev() {
            let fs = layout.layer_fs(&layer.chain_id);
            self.shelf.shared.disk.step("lay out").at("lay out", &fs)?;
            lay_over(&fs, &root, take)?;
        }
        Ok(built)
    }

    fn rootfs(&self, key: &SnapshotKey) -> Rootfs {
        Rootfs::Directory(self.root(key))
    }

    /// What differs from the image.
    fn compare(&self, key: &SnapshotKey) -> Result<changes::Differences, SnapshotError> {
        let info = self.info(key)?;
        let tree = self.tree(info.parent.as_ref())?;
        let own = changes::compare(&self.root(key), &tree, self.shelf.completed(key)?)?;
        self.since_base(Some(own), &info)
    }

    /// With what frozen layers changed between the image and a snapshot.
    fn since_base(
        &self,
        own: Option<changes::Differences>,
        info: &SnapshotInfo,
    ) -> Result<changes::Differences, SnapshotError> {
        let mut steps: Vec<_> = own.map(changes::Differences::into_kinds).into_iter().collect();
        for frozen in self.shelf.frozen_between(info)? {
            steps.push(self.compare_frozen(&frozen)?.into_kinds());
        }
        if let [only] = steps.as_mut_slice() {
            return Ok(std::mem::take(only).into());
        }
        steps.reverse();
        let mut base = Lowers::new(vec![LowerDir::layer(self.tree(info.base.as_ref())?)]);
        Ok(compose::compose(steps, &mut base)?.into())
    }

    /// A layer in the form of all layers, of what a tree has that the image has not.
    fn collected(
        &self,
        root: &Path,
        differences: changes::Differences,
        base: Option<&ChainId>,
    ) -> Result<Layer, SnapshotError> {
        let shared = &self.shelf.shared;
        let draft = shared.layout.new_draft()?;
        let upper = draft.join("upper");
        let made = collect::collect(root, differences, &upper)
            .map_err(SnapshotError::from)
            .and_then(|()| Ok(self.shelf.layers.commit_upper(base, &upper, UpperMode::Move)?));
        // What cannot be removed now is removed at the next open.
        let _ = shared.discard(&draft);
        made
    }

    /// What a frozen layer changed.
    fn compare_frozen(&self, frozen: &LayerInfo) -> Result<changes::Differences, SnapshotError> {
        let below = self.tree(frozen.parent.as_ref())?;
        let since = frozen.frozen.as_ref().and_then(|frozen| frozen.since).unwrap_or((i64::MIN, 0));
        let tree = self.shelf.shared.layout.layer(&frozen.chain_id).join(TREE);
        Ok(changes::compare(&tree, &below, since)?)
    }

    fn make(&self, key: &SnapshotKey, info: &SnapshotInfo) -> Result<Rootfs, SnapshotError> {
        let parent = info.parent.as_ref();
        let pin = self.shelf.pin(parent)?;
        let tree = self.tree(parent)?;
        self.shelf.prepare(key, info, pin, |_| Ok(()), |dir| self.clone_to(&tree, info, dir))?;
        Ok(self.rootfs(key))
    }

    /// A container's tree in its directory.
    fn clone_to(&self, tree: &Path, info: &SnapshotInfo, dir: &Path) -> Result<(), SnapshotError> {
        let root = dir.join(ROOT);
        self.shelf.shared.disk.step("clone").at("clone to", &root)?;
        if info.parent.is_some() {
            self.clones.snapshot(tree, &root)?;
        } else {
            self.clones.seed(tree, &root)?;
        }
        if !info.volatile {
            self.clones.sync(&self.shelf.shared.disk, &root)?;
        }
        Ok(())
    }

    /// The container's tree cloned once more, for a layer that has no other form until it is asked for.
    fn freeze_tree(&self, key: &SnapshotKey) -> Result<Layer, SnapshotError> {
        let info = self.info(key)?;
        let since = Some(self.shelf.completed(key)?);
        let planned = self.shelf.layers.plan_frozen(info.parent.as_ref(), since)?;
        let shared = &self.shelf.shared;
        let (draft, target) = (shared.layout.new_draft()?, shared.layout.layer(&planned.chain_id));
        let cloned = self.clones.snapshot(&self.root(key), &draft.join(TREE));
        let made = cloned.map_err(SnapshotError::from).and_then(|()| {
            let made = self.shelf.layers.record_frozen(planned, |shared| {
                shared.disk.rename(&draft, &target)?;
                shared.disk.sync_dirs_before_metadata(&[shared.layout.layers()]);
                Ok(())
            });
            let layer = made?;
            // Last: what is read-only cannot be renamed.
            self.clones.seal(&target.join(TREE))?;
            Ok(layer)
        });
        if made.is_err() {
            // Moved already, it is a directory that no metadata names.
            let _ = shared.discard(&draft);
        }
        made
    }
}

impl SnapshotDriver for TreeDriver {
    fn kind(&self) -> DriverKind {
        self.clones.kind()
    }

    fn status(&self) -> Vec<[String; 2]> {
        self.clones.status()
    }

    fn prepare(
        &self,
        key: &SnapshotKey,
        parent: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError> {
        self.make(key, &self.shelf.info_of(parent, parent, options, false))
    }

    fn branch(
        &self,
        key: &SnapshotKey,
        from: &ChainId,
        base: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError> {
        self.make(key, &self.shelf.info_of(Some(from), base, options, false))
    }

    fn freeze(&self, key: &SnapshotKey, _mode: UpperMode) -> Result<Layer, SnapshotError> {
        self.freeze_tree(key)
    }

    fn complete(&self, layer: &Layer, base: Option<&ChainId>) -> Result<Layer, SnapshotError> {
        let info = self.shelf.info_of(Some(layer.chain_id()), base, &PrepareOptions::default(), false);
        let differences = self.since_base(None, &info)?;
        let tree = self.shelf.shared.layout.layer(layer.chain_id()).join(TREE);
        self.collected(&tree, differences, base)
    }

    fn reset(&self, key: &SnapshotKey, to: &ChainId) -> Result<(), SnapshotError> {
        let shared = &self.shelf.shared;
        let pin = self.shelf.pin(Some(to))?;
        let after = SnapshotInfo { parent: Some(to.clone()), ..self.info(key)? };
        let tree = self.tree(Some(to))?;
        let draft = shared.layout.new_draft()?;
        let done =
            self.clone_to(&tree, &after, &draft).and_then(|()| self.shelf.exchange(key, &after, pin, &draft));
        // What it was, or what was made in vain.
        let _ = shared.discard(&draft);
        done
    }

    fn frozen_usage(&self, layer: &ChainId) -> Result<Usage, SnapshotError> {
        let layer = self.shelf.layers.pin(layer)?;
        let tree = self.shelf.shared.layout.layer(layer.chain_id()).join(TREE);
        Ok(self.compare_frozen(layer.info())?.usage(&tree, self.clones.shares())?)
    }

    fn reserve(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.shelf.reserve(key, |_| Ok(()))
    }

    fn get(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        self.look(key)
    }

    fn look(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        self.info(key)?;
        Ok(self.rootfs(key))
    }

    fn view(&self, parent: Option<&ChainId>) -> Result<Rootfs, SnapshotError> {
        let _pin = self.shelf.pin(parent)?;
        Ok(Rootfs::Directory(self.tree(parent)?))
    }

    fn info(&self, key: &SnapshotKey) -> Result<SnapshotInfo, SnapshotError> {
        self.shelf.info(key)
    }

    fn remove(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.shelf.remove(key)
    }

    fn list(&self) -> Result<Vec<SnapshotKey>, SnapshotError> {
        self.shelf.list()
    }

    fn changes(&self, key: &SnapshotKey) -> Result<Vec<Change>, SnapshotError> {
        Ok(told(self.compare(key)?.into_kinds()))
    }

    fn usage(&self, key: &SnapshotKey) -> Result<Usage, SnapshotError> {
        let differences = self.compare(key)?;
        Ok(differences.usage(&self.root(key), self.clones.shares())?)
    }

    fn commit(&self, key: &SnapshotKey, _mode: UpperMode) -> Result<Layer, SnapshotError> {
        let info = self.info(key)?;
        self.collected(&self.root(key), self.compare(key)?, info.base.as_ref())
    }
}
