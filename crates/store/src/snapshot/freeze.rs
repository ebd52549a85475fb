//! Overlays: upper directories become frozen layers, and snapshots begin again from them.

use std::path::Path;

use rustix::fs::Mode;
use seacow_spec::ChainId;
use seacow_sys::rooted::Root;

use super::changes::{self, Kinds};
use super::overlay::OverlayDriver;
use super::{SnapshotError, SnapshotInfo, SnapshotKey, Usage, compose, resolve, shelf, usage};
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::copy::{Marks, copy_tree};
use crate::fsutil::lower::LowerDir;
use crate::fsutil::merge::merge_over;
use crate::layer::{self, FS, Layer, LayerInfo, UpperMode};
use crate::layout::mkdir;

/// How many frozen layers a container stands on before they are merged.
const MERGE_AT: usize = 64;

impl OverlayDriver {
    pub(super) fn freeze_upper(&self, key: &SnapshotKey, mode: UpperMode) -> Result<Layer, SnapshotError> {
        let info = self.shelf.info(key)?;
        if let Some(parent) = &info.parent
            && self.is_untouched(key, parent)?
        {
            return Ok(self.shelf.layers.pin(parent)?);
        }
        if self.shelf.frozen_between(&info)?.len() >= MERGE_AT {
            let mode = if self.shelf.limit_of(key).is_some() { UpperMode::Copy } else { mode };
            return self.freeze_merged(key, &info, mode);
        }
        let planned = self.shelf.layers.plan_frozen(info.parent.as_ref(), None)?;
        match mode {
            // What the upper directory holds is counted for the container, and a layer is not to be.
            UpperMode::Move if self.shelf.limit_of(key).is_none() => {
                self.freeze_by_exchange(key, &info, planned)
            }
            UpperMode::Move | UpperMode::Copy => self.freeze_by_copy(key, &info, planned),
        }
    }

    /// Whether a snapshot shows its parent as it is.
    fn is_untouched(&self, key: &SnapshotKey, parent: &ChainId) -> Result<bool, IoFailure> {
        let (upper, below) = (self.upper(key), self.shelf.shared.layout.layer_fs(parent));
        if !below.exists() || !crate::store::names(&upper)?.is_empty() {
            return Ok(false);
        }
        let look = |path: &Path| {
            let stat = rustix::fs::stat(path).at("look at", path)?;
            Ok::<_, IoFailure>((stat.st_mode, stat.st_uid, stat.st_gid))
        };
        Ok(look(&upper)? == look(&below)?)
    }

    /// The directories change places: the layer's has a new empty upper directory first, then the
    /// container's. Found in between after a crash, a snapshot that stands on the layer says that this
    /// was done ([`layer::finish_freezes`]).
    fn freeze_by_exchange(
        &self,
        key: &SnapshotKey,
        info: &SnapshotInfo,
        planned: LayerInfo,
    ) -> Result<Layer, SnapshotError> {
        let shared = &self.shelf.shared;
        if info.metacopy {
            // A layer stands for itself.
            resolve::resolve(&self.upper(key), self.merged(info)?, &shared.disk)?;
        }
        let (dir, place) = (self.shelf.dir(key), shared.layout.layer(&planned.chain_id));
        layer::mark(&dir, &planned)?;
        let after = SnapshotInfo { parent: Some(planned.chain_id.clone()), ..info.clone() };
        let prepared = mkdir(&place, 0o700)
            .and_then(|()| self.make_dirs(&place))
            .and_then(|()| same_look(&dir.join("upper"), &place.join("upper")))
            .and_then(|()| shelf::describe(&place, &after));
        let made = prepared.map_err(SnapshotError::from).and_then(|()| {
            let made = self.shelf.layers.record_frozen(planned, |shared| {
                shared.disk.exchange(&place, &dir)?;
                layer::become_layer(shared, &place)?;
                let dirs = [place.clone(), shared.layout.layers(), shared.layout.snapshots()];
                shared.disk.sync_dirs_before_metadata(&dirs);
                Ok(())
            });
            Ok(made?)
        });
        let layer = match made {
            Ok(layer) => layer,
            Err(error) => {
                self.undo_exchange(&dir, &place);
                return Err(error);
            }
        };
        // What cannot be removed now is in nobody's way.
        let _ = shared.discard(&place.join("work"));
        self.shelf.repin(key, layer.clone())?;
        Ok(layer)
    }

    /// As far as it came; what cannot be undone here is found at the next open.
    fn undo_exchange(&self, dir: &Path, place: &Path) {
        if place.join(FS).exists() {
            let _ = std::fs::rename(place.join(FS), place.join("upper"));
        }
        // The container's has the layer's mark.
        let exchanged = std::fs::symlink_metadata(place.join(layer::MARK)).is_ok();
        if exchanged && self.shelf.shared.disk.exchange(place, dir).is_err() {
            return;
        }
        let _ = self.shelf.shared.discard(place);
    }

    /// All frozen layers of the container as one, by links: overlayfs takes 500, and looks a name up in
    /// each of them. Whoever stands on the others keeps these.
    fn freeze_merged(
        &self,
        key: &SnapshotKey,
        info: &SnapshotInfo,
        mode: UpperMode,
    ) -> Result<Layer, SnapshotError> {
        let shared = &self.shelf.shared;
        let planned = self.shelf.layers.plan_frozen(info.base.as_ref(), None)?;
        let draft = shared.layout.new_draft()?;
        let made = self.merge(key, info, mode, &draft).and_then(|()| self.place(planned, &draft));
        // Nothing is there, or what was made in vain.
        let _ = shared.discard(&draft);
        let layer = made?;
        if mode == UpperMode::Move {
            // Durable first: after a crash there must be nobody who stands on what is not known.
            self.shelf.layers.settle()?;
            self.begin_again(key, layer.chain_id())?;
        }
        Ok(layer)
    }

