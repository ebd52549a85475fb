//! What all drivers do alike: a directory per snapshot, its description, and who keeps which layers.
//!
//! `parent` in a snapshot's directory is a symlink whose text describes it, `<chain or scratch>`,
//! `+meta` and `+volatile`: one system call writes it whole, and the file system journals it with the
//! directories. The chain is in base64, 43 characters: a text of up to 59 lies in ext4's inode, a
//! longer one takes a block of its own, to be allocated and freed. Where frozen layers lie between the
//! parent and the image's layers, `@<chain>` after the parent names these.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seacow_spec::ChainId;

use super::{PrepareOptions, SnapshotError, SnapshotInfo, SnapshotKey};
use crate::error::{At, IoFailure};
use crate::hash::base64;
use crate::layer::{Layer, LayerInfo, Layers};
use crate::quota::{Owner, Subject};
use crate::shared::Shared;

/// The description's name. Without it there is no snapshot.
const DESCRIPTION: &str = "parent";
const SCRATCH: &str = "scratch";
const VOLATILE: &str = "+volatile";
const METACOPY: &str = "+meta";
const ON: char = '@';

/// The snapshots of a store as directories.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) shared: Arc<Shared>,
    pub(super) layers: Layers,
    /// Keeps the parents of all snapshots.
    pins: Mutex<HashMap<SnapshotKey, Option<Layer>>>,
    /// Directories that wait for their parent.
    reserved: Mutex<HashSet<SnapshotKey>>,
}

impl Shelf {
    /// Finds the snapshots that are there and pins their layers.
    pub(super) fn open(shared: Arc<Shared>, layers: Layers) -> Result<Self, SnapshotError> {
        let shelf = Self { shared, layers, pins: Mutex::default(), reserved: Mutex::default() };
        for key in shelf.list()? {
            // One without description or layer was never whole; it goes with the first `retain`.
            let Ok(info) = shelf.info(&key) else { continue };
            let pin = info.parent.as_ref().map(|parent| shelf.layers.pin(parent)).transpose();
            if let Ok(pin) = pin {
                shelf.pins().insert(key, pin);
            }
        }
        Ok(shelf)
    }

    fn pins(&self) -> MutexGuard<'_, HashMap<SnapshotKey, Option<Layer>>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserved(&self) -> MutexGuard<'_, HashSet<SnapshotKey>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dir(&self, key: &SnapshotKey) -> PathBuf {
        self.shared.layout.snapshots().join(key.as_str())
    }

    /// The description of a snapshot to be.
    pub(super) fn info_of(
        &self,
        parent: Option<&ChainId>,
        base: Option<&ChainId>,
        options: &PrepareOptions,
        metacopy: bool,
    ) -> SnapshotInfo {
        SnapshotInfo { parent: parent.cloned(), base: base.cloned(), volatile: options.volatile, metacopy }
    }

    /// A handle on the layers of a snapshot to be.
    pub(super) fn pin(&self, parent: Option<&ChainId>) -> Result<Option<Layer>, SnapshotError> {
        Ok(parent.map(|parent| self.layers.pin(parent)).transpose()?)
    }

    /// Makes a snapshot's directory with what `fill` puts there, to be completed later.
    pub(super) fn reserve(
        &self,
        key: &SnapshotKey,
        fill: impl FnOnce(&Path) -> Result<(), IoFailure>,
    ) -> Result<(), SnapshotError> {
        self.make_dir(key, None, fill)?;
        self.reserved().insert(key.clone());
        Ok(())
    }

