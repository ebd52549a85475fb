//! Layers frozen from a container's files: their tar is made when somebody asks for it.
//!
//! A frozen layer's directory has two symlinks whose texts describe it, beside `fs` (or `tree`): its
//! own `frozen`, and the `parent` of the snapshot that it was. With these a layer that a crash kept out
//! of the metadata is found again ([`finish_freezes`]), as long as a snapshot stands on it.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use seacow_spec::{ChainId, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::draft::{FS, RECIPE};
use super::recipe::RecipeWriter;
use super::{Layer, LayerError, LayerInfo, LayerKind, Layers};
use crate::error::{At, IoFailure};
use crate::hash::{self, base64};
use crate::meta::{Durability, Table, Write};
use crate::shared::Shared;
use crate::snapshot::described;
use crate::store::names;

/// The mark's name in a layer's directory.
pub(crate) const MARK: &str = "frozen";
/// Layers of a container's stack. Overlayfs takes 500; the mount points' and the host's are among them.
const MAX_STACK: usize = 490;

/// Key of a document without content, by which earlier ones are made durable.
const SETTLED: &str = "store/settled";

/// What is known of a frozen layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Stood for the diff id when the chain id was made.
    pub stand_in: Digest,
    /// Diff id and length of the tar are the real ones.
    pub sealed: bool,
    /// The sizes were counted.
    pub measured: bool,
    /// Nothing that was changed in it is older; of trees, which are compared by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<(i64, i64)>,
}

impl LayerInfo {
    /// Whether this may be what the layer is called in an image's config.
    pub(crate) fn is_called(&self, diff_id: &Digest) -> bool {
        self.diff_id == *diff_id || self.frozen.as_ref().is_some_and(|frozen| frozen.stand_in == *diff_id)
    }

    /// Whether its tar was never made.
    pub fn is_unsealed(&self) -> bool {
        self.frozen.as_ref().is_some_and(|frozen| !frozen.sealed)
    }

    /// Whether its sizes were never counted.
    pub fn is_unmeasured(&self) -> bool {
        self.frozen.as_ref().is_some_and(|frozen| !frozen.measured)
    }
}

impl Layers {
    /// A description of a layer that will be frozen on top of `parent`.
    pub(crate) fn plan_frozen(
        &self,
        parent: Option<&ChainId>,
        since: Option<(i64, i64)>,
    ) -> Result<LayerInfo, LayerError> {
        if let Some(parent) = parent
            && self.stack(parent)?.len() >= MAX_STACK
        {
            return Err(LayerError::TooDeep(MAX_STACK));
        }
        let random = seacow_spec::id::random_hex().at("draw random numbers for", "a layer")?;
        let stand_in = hash::digest(random.as_bytes());
        Ok(info(parent, stand_in, Timestamp::now(), since))
    }

    /// Puts a frozen layer into place and into the metadata; it is durable with the next durable write.
    pub(crate) fn record_frozen(
        &self,
        info: LayerInfo,
        install: impl FnOnce(&Shared) -> Result<(), IoFailure>,
    ) -> Result<Layer, LayerError> {
        self.record(info, install)
    }

    /// Whether these are what the layers of a stack are called, lowest first.
    pub fn is_stack_of(&self, top: Option<&ChainId>, diff_ids: &[Digest]) -> bool {
        let Some(top) = top else { return diff_ids.is_empty() };
        self.stack(top).is_ok_and(|stack| {
            stack.len() == diff_ids.len()
                && stack.iter().rev().zip(diff_ids).all(|(layer, name)| layer.is_called(name))
        })
    }

    /// Makes what was recorded until now durable.
    pub(crate) fn settle(&self) -> Result<(), LayerError> {
        let mark = Write::Put(Table::Engine, SETTLED.into(), Vec::new());
        Ok(self.shared.meta.commit(vec![mark], Durability::Durable)?)
    }

    /// Notes what a frozen layer takes.
    pub(crate) fn note_sizes(&self, chain: &ChainId, size: u64, disk: u64) -> Result<(), LayerError> {
        self.amend(chain, |info, frozen| {
            (info.size, info.disk) = (size, disk);
            frozen.measured = true;
        })
    }

    /// Makes the tar's recipe of a frozen layer, and so learns its digest. Done already is fine.
    ///
    /// # Errors
    /// It does not exist, or the disk failed; then it is frozen as before.
    pub fn seal(&self, chain: &ChainId) -> Result<(), LayerError> {
        self.with_pinned(chain, |layer| self.seal_pinned(layer))
    }