    /// A layer's directory without what is beside the files, in `draft`.
    fn merge(
        &self,
        key: &SnapshotKey,
        info: &SnapshotInfo,
        mode: UpperMode,
        draft: &Path,
    ) -> Result<(), SnapshotError> {
        let shared = &self.shelf.shared;
        let mut top = self.upper(key);
        match mode {
            UpperMode::Move if info.metacopy => resolve::resolve(&top, self.merged(info)?, &shared.disk)?,
            UpperMode::Move => {}
            UpperMode::Copy => {
                let copy = draft.join("top");
                self.copy_plain(info, &top, &copy)?;
                top = copy;
            }
        }
        let fs = draft.join(FS);
        mkdir(&fs, 0o755)?;
        let merged = Root::open(&fs).at("open", &fs)?;
        for frozen in self.shelf.frozen_between(info)?.iter().rev() {
            shared.disk.step("merge").at("merge", &fs)?;
            merge_over(&shared.layout.layer_fs(&frozen.chain_id), &merged)?;
        }
        merge_over(&top, &merged)?;
        if mode == UpperMode::Copy {
            shared.discard(&top)?;
        }
        Ok(())
    }

    /// For a container that goes on.
    fn freeze_by_copy(
        &self,
        key: &SnapshotKey,
        info: &SnapshotInfo,
        planned: LayerInfo,
    ) -> Result<Layer, SnapshotError> {
        let shared = &self.shelf.shared;
        let draft = shared.layout.new_draft()?;
        let copied = self.copy_plain(info, &self.upper(key), &draft.join(FS));
        let made = copied.and_then(|()| self.place(planned, &draft));
        if made.is_err() {
            // Moved already, it is a directory that no metadata names.
            let _ = shared.discard(&draft);
        }
        made
    }

    /// A copy of an upper directory that is understood without a mount's options.
    fn copy_plain(&self, info: &SnapshotInfo, upper: &Path, to: &Path) -> Result<(), SnapshotError> {
        if info.metacopy {
            return self.copy_resolved(info, upper, to).map(drop);
        }
        Ok(copy_upper(upper, to)?)
    }

    /// Makes a draft the directory of a layer.
    fn place(&self, planned: LayerInfo, draft: &Path) -> Result<Layer, SnapshotError> {
        let target = self.shelf.shared.layout.layer(&planned.chain_id);
        let made = self.shelf.layers.record_frozen(planned, |shared| {
            shared.disk.rename(draft, &target)?;
            shared.disk.sync_dirs_before_metadata(&[shared.layout.layers()]);
            Ok(())
        });
        Ok(made?)
    }

    pub(super) fn begin_again(&self, key: &SnapshotKey, to: &ChainId) -> Result<(), SnapshotError> {
        let shared = &self.shelf.shared;
        let before = self.shelf.info(key)?;
        let pin = self.shelf.pin(Some(to))?;
        let after = SnapshotInfo { parent: Some(to.clone()), ..before };
        let draft = shared.layout.new_draft()?;
        let done = self.shelf.next_dir(key, &draft).and_then(|next| {
            self.make_dirs(&next)?;
            self.copy_root_look(&after, &next.join("upper"))?;
            self.shelf.exchange(key, &after, pin, &next)
        });
        // What it was, or what was made in vain.
        let _ = shared.discard(&draft);
        done
    }

    /// What differs from the image.
    pub(super) fn kinds(&self, key: &SnapshotKey) -> Result<Kinds, SnapshotError> {
        let info = self.shelf.info(key)?;
        let own = changes::changes(&self.upper(key), self.merged(&info)?)?;
        if info.parent == info.base {
            return Ok(own);
        }
        let mut steps = vec![own];
        for frozen in self.shelf.frozen_between(&info)? {
            let below = SnapshotInfo { parent: frozen.parent.clone(), ..info.clone() };
            let fs = self.shelf.shared.layout.layer_fs(&frozen.chain_id);
            steps.push(changes::changes(&fs, self.merged(&below)?)?);
        }
        steps.reverse();
        let base = SnapshotInfo { parent: info.base.clone(), ..info };
        Ok(compose::compose(steps, &mut self.merged(&base)?)?)
    }

    pub(super) fn usage_of_layer(&self, layer: &ChainId) -> Result<Usage, SnapshotError> {
        self.shelf.layers.with_pinned(layer, |layer| {
            let fs = self.shelf.shared.layout.layer_fs(layer.chain_id());
            let mut below = self.shelf.layers.lowers(layer.info().parent.as_ref())?;
            below.append(LowerDir::layer(self.shelf.shared.layout.init()));
            Ok(usage::usage(&fs, &mut below, self.shares())?)
        })
    }
}

/// Copies an upper directory as it is.
fn copy_upper(upper: &Path, to: &Path) -> Result<(), IoFailure> {
    mkdir(to, 0o700)?;
    let (from, copy) = (Root::open(upper).at("open", upper)?, Root::open(to).at("open", to)?);
    copy_tree(&from, Path::new(""), &copy, Marks::Keep).map(drop)
}

/// Overlayfs shows the upper directory's own attributes as the root's.
fn same_look(from: &Path, to: &Path) -> Result<(), IoFailure> {
    let root = |path: &Path| Root::open(path).and_then(|root| root.entry(Path::new(".")));
    let look = root(from).and_then(|entry| attrs::read(&entry)).at("look at", from)?;
    root(to).and_then(|entry| attrs::apply(&entry, &look)).at("set the attributes of", to)?;
    rustix::fs::chmod(to, Mode::from_raw_mode(look.mode & 0o7777)).at("set the mode of", to)
}
