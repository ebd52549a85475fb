//! Snapshots of volumes: `volumes/<name>/saved/<snapshot>/`, copies that share their extents where the
//! file system can. They belong to the volume and go with it.
//!
//! Whether somebody writes meanwhile is the engine's to know: it holds containers still.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use seacow_spec::Timestamp;
use seacow_sys::rooted::Root;
use serde::{Deserialize, Serialize};

use super::{NewVolume, Stored, Volume, VolumeError, Volumes, is_name};
use crate::error::{At, IoFailure};
use crate::fsutil::copy::{Content, Marks, copy_tree};
use crate::layout::{DATA, mkdir};
use crate::meta::{Durability, Table, Write};
use crate::quota::{Owner, Subject};

/// In a volume's directory.
pub(crate) const SAVED: &str = "saved";

/// What a volume held at some moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Unique among the volume's.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A copy of what a volume held, which nobody sees yet. Dropping it leaves nothing.
#[derive(Debug)]
pub struct VolumeCopy {
    volumes: Volumes,
    draft: PathBuf,
    content: Content,
    /// It is limited, as the volume is that it will be.
    size: Option<u64>,
}

/// What a copy of a volume is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFor {
    /// To be kept as a snapshot, which takes what it takes.
    Snapshot,
    /// To become a volume with the same limit.
    Volume,
}

impl Drop for VolumeCopy {
    fn drop(&mut self) {
        // Nothing is there once it was put to use. What cannot be removed now is removed at the next open.
        let _ = self.volumes.shared.discard(&self.draft);
        let _ = self.volumes.shared.quotas.release(&self.volumes.shared, &Owner::draft(&self.draft));
    }
}

impl Volumes {
    /// Copies what a volume holds, or held at a snapshot, by sharing extents where the file system can.
    /// Nobody should write meanwhile.
    ///
    /// # Errors
    /// There is no such volume or snapshot, it keeps its data elsewhere, or the disk failed.
    pub fn copy_of(
        &self,
        volume: &str,
        snapshot: Option<&str>,
        purpose: CopyFor,
    ) -> Result<VolumeCopy, VolumeError> {
        let found = self.own(volume)?;
        let from = match snapshot {
            Some(snapshot) => {
                self.check_saved(&found, snapshot)?;
                self.saved_dir(volume, snapshot)
            }
            None => found.path,
        };
        let size = found.size.filter(|_| purpose == CopyFor::Volume);
        let (draft, content) = (self.new_copy(size)?, Content::Written);
        let mut copy = VolumeCopy { volumes: self.clone(), draft, content, size };
        let source = Root::open(&from).at("open", &from)?;
        let target = Root::open(&copy.draft).at("open", &copy.draft)?;
        copy.content = copy_tree(&source, Path::new(""), &target, Marks::None)?;
        Ok(copy)
    }

    /// Where a copy is made.
    fn new_copy(&self, size: Option<u64>) -> Result<PathBuf, VolumeError> {
        let shared = &self.shared;
        let Some(bytes) = size else { return Ok(shared.layout.new_draft()?) };
        let draft = shared.layout.drafts().join(crate::layout::random()?);
        shared.quotas.make_dir(shared, &draft, &Owner::draft(&draft), Subject::Volume, bytes)?;
        Ok(draft)
    }

    /// Whether a new snapshot may have this name.
    ///
    /// # Errors
    /// There is no such volume, or the name is malformed or taken.
    pub fn check_snapshot(&self, volume: &str, name: &str) -> Result<(), VolumeError> {
        check_new(name, &self.own(volume)?.saved)
    }