    fn seal_pinned(&self, layer: &Layer) -> Result<(), LayerError> {
        let chain = layer.chain_id();
        if !layer.info().is_unsealed() {
            return Ok(());
        }
        self.make_files(chain)?;
        let dir = self.shared.layout.layer(chain);
        // Out of sight: two may do it at once, and each leaves a whole one.
        let draft = self.shared.layout.new_draft()?;
        let made = RecipeWriter::create(&draft.join(RECIPE)).map_err(LayerError::from).and_then(|recipe| {
            let contents = super::diff::upper_contents(&dir.join(FS), recipe)?;
            let recipe = File::open(draft.join(RECIPE)).at("open", draft.join(RECIPE))?;
            self.shared.disk.sync_files(&[(recipe, draft.join(RECIPE))])?;
            self.shared.disk.rename(&draft.join(RECIPE), &dir.join(RECIPE))?;
            self.shared.disk.sync_dirs_before_metadata(std::slice::from_ref(&dir));
            Ok(contents)
        });
        // What cannot be removed now is removed at the next open.
        let _ = self.shared.discard(&draft);
        let contents = made?;
        self.amend(chain, |info, frozen| {
            info.diff_id = contents.diff_id;
            (info.size, info.tar_size) = (contents.size, contents.tar_size);
            frozen.sealed = true;
        })
    }

    fn amend(
        &self,
        chain: &ChainId,
        change: impl FnOnce(&mut LayerInfo, &mut Frozen),
    ) -> Result<(), LayerError> {
        let mut transaction = self.shared.change();
        let known = self.shared.catalog().layers.get(chain).cloned();
        let Some(known) = known else { return Err(LayerError::NotFound(chain.clone())) };
        let mut info = (*known).clone();
        let Some(mut frozen) = info.frozen.take() else { return Ok(()) };
        change(&mut info, &mut frozen);
        info.frozen = Some(frozen);
        transaction.write(Write::json(Table::Layers, chain.hex(), &info)?);
        // Lost with the machine it is found out again.
        transaction.commit_with(Durability::Unsynced, |catalog| {
            catalog.layers.insert(chain.clone(), std::sync::Arc::new(info));
        })?;
        Ok(())
    }
}

fn info(
    parent: Option<&ChainId>,
    stand_in: Digest,
    created: Timestamp,
    since: Option<(i64, i64)>,
) -> LayerInfo {
    LayerInfo {
        chain_id: hash::chain_id(parent, &stand_in),
        diff_id: stand_in.clone(),
        parent: parent.cloned(),
        kind: LayerKind::Files,
        size: 0,
        tar_size: 0,
        disk: 0,
        created,
        frozen: Some(Frozen { stand_in, sealed: false, measured: false, since }),
    }
}

/// Marks a directory that will be a frozen layer's, in one system call.
pub(crate) fn mark(dir: &Path, info: &LayerInfo) -> Result<(), IoFailure> {
    // One of a freeze that a crash cut short before the exchange.
    if let Err(error) = std::fs::remove_file(dir.join(MARK))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(IoFailure::new("remove the mark of", dir, error));
    }
    let stand_in = info.frozen.as_ref().map_or(&info.diff_id, |frozen| &frozen.stand_in);
    let text = format!("{}+{}", base64::encode(stand_in), info.created.unix_seconds());
    std::os::unix::fs::symlink(text, dir.join(MARK)).at("mark", dir)
}

/// What the marks of a layer's directory say; `None` where they are not those of this very layer.
fn unmark(dir: &Path) -> Option<LayerInfo> {
    let text = std::fs::read_link(dir.join(MARK)).ok()?;
    let (stand_in, created) = text.to_str()?.split_once('+')?;
    let stand_in = base64::decode(stand_in)?;
    let parent = described(dir)?.parent;
    let found = info(parent.as_ref(), stand_in, Timestamp::from_unix(created.parse().ok()?, 0), None);
    (dir.file_name()?.to_str()? == found.chain_id.hex()).then_some(found)
}

/// Makes an end of freezes that a crash cut short after the exchange: the snapshot stands on a layer
/// already that the metadata does not know.
pub(crate) fn finish_freezes(shared: &Shared) -> Result<(), LayerError> {
    let layout = &shared.layout;
    let mut wanted: Vec<ChainId> = Vec::new();
    for name in names(&layout.snapshots())? {
        if let Some(info) = described(&layout.snapshots().join(name)) {
            wanted.extend(info.parent.into_iter().chain(info.base));
        }
    }
    let mut seen = HashSet::new();
    while let Some(chain) = wanted.pop() {
        if !seen.insert(chain.clone()) || shared.catalog().layers.contains_key(&chain) {
            continue;
        }
        let dir = layout.layer(&chain);
        let Some(info) = unmark(&dir) else { continue };
        if !dir.join(FS).exists() {
            become_layer(shared, &dir)?;
        }
        shared.discard(&dir.join("work"))?;
        wanted.extend(info.parent.clone());
        let mut change = shared.change();
        change.write(Write::json(Table::Layers, chain.hex(), &info)?);
        change.commit(|catalog| {
            catalog.layers.insert(chain, std::sync::Arc::new(info));
        })?;
    }
    Ok(())
}

/// The directory of a snapshot becomes a layer's.
pub(crate) fn become_layer(shared: &Shared, dir: &Path) -> Result<(), IoFailure> {
    shared.disk.rename(&dir.join("upper"), &dir.join(FS))
}