    /// Makes a snapshot, in the directory that was reserved for it or in a new one, which takes no more than
    /// `limit`. `fill` is called where nothing was reserved, then `finish`; the description comes last. The
    /// pin stays with it.
    pub(super) fn prepare<E: Into<SnapshotError>>(
        &self,
        key: &SnapshotKey,
        info: &SnapshotInfo,
        limit: Option<u64>,
        pin: Option<Layer>,
        fill: impl FnOnce(&Path) -> Result<(), IoFailure>,
        finish: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), SnapshotError> {
        let mut reserved = self.reserved().remove(key);
        if reserved && limit.is_some() {
            // What was made ahead counts for nobody.
            self.shared.discard(&self.dir(key))?;
            reserved = false;
        }
        if !reserved {
            self.make_dir(key, limit, fill)?;
        }
        self.complete(key, |dir| {
            finish(dir).map_err(Into::into)?;
            describe(dir, info)?;
            // Where there is one journal nobody waits for it: a crash of the machine in the next seconds can
            // take the directory of a container away that has done nothing yet; who opens the store next
            // prepares it anew.
            let dirs = [dir.to_owned(), self.shared.layout.snapshots()];
            if info.parent != info.base {
                // What stands on a frozen layer cannot be made anew, and keeps it from being removed.
                self.shared.disk.sync_dirs_before_metadata(&dirs);
            } else if !info.volatile {
                self.shared.disk.sync_dirs_on_the_way(&dirs)?;
            }
            Ok(())
        })?;
        self.pins().insert(key.clone(), pin);
        Ok(())
    }

    /// Directories that are nobody's snapshot yet.
    fn make_dir(
        &self,
        key: &SnapshotKey,
        limit: Option<u64>,
        fill: impl FnOnce(&Path) -> Result<(), IoFailure>,
    ) -> Result<(), SnapshotError> {
        let dir = self.dir(key);
        if let Some(bytes) = limit {
            if dir.exists() {
                return Err(SnapshotError::Exists(key.clone()));
            }
            return self.complete(key, |dir| {
                let owner = Owner::snapshot(key);
                self.shared.quotas.make_dir(&self.shared, dir, &owner, Subject::Container, bytes)?;
                Ok(fill(dir)?)
            });
        }
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(SnapshotError::Exists(key.clone()));
            }
            done => done.at("make directory", &dir)?,
        }
        self.complete(key, |dir| Ok(fill(dir)?))
    }

    /// Takes the next step towards a snapshot, or everything back.
    fn complete(
        &self,
        key: &SnapshotKey,
        step: impl FnOnce(&Path) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let dir = self.dir(key);
        let made = step(&dir);
        if made.is_err() {
            // What stays is found by `retain`.
            let _ = self.shared.discard(&dir);
            let _ = self.shared.quotas.release(&self.shared, &Owner::snapshot(key));
        }
        made
    }

    /// What its description says.
    pub(super) fn info(&self, key: &SnapshotKey) -> Result<SnapshotInfo, SnapshotError> {
        let text = match std::fs::read_link(self.dir(key).join(DESCRIPTION)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SnapshotError::NotFound(key.clone()));
            }
            text => text.at("read the description of", self.dir(key))?,
        };
        let text = text.to_string_lossy();
        let damaged =
            || SnapshotError::Damaged { key: key.clone(), reason: format!("described as {text:?}") };
        parse(&text).ok_or_else(damaged)
    }

    /// What a snapshot may take.
    pub(super) fn limit_of(&self, key: &SnapshotKey) -> Option<u64> {
        self.shared.quotas.of(&Owner::snapshot(key))
    }

    /// A directory to be exchanged with a snapshot's, with the same limit. In `place`, which is private.
    pub(super) fn next_dir(&self, key: &SnapshotKey, place: &Path) -> Result<PathBuf, SnapshotError> {
        let Some(bytes) = self.limit_of(key) else { return Ok(place.to_owned()) };
        let next = place.join("next");
        let owner = Owner::draft(place);
        self.shared.quotas.make_dir(&self.shared, &next, &owner, Subject::Container, bytes)?;
        Ok(next)
    }

    /// Has a snapshot go on with the content of `draft`, in one step: what it was lies there then. The
    /// draft is complete but for its description.
    pub(super) fn exchange(
        &self,
        key: &SnapshotKey,
        info: &SnapshotInfo,
        pin: Option<Layer>,
        draft: &Path,
    ) -> Result<(), SnapshotError> {
        let dir = self.dir(key);
        describe(draft, info)?;
        self.shared.disk.exchange(draft, &dir)?;
        // What a limit is counted by has changed places too.
        let place = draft.parent().filter(|_| self.limit_of(key).is_some());
        if let Some(place) = place {
            self.shared.quotas.pass_on(&self.shared, &Owner::draft(place), &Owner::snapshot(key))?;
        }
        let old = self.pins().insert(key.clone(), pin).flatten();
        self.let_go(old)?;
        self.shared.disk.sync_dirs_before_metadata(&[self.shared.layout.snapshots()]);
        Ok(())
    }

    /// Notes what a snapshot stands on now.
    pub(super) fn repin(&self, key: &SnapshotKey, layer: Layer) -> Result<(), SnapshotError> {
        let old = self.pins().insert(key.clone(), Some(layer)).flatten();
        self.let_go(old)
    }

    /// The frozen layers between a snapshot and its image, topmost first.
    pub(super) fn frozen_between(&self, info: &SnapshotInfo) -> Result<Vec<Arc<LayerInfo>>, SnapshotError> {
        let stack = info.parent.as_ref().map(|top| self.layers.stack(top)).transpose()?.unwrap_or_default();
        let above = |layer: &Arc<LayerInfo>| Some(&layer.chain_id) != info.base.as_ref();
        Ok(stack.into_iter().take_while(above).collect())
    }

    /// A layer that a snapshot stood on.
    fn let_go(&self, pin: Option<Layer>) -> Result<(), SnapshotError> {
        // The image may have been removed by force while the container was there.
        Ok(pin.map_or(Ok(()), |layer| self.layers.release(layer))?)
    }

    /// When it was complete: nothing that a container did is older.
    pub(super) fn completed(&self, key: &SnapshotKey) -> Result<(i64, i64), IoFailure> {
        use std::os::unix::fs::MetadataExt;
        let path = self.dir(key).join(DESCRIPTION);
        let meta = std::fs::symlink_metadata(&path).at("look at", &path)?;
        Ok((meta.mtime(), meta.mtime_nsec()))
    }

    pub(super) fn remove(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.reserved().remove(key);
        self.shared.discard(&self.dir(key))?;
        self.shared.quotas.release(&self.shared, &Owner::snapshot(key))?;
        let pin = self.pins().remove(key).flatten();
        self.let_go(pin)
    }

    pub(super) fn list(&self) -> Result<Vec<SnapshotKey>, SnapshotError> {
        let mut keys = keys(&self.shared.layout.snapshots())?;
        keys.sort();
        Ok(keys)
    }
}