    /// Keeps a copy as a snapshot of the volume it is of, durably. Without a name it gets a number.
    ///
    /// # Errors
    /// There is no such volume any more, the name is malformed or taken, or the disk failed.
    pub fn save(&self, volume: &str, name: Option<&str>, copy: &VolumeCopy) -> Result<Saved, VolumeError> {
        self.shared.disk.sync_copy(&copy.draft, copy.content)?;
        let mut made = None;
        self.change(volume, |stored| {
            let name = name.map_or_else(|| next_number(&stored.saved), str::to_owned);
            check_new(&name, &stored.saved)?;
            let (dir, target) = (self.dir(volume).join(SAVED), self.saved_dir(volume, &name));
            mkdir(&dir, 0o700)?;
            // One that a crash left without a word in the metadata.
            self.shared.discard(&target)?;
            self.shared.disk.rename(&copy.draft, &target)?;
            self.shared.disk.sync_dir(&dir)?;
            stored.saved.push(Saved { name, created: Timestamp::now() });
            made = stored.saved.last().cloned();
            Ok(())
        })?;
        made.ok_or_else(|| VolumeError::NotFound(volume.to_owned()))
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// There is no such volume or snapshot, or the disk failed.
    pub fn forget(&self, volume: &str, name: &str) -> Result<(), VolumeError> {
        self.change(volume, |stored| {
            let before = stored.saved.len();
            stored.saved.retain(|saved| saved.name != name);
            if stored.saved.len() == before { Err(VolumeError::NoSnapshot(name.to_owned())) } else { Ok(()) }
        })?;
        Ok(self.shared.discard(&self.saved_dir(volume, name))?)
    }

    /// Has a volume hold what it held: the old or the new state, whenever the power fails. Nobody may use
    /// it meanwhile.
    ///
    /// # Errors
    /// There is no such volume or snapshot, or the disk failed.
    pub fn roll_back(&self, volume: &str, name: &str) -> Result<(), VolumeError> {
        let copy = self.copy_of(volume, Some(name), CopyFor::Volume)?;
        self.shared.disk.sync_copy(&copy.draft, copy.content)?;
        self.shared.disk.exchange(&copy.draft, &self.get(volume)?.path)?;
        self.shared.quotas.pass_on(&self.shared, &Owner::draft(&copy.draft), &Owner::volume(volume))?;
        Ok(self.shared.disk.sync_dir(&self.dir(volume))?)
    }

    /// Makes a volume of a copy.
    ///
    /// # Errors
    /// The name is malformed or taken, or the disk failed; then there is no new volume.
    pub fn adopt(
        &self,
        name: &str,
        copy: &VolumeCopy,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, VolumeError> {
        if !is_name(name) {
            return Err(VolumeError::InvalidName(name.to_owned()));
        }
        self.shared.disk.sync_copy(&copy.draft, copy.content)?;
        let mut known = self.known();
        if known.contains_key(name) {
            return Err(VolumeError::NameTaken(name.to_owned()));
        }
        let size_option = copy.size.map(|bytes| ("size".to_owned(), bytes.to_string()));
        let options = size_option.into_iter().collect();
        let stored = Stored::from(NewVolume { labels, options, size: copy.size, ..NewVolume::default() });
        mkdir(&self.dir(name), 0o700)?;
        self.shared.disk.rename(&copy.draft, &self.dir(name).join(DATA))?;
        self.shared.quotas.pass_on(&self.shared, &Owner::draft(&copy.draft), &Owner::volume(name))?;
        self.shared.disk.sync_dir(&self.dir(name))?;
        self.shared.disk.sync_dir(&self.shared.layout.volumes())?;
        self.shared.meta.commit(vec![Write::json(Table::Volumes, name, &stored)?], Durability::Durable)?;
        let volume = self.volume(name, &stored);
        known.insert(name.to_owned(), stored);
        Ok(volume)
    }

    /// A volume that keeps its data here.
    fn own(&self, name: &str) -> Result<Volume, VolumeError> {
        let found = self.get(name)?;
        match found.plugin {
            Some(plugin) => Err(VolumeError::Plugged { name: name.to_owned(), plugin }),
            None if found.options.keys().all(|option| option == "size") => Ok(found),
            None => Err(VolumeError::Elsewhere(name.to_owned())),
        }
    }

    fn check_saved(&self, volume: &Volume, name: &str) -> Result<(), VolumeError> {
        let known = volume.saved.iter().any(|saved| saved.name == name);
        if known { Ok(()) } else { Err(VolumeError::NoSnapshot(name.to_owned())) }
    }

    fn saved_dir(&self, volume: &str, name: &str) -> PathBuf {
        self.dir(volume).join(SAVED).join(name)
    }

    /// Changes what the metadata says of a volume.
    fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut Stored) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let mut known = self.known();
        let Some(stored) = known.get(name) else { return Err(VolumeError::NotFound(name.to_owned())) };
        let mut stored = stored.clone();
        change(&mut stored)?;
        self.shared.meta.commit(vec![Write::json(Table::Volumes, name, &stored)?], Durability::Durable)?;
        known.insert(name.to_owned(), stored);
        Ok(())
    }

    /// Removes copies that the metadata does not know, after a crash.
    pub(super) fn sweep_saved(&self) -> Result<(), IoFailure> {
        let known = self.known().clone();
        for (volume, stored) in known.iter() {
            let dir = self.dir(volume).join(SAVED);
            if !dir.exists() {
                continue;
            }
            for name in crate::store::names(&dir)? {
                if !stored.saved.iter().any(|saved| name == *saved.name) {
                    self.shared.discard(&dir.join(name))?;
                }
            }
        }
        Ok(())
    }
}

fn check_new(name: &str, others: &[Saved]) -> Result<(), VolumeError> {
    if !crate::point::is_name(name) {
        return Err(VolumeError::InvalidSnapshot(name.to_owned()));
    }
    if others.iter().any(|other| other.name == name) {
        return Err(VolumeError::SnapshotTaken(name.to_owned()));
    }
    Ok(())
}

fn next_number(others: &[Saved]) -> String {
    let numbers = others.iter().filter_map(|other| other.name.parse::<u32>().ok());
    numbers.max().unwrap_or(0).saturating_add(1).to_string()
}
