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
pub(super) mod zfs;

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
use crate::error::{At, IoFailure};
use crate::fsutil::lower::{LowerDir, Lowers};
use crate::fsutil::stack::lay_over;
use crate::layer::{Layer, LayerInfo, LayerKind, Layers, UpperMode};
use crate::layout::{Layout, ROOT, TREE};
use crate::quota::{Owner, Subject};
use crate::shared::Shared;
pub(super) use clone::Clones;

/// A driver of trees.
#[derive(Debug)]
pub(super) struct TreeDriver {
    shelf: Shelf,
    clones: Arc<Clones>,
    /// One tree is made at a time: two containers that start from a new image want the same.
    making: Mutex<()>,
}

impl TreeDriver {
    pub(super) fn open(shared: Arc<Shared>, layers: Layers, clones: Clones) -> Result<Self, SnapshotError> {
        init::make(&shared.layout.init())?;
        let clones = Arc::new(clones);
        if let Clones::Datasets(zfs) = &*clones {
            zfs.sweep()?;
            let clones = Arc::clone(&clones);
            shared.sweeper.after_each(Box::new(move || {
                if let Clones::Datasets(zfs) = &*clones {
                    // What cannot be destroyed now is at the next open.
                    let _ = zfs.sweep();
                }
            }));
        }
        let driver = Self { shelf: Shelf::open(shared, layers)?, clones, making: Mutex::new(()) };
        driver.remove_others_trees()?;
        Ok(driver)
    }