/// The names in the snapshots' directory.
pub(super) fn keys(dir: &Path) -> Result<Vec<SnapshotKey>, IoFailure> {
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        let name = entry.at("list", dir)?.file_name();
        if let Some(key) = name.to_str().and_then(|name| name.parse().ok()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

pub(super) fn describe(dir: &Path, info: &SnapshotInfo) -> Result<(), IoFailure> {
    let name = |chain: &Option<ChainId>| {
        chain.as_ref().map_or_else(|| SCRATCH.to_owned(), |chain| base64::encode(&chain.0))
    };
    let mut text = name(&info.parent);
    if info.base != info.parent {
        text += &format!("{ON}{}", name(&info.base));
    }
    let marks = [(info.metacopy, METACOPY), (info.volatile, VOLATILE)];
    marks.iter().filter(|(set, _)| *set).for_each(|(_, mark)| text += mark);
    // The last step: without it there is no snapshot.
    std::os::unix::fs::symlink(text, dir.join(DESCRIPTION)).at("describe", dir)
}

fn parse(text: &str) -> Option<SnapshotInfo> {
    let cut = |text: &mut &str, mark| match text.strip_suffix(mark) {
        Some(rest) => {
            *text = rest;
            true
        }
        None => false,
    };
    let mut rest = text;
    let volatile = cut(&mut rest, VOLATILE);
    let metacopy = cut(&mut rest, METACOPY);
    let chain = |name: &str| match name {
        SCRATCH => Some(None),
        name => base64::decode(name).map(|digest| Some(ChainId(digest))),
    };
    let (parent, base) = rest.split_once(ON).unwrap_or((rest, rest));
    Some(SnapshotInfo { parent: chain(parent)?, base: chain(base)?, volatile, metacopy })
}

/// What a directory's description says, if it has a good one.
pub(crate) fn described(dir: &Path) -> Option<SnapshotInfo> {
    parse(&std::fs::read_link(dir.join(DESCRIPTION)).ok()?.to_string_lossy())
}

/// Whether a directory is a whole snapshot.
pub(super) fn is_described(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir.join(DESCRIPTION)).is_ok()
}
