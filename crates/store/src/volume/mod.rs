//! Named volumes: `volumes/<name>/_data`, and options by which the data are somewhere else.
//!
//! A volume is the user's data: unlike all else here, a directory without metadata is not removed
//! at open but taken in as a volume without labels, unless it is empty.

mod populate;
mod saved;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seacow_spec::{Classified, ErrorClass, Timestamp};
use seacow_sys::rooted::Root;
use serde::{Deserialize, Serialize};

pub(crate) use saved::SAVED;
pub use saved::{CopyFor, Saved, VolumeCopy};

use crate::error::{At, IoFailure};
use crate::fsutil::copy::{Marks, copy_tree};
use crate::layout::{DATA, mkdir};
use crate::meta::{self, Durability, MetaError, Table, Write};
use crate::quota::{Owner, QuotaError, Subject};
use crate::shared::Shared;
use crate::store::names;

/// Why a volume could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is none of that name.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// Not a name; the text is Docker's.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    InvalidName(String),
    /// The name is another volume's.
    #[error("Conflict. The volume name {0:?} is already in use")]
    NameTaken(String),
    /// It has no snapshot of that name.
    #[error("No such snapshot: {0}")]
    NoSnapshot(String),
    /// It has a snapshot of that name.
    #[error("Conflict. The snapshot name {0:?} is already in use")]
    SnapshotTaken(String),
    /// Not a name of a snapshot.
    #[error("Invalid snapshot name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidSnapshot(String),
    /// Its data are not in the store.
    #[error(
        "volume {0} has driver options: its data are not in the store, and have no snapshots or clones there"
    )]
    Elsewhere(String),
    /// Its data are a plug-in's.
    #[error("volume {name} is the plug-in {plugin}'s, whose protocol has no snapshots or clones")]
    Plugged {
        /// Its name.
        name: String,
        /// The plug-in's.
        plugin: String,
    },
    /// It cannot be limited.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Classified for VolumeError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::NoSnapshot(_) => ErrorClass::NotFound,
            Self::NameTaken(_) | Self::SnapshotTaken(_) => ErrorClass::Conflict,
            Self::InvalidName(_) | Self::InvalidSnapshot(_) => ErrorClass::InvalidArgument,
            Self::Elsewhere(_) | Self::Plugged { .. } => ErrorClass::NotImplemented,
            Self::Quota(error) => error.class(),
            Self::Io(error) => error.class(),
            Self::Meta(error) => error.class(),
        }
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory that containers get.
    pub path: PathBuf,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// Made without a name by a container, and to go with it.
    pub anonymous: bool,
    /// The user's options for the driver.
    pub options: BTreeMap<String, String>,
    /// Whose it is, if not the store's own: a plug-in's, which knows where its data are. Then there is no
    /// `path`.
    pub plugin: Option<String>,
    /// What it may take of the disk, in bytes.
    pub size: Option<u64>,
    /// What it held at moments that are kept, oldest first.
    pub saved: Vec<Saved>,
}

/// What a new volume is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Made without a name by a container, and to go with it.
    pub anonymous: bool,
    /// The user's options for the driver.
    pub options: BTreeMap<String, String>,
    /// The plug-in that keeps its data, if it is not the store.
    pub plugin: Option<String>,
    /// What it may take of the disk, in bytes.
    pub size: Option<u64>,
    /// The container that is being made, and it with it: until it is there ([`Volumes::settle`]) nobody
    /// knows of the volume.
    pub made_for: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    labels: BTreeMap<String, String>,
    created: Timestamp,
    #[serde(default)]
    anonymous: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    saved: Vec<Saved>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_for: Option<String>,
}

impl From<NewVolume> for Stored {
    fn from(new: NewVolume) -> Self {
        let NewVolume { labels, anonymous, options, plugin, size, made_for } = new;
        let (created, saved) = (Timestamp::now(), Vec::new());
        Self { labels, created, anonymous, options, plugin, size, saved, made_for }
    }
}

/// The volumes of a store.
#[derive(Clone, Debug)]
pub struct Volumes {
    shared: Arc<Shared>,
    known: Arc<Mutex<BTreeMap<String, Stored>>>,
}