    /// Another driver's trees look the same and cannot be cloned. They are made anew when they are wanted; what
    /// was frozen into one gets the form of all layers before.
    fn remove_others_trees(&self) -> Result<(), SnapshotError> {
        let layers = &self.shelf.layers;
        let trees =
            layers.list().into_iter().map(|layer| self.shelf.shared.layout.layer(&layer.chain_id).join(TREE));
        let others: Vec<PathBuf> = trees
            .filter(|tree| std::fs::symlink_metadata(tree).is_ok() && !self.clones.are_of(tree))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        layers.make_all_files()?;
        for tree in others {
            // What is read-only cannot be moved out of sight; as a whole it goes at once.
            if Clones::Subvolumes.are_of(&tree) {
                crate::layout::remove_tree(&tree)?;
            } else {
                self.shelf.shared.discard(&tree)?;
            }
        }
        Ok(())
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

    fn rootfs(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        Ok(Rootfs::Directory(self.clones.place(self.root(key))?))
    }

    /// What differs from the image.
    fn compare(&self, key: &SnapshotKey) -> Result<changes::Differences, SnapshotError> {
        let info = self.info(key)?;
        let tree = self.tree(info.parent.as_ref())?;
        let own = changes::compare(&self.root(key), &tree, self.shelf.completed(key)?)?;
        // With what frozen layers changed between the image and a snapshot.
        let mut steps = vec![own.into_kinds()];
        for frozen in self.shelf.frozen_between(&info)? {
            steps.push(self.compare_frozen(&frozen)?.into_kinds());
        }
        if let [only] = steps.as_mut_slice() {
            return Ok(std::mem::take(only).into());
        }
        steps.reverse();
        let mut base = Lowers::new(vec![LowerDir::layer(self.tree(info.base.as_ref())?)]);
        Ok(compose::compose(steps, &mut base)?.into())
    }

    /// What a frozen layer changed.
    fn compare_frozen(&self, frozen: &LayerInfo) -> Result<changes::Differences, SnapshotError> {
        Ok(compare_frozen(&self.shelf.shared.layout, frozen)?)
    }

    fn make(
        &self,
        key: &SnapshotKey,
        info: &SnapshotInfo,
        limit: Option<u64>,
    ) -> Result<Rootfs, SnapshotError> {
        if limit.is_some() && !matches!(*self.clones, Clones::Subvolumes) {
            return Err(SnapshotError::NoQuota(self.name()));
        }
        let parent = info.parent.as_ref();
        let pin = self.shelf.pin(parent)?;
        let tree = self.tree(parent)?;
        let finish = |dir: &Path| {
            self.clone_to(&tree, info, dir)?;
            self.limit(dir, &Owner::snapshot(key), limit)
        };
        self.shelf.prepare(key, info, None, pin, |_| Ok(()), finish)?;
        self.rootfs(key)
    }

    /// The tree is the subvolume that is counted.
    fn limit(&self, dir: &Path, owner: &Owner, limit: Option<u64>) -> Result<(), SnapshotError> {
        let Some(bytes) = limit else { return Ok(()) };
        let shared = &self.shelf.shared;
        Ok(shared.quotas.limit_subvolume(shared, &dir.join(ROOT), owner, Subject::Container, bytes)?)
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

    /// Begins again in a draft, which then changes places with the snapshot.
    fn reset_in(
        &self,
        draft: &Path,
        tree: &Path,
        key: &SnapshotKey,
        after: &SnapshotInfo,
        pin: Option<Layer>,
    ) -> Result<(), SnapshotError> {
        let next = draft.join("next");
        crate::layout::mkdir(&next, 0o700)?;
        self.clone_to(tree, after, &next)?;
        self.limit(&next, &Owner::draft(draft), self.shelf.limit_of(key))?;
        self.shelf.exchange(key, after, pin, &next)
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

/// What a frozen layer changed, whose parent's tree is there as long as it is.
fn compare_frozen(layout: &Layout, frozen: &LayerInfo) -> Result<changes::Differences, IoFailure> {
    let below = match &frozen.parent {
        Some(parent) => layout.layer(parent).join(TREE),
        None => layout.init(),
    };
    let since = frozen.frozen.as_ref().and_then(|frozen| frozen.since).unwrap_or((i64::MIN, 0));
    changes::compare(&layout.layer(&frozen.chain_id).join(TREE), &below, since)
}

/// A frozen layer's files in the form of all layers, in the new directory `to`: of what its tree has that
/// the one below has not.
pub(crate) fn files_of_tree(layout: &Layout, frozen: &LayerInfo, to: &Path) -> Result<(), IoFailure> {
    let differences = compare_frozen(layout, frozen)?;
    collect::collect(&layout.layer(&frozen.chain_id).join(TREE), differences, to)
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
        self.make(key, &self.shelf.info_of(parent, parent, options, false), options.size)
    }

    fn branch(
        &self,
        key: &SnapshotKey,
        from: &ChainId,
        base: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError> {
        self.make(key, &self.shelf.info_of(Some(from), base, options, false), options.size)
    }

    fn freeze(&self, key: &SnapshotKey, _mode: UpperMode) -> Result<Layer, SnapshotError> {
        self.freeze_tree(key)
    }

    fn reset(&self, key: &SnapshotKey, to: &ChainId) -> Result<(), SnapshotError> {
        let shared = &self.shelf.shared;
        let pin = self.shelf.pin(Some(to))?;
        let after = SnapshotInfo { parent: Some(to.clone()), ..self.info(key)? };
        let tree = self.tree(Some(to))?;
        let draft = shared.layout.new_draft()?;
        let done = self.reset_in(&draft, &tree, key, &after, pin);
        // As a whole, which a directory above it is not.
        let _ = shared.discard(&draft.join("next"));
        // What it was, or what was made in vain.
        let _ = shared.discard(&draft);
        done
    }

    fn frozen_usage(&self, layer: &ChainId) -> Result<Usage, SnapshotError> {
        self.shelf.layers.with_pinned(layer, |layer| {
            let tree = self.shelf.shared.layout.layer(layer.chain_id()).join(TREE);
            Ok(self.compare_frozen(layer.info())?.usage(&tree, self.clones.shares())?)
        })
    }

    fn reserve(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.shelf.reserve(key, |_| Ok(()))
    }

    fn get(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        self.look(key)
    }

    fn look(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        self.info(key)?;
        self.rootfs(key)
    }

    fn view(&self, parent: Option<&ChainId>) -> Result<Rootfs, SnapshotError> {
        let tree = match parent {
            Some(parent) => self.shelf.layers.with_pinned(parent, |_| self.tree(Some(parent)))?,
            None => self.tree(None)?,
        };
        // Of no layers it is a plain directory.
        Ok(Rootfs::Directory(if parent.is_some() { self.clones.place(tree)? } else { tree }))
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
        let shared = &self.shelf.shared;
        let draft = shared.layout.new_draft()?;
        let upper = draft.join("upper");
        let made = self
            .compare(key)
            .and_then(|differences| Ok(collect::collect(&self.root(key), differences, &upper)?))
            .and_then(|()| {
                let layers = &self.shelf.layers;
                Ok(layers.commit_upper(info.base.as_ref(), &upper, UpperMode::Move)?)
            });
        // What cannot be removed now is removed at the next open.
        let _ = shared.discard(&draft);
        made
    }
}