impl Volumes {
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self, crate::store::OpenError> {
        let mut known = BTreeMap::new();
        for (name, value) in shared.meta.all(Table::Volumes)? {
            let stored = meta::decode(Table::Volumes, &name, &value)?;
            known.insert(name, stored);
        }
        let volumes = Self { shared, known: Arc::new(Mutex::new(known)) };
        volumes.finish_removals()?;
        volumes.take_in_strays()?;
        volumes.sweep_saved()?;
        Ok(volumes)
    }

    /// Makes a volume; one of that name stays as it is, as Docker has it.
    ///
    /// # Errors
    /// The name is not allowed, or the disk failed.
    pub fn create(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<Volume, VolumeError> {
        self.make(name, NewVolume { labels, anonymous, ..NewVolume::default() })
    }

    /// As [`Volumes::create`], with all that can be said of it.
    ///
    /// # Errors
    /// As [`Volumes::create`].
    pub fn make(&self, name: &str, new: NewVolume) -> Result<Volume, VolumeError> {
        if !is_name(name) {
            return Err(VolumeError::InvalidName(name.to_owned()));
        }
        if let Some(bytes) = new.size
            && !self.known().contains_key(name)
        {
            // First, so that a volume which cannot be limited leaves nothing.
            self.shared.quotas.prepare(&self.shared, Subject::Volume, bytes)?;
        }
        let mut known = self.known();
        if let Some(stored) = known.get(name) {
            return Ok(self.volume(name, stored));
        }
        let stored = Stored::from(new);
        if stored.plugin.is_none() {
            self.make_data(name, stored.size)?;
        }
        self.shared.meta.commit(vec![Write::json(Table::Volumes, name, &stored)?], Durability::Durable)?;
        let volume = self.volume(name, &stored);
        known.insert(name.to_owned(), stored);
        Ok(volume)
    }

    fn make_data(&self, name: &str, size: Option<u64>) -> Result<(), VolumeError> {
        let data = self.dir(name).join(DATA);
        match size {
            None => mkdir(&data, 0o755)?,
            Some(bytes) => {
                let (shared, owner) = (&self.shared, Owner::volume(name));
                mkdir(&self.dir(name), 0o700)?;
                let made = shared.quotas.make_dir(shared, &data, &owner, Subject::Volume, bytes);
                if made.is_err() {
                    // What stays is empty, and removed at the next open.
                    let _ = shared.discard(&self.dir(name));
                    let _ = shared.quotas.release(shared, &owner);
                }
                made?;
            }
        }
        // Whatever the daemon's umask: a container's user who is not root must get in.
        std::fs::set_permissions(&data, Permissions::from_mode(0o755)).at("set the mode of", &data)?;
        Ok(self.shared.disk.sync_dir(&self.shared.layout.volumes())?)
    }

    /// The volume of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<Volume, VolumeError> {
        match self.known().get(name) {
            Some(stored) => Ok(self.volume(name, stored)),
            None => Err(VolumeError::NotFound(name.to_owned())),
        }
    }

    /// All volumes, sorted by name.
    pub fn list(&self) -> Vec<Volume> {
        self.known().iter().map(|(name, stored)| self.volume(name, stored)).collect()
    }

    /// Removes a volume with its data. Whether a container uses it is the engine's to know.
    ///
    /// # Errors
    /// There is none, or the disk failed.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let mut known = self.known();
        if !known.contains_key(name) {
            return Err(VolumeError::NotFound(name.to_owned()));
        }
        // First out of sight: a directory without metadata would be taken in again. Metadata without
        // a directory is a removal that was interrupted here.
        let hidden = self.shared.layout.hide(&self.dir(name))?;
        let deleted = self
            .shared
            .meta
            .commit(vec![Write::Delete(Table::Volumes, name.to_owned())], Durability::Durable);
        if let (Err(_), Some(hidden)) = (&deleted, &hidden) {
            let _ = std::fs::rename(hidden, self.dir(name));
        }
        deleted?;
        known.remove(name);
        drop(known);
        if let Some(hidden) = hidden {
            self.shared.sweeper.remove(hidden);
        }
        Ok(self.shared.quotas.release(&self.shared, &Owner::volume(name))?)
    }

    /// Copies everything of one volume into another, empty one; extents are shared where the file system
    /// can.
    ///
    /// # Errors
    /// One of them does not exist, or the disk failed.
    pub fn copy(&self, from: &str, to: &str) -> Result<(), VolumeError> {
        let (from, to) = (self.get(from)?, self.get(to)?);
        let source = Root::open(&from.path).at("open", &from.path)?;
        let target = Root::open(&to.path).at("open", &to.path)?;
        copy_tree(&source, Path::new(""), &target, Marks::None)?;
        Ok(())
    }

    /// Notes that the container for which a volume was made is there. Not durable: who opens the store next
    /// sees it by the container ([`Volumes::half_made`]).
    ///
    /// # Errors
    /// The disk failed.
    pub fn settle(&self, name: &str) -> Result<(), VolumeError> {
        let mut known = self.known();
        let Some(stored) = known.get_mut(name).filter(|stored| stored.made_for.is_some()) else {
            return Ok(());
        };
        let settled = Stored { made_for: None, ..stored.clone() };
        let write = Write::json(Table::Volumes, name, &settled)?;
        self.shared.meta.commit(vec![write], Durability::Unsynced)?;
        *stored = settled;
        Ok(())
    }

    /// Volumes that were made for a container, and nobody has noted that it is there: name and container.
    pub fn half_made(&self) -> Vec<(String, String)> {
        let known = self.known();
        let made = known.iter().filter_map(|(name, stored)| Some((name.clone(), stored.made_for.clone()?)));
        made.collect()
    }

    /// Bytes that a volume takes on the disk.
    ///
    /// # Errors
    /// There is no such volume, or the disk failed.
    pub fn size(&self, name: &str) -> Result<u64, VolumeError> {
        let volume = self.get(name)?;
        let root = Root::open(&volume.path).at("open", &volume.path)?;
        Ok(crate::fsutil::disk_bytes(&root)?)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.shared.layout.volumes().join(name)
    }

    fn volume(&self, name: &str, stored: &Stored) -> Volume {
        Volume {
            name: name.to_owned(),
            path: match stored.plugin {
                None => self.dir(name).join(DATA),
                Some(_) => PathBuf::new(),
            },
            labels: stored.labels.clone(),
            created: stored.created,
            anonymous: stored.anonymous,
            options: stored.options.clone(),
            plugin: stored.plugin.clone(),
            size: stored.size,
            saved: stored.saved.clone(),
        }
    }

    fn finish_removals(&self) -> Result<(), MetaError> {
        let mut known = self.known();
        let gone: Vec<String> = known
            .iter()
            .filter(|(name, stored)| stored.plugin.is_none() && !self.dir(name).join(DATA).exists())
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let write = Write::Delete(Table::Volumes, name.clone());
            self.shared.meta.commit(vec![write], Durability::Durable)?;
            known.remove(&name);
        }
        Ok(())
    }

    fn take_in_strays(&self) -> Result<(), crate::store::OpenError> {
        for name in names(&self.shared.layout.volumes())? {
            let Some(name) = name.to_str().filter(|name| is_name(name)) else { continue };
            if self.known().contains_key(name) {
                continue;
            }
            let data = self.dir(name).join(DATA);
            if !data.is_dir() || names(&data)?.is_empty() {
                self.shared.discard(&self.dir(name))?;
                continue;
            }
            let stored = Stored::from(NewVolume::default());
            let write = Write::json(Table::Volumes, name, &stored)?;
            self.shared.meta.commit(vec![write], Durability::Durable)?;
            self.known().insert(name.to_owned(), stored);
        }
        Ok(())
    }
}

/// Docker's rule: at least two characters of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`; 255 are a file name's limit.
pub fn is_name(name: &str) -> bool {
    name.len() <= 255 && seacow_spec::names::is_valid(name)
}
