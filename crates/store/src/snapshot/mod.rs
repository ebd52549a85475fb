//! Snapshots: the writable layer of a container.
//!
//! Vocabulary
//! - *parent*: the chain id of the layers below; `None` is an empty root.
//! - *prepare*: make a writable layer under a key. The answer ([`Rootfs`]) describes mounts; drivers
//!   never mount anything, so a snapshot has no state that a crash could leave behind in the kernel.
//! - *upper*: where changes go.
//! - *changes*, *usage*: what was changed, and what it takes on the disk. Both may be asked while a
//!   container writes; then they are what they were at some moment of each directory.
//! - *commit*: the changes become a layer on top of the parent.
//! - *freeze*: what the container's files are now becomes a frozen layer, whose tar nobody has made;
//!   *branch* makes another snapshot on one, *reset* has a snapshot begin again from one.
//! - *base*: the image's layers. The parent, unless frozen layers lie in between; changes are told
//!   against the base.
//!
//! Lifecycle: `prepare → (get)* → [commit] → remove`. A key that was removed may be prepared again.
//! A snapshot keeps its parent layers from being removed. Snapshots survive the daemon; which of
//! them still belong to a container the engine says once, after it has read its records
//! ([`SnapshotDriver::retain`]).
//!
//! ```no_run
//! # fn f(store: &seacow_store::Store) -> Result<(), Box<dyn std::error::Error>> {
//! use seacow_store::snapshot::{PrepareOptions, SnapshotKey};
//! let image = store.images().resolve("bb")?;
//! let key: SnapshotKey = "container1".parse()?;
//! let rootfs = store.snapshots().prepare(&key, image.chain.as_ref(), &PrepareOptions::default())?;
//! // … the shim mounts `rootfs`, a program writes …
//! for change in store.snapshots().changes(&key)? {
//!     println!("{change}");
//! }
//! store.snapshots().remove(&key)?;
//! # let _ = rootfs; Ok(()) }
//! ```

mod changes;
mod compose;
#[doc(hidden)]
pub mod conformance;
mod driver;
mod freeze;
mod init;
mod overlay;
mod resolve;
mod shelf;
mod tree;
mod usage;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use seacow_spec::shim::Rootfs;
use seacow_spec::{ChainId, Classified, ErrorClass};

pub use driver::{DriverError, DriverKind, UnknownDriver};
pub(crate) use driver::{choose, extents_are_shared};
pub(crate) use shelf::described;
pub(crate) use tree::files_of_tree;
pub use usage::{PathUse, Paths, Usage};

use crate::error::IoFailure;
use crate::layer::{Layer, LayerError, Layers, UpperMode};
use crate::quota::QuotaError;
use crate::shared::Shared;
use overlay::OverlayDriver;
use tree::{Clones, TreeDriver};

/// Why a snapshot could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is none under that key.
    #[error("snapshot {0} does not exist")]
    NotFound(SnapshotKey),
    /// The key is taken.
    #[error("snapshot {0} exists already")]
    Exists(SnapshotKey),
    /// Not a key.
    #[error("invalid snapshot key {0:?}: 1 to 128 letters, digits, '_', '-' and '.', not in front")]
    InvalidKey(String),
    /// Its description is unreadable.
    #[error("snapshot {key} is damaged: {reason}")]
    Damaged {
        /// Which.
        key: SnapshotKey,
        /// How.
        reason: String,
    },
    /// The image is a view of this machine's root, which only overlayfs can show.
    #[error(
        "the image host is a view of this machine's root file system, which the storage driver {0} would \
         have to copy whole; use the driver overlay or reflink for it, or another base image"
    )]
    HostNeedsOverlay(&'static str),
    /// It cannot be limited, or not in this way.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The driver copies whole images: what a container changes is not to be told apart.
    #[error(
        "the storage driver {0} cannot limit the size of a container: overlay and reflink can on xfs, reflink and \
         btrfs on btrfs"
    )]
    NoQuota(&'static str),
    /// A layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

impl Classified for SnapshotError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Exists(_) => ErrorClass::Conflict,
            Self::InvalidKey(_) => ErrorClass::InvalidArgument,
            Self::Damaged { .. } => ErrorClass::Internal,
            Self::HostNeedsOverlay(_) | Self::NoQuota(_) => ErrorClass::NotImplemented,
            Self::Quota(error) => error.class(),
            Self::Layer(error) => error.class(),
            Self::Io(error) => error.class(),
        }
    }
}

/// Names a snapshot; a container's id, as a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotKey(String);

impl SnapshotKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotKey {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let valid = !text.is_empty()
            && text.len() <= 128
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if valid { Ok(Self(text.to_owned())) } else { Err(SnapshotError::InvalidKey(text.to_owned())) }
    }
}

impl From<&seacow_spec::ContainerId> for SnapshotKey {
    fn from(id: &seacow_spec::ContainerId) -> Self {
        Self(id.as_str().to_owned())
    }
}

impl fmt::Display for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a snapshot is prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareOptions {
    /// Its files need not survive a crash of the machine, and no sync waits for the disk: for
    /// containers that are removed when they end.
    pub volatile: bool,
    /// What it may take of the disk, in bytes.
    pub size: Option<u64>,
}

/// What is known about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The layers below.
    pub parent: Option<ChainId>,
    /// Those of them that are the image's.
    pub base: Option<ChainId>,
    /// As it was prepared.
    pub volatile: bool,
    /// Its upper directory may leave content below and say where: it is always mounted so.
    pub metacopy: bool,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It, or for a directory an entry of it, is different.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// Docker's number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Modified => 0,
            Self::Added => 1,
            Self::Deleted => 2,
        }
    }

    /// Docker's letter.
    pub fn letter(self) -> char {
        match self {
            Self::Modified => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// One line of `docker diff`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute, as seen in the container.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.letter(), self.path.display())
    }
}

/// Makes writable layers. See the module's page for the terms and the lifecycle; every driver
/// passes [`conformance`].
pub trait SnapshotDriver: Send + Sync + fmt::Debug {
    /// Which driver it is.
    fn kind(&self) -> DriverKind;

    /// As `docker info` shows it.
    fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// What `docker info` shows below the name: what the driver does on this data root.
    fn status(&self) -> Vec<[String; 2]>;

    /// Makes an empty writable layer on top of `parent`. Seen by nobody until it is whole; durable
    /// with the caller's next durable metadata write.
    ///
    /// # Errors
    /// The key is taken, the parent does not exist, or the disk failed; nothing is left then.
    fn prepare(
        &self,
        key: &SnapshotKey,
        parent: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError>;

    /// Makes ahead what does not depend on the parent, so that [`SnapshotDriver::prepare`] under the
    /// same key has less to do. Until then there is no such snapshot; [`SnapshotDriver::remove`] takes
    /// it back.
    ///
    /// # Errors
    /// The key is taken, or the disk failed; nothing is left then.
    fn reserve(&self, key: &SnapshotKey) -> Result<(), SnapshotError>;

    /// How it is mounted. Nothing may be mounted on it at the moment.
    ///
    /// # Errors
    /// There is no such snapshot, or it is damaged.
    fn get(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError>;

    /// The same for showing it, mounted or not; nothing is touched.
    ///
    /// # Errors
    /// There is no such snapshot, or it is damaged.
    fn look(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError>;

    /// The layers alone, to be read and not written to.
    ///
    /// # Errors
    /// The layers do not exist.
    fn view(&self, parent: Option<&ChainId>) -> Result<Rootfs, SnapshotError>;

    /// What is known about it.
    ///
    /// # Errors
    /// There is no such snapshot, or it is damaged.
    fn info(&self, key: &SnapshotKey) -> Result<SnapshotInfo, SnapshotError>;

    /// Removes it; not there is fine. It is out of sight at once, its files are freed in the
    /// background. Mounts of it live on without it.
    ///
    /// # Errors
    /// The disk failed.
    fn remove(&self, key: &SnapshotKey) -> Result<(), SnapshotError>;

    /// All keys, sorted.
    ///
    /// # Errors
    /// The disk failed.
    fn list(&self) -> Result<Vec<SnapshotKey>, SnapshotError>;

    /// What differs from the image, sorted by path: `docker diff`.
    ///
    /// # Errors
    /// There is no such snapshot, or the disk failed.
    fn changes(&self, key: &SnapshotKey) -> Result<Vec<Change>, SnapshotError>;

    /// What it takes on the disk, and what was copied: the CoW ledger.
    ///
    /// # Errors
    /// There is no such snapshot, or the disk failed.
    fn usage(&self, key: &SnapshotKey) -> Result<Usage, SnapshotError>;

    /// Makes a layer of the changes. With [`UpperMode::Move`] the snapshot must not be mounted,
    /// and is good for nothing but [`SnapshotDriver::remove`] afterwards.
    ///
    /// # Errors
    /// There is no such snapshot, the stack is full, or the disk failed.
    fn commit(&self, key: &SnapshotKey, mode: UpperMode) -> Result<Layer, SnapshotError>;

    /// Makes a frozen layer of what the container's files are now. With [`UpperMode::Move`] the snapshot
    /// must not be mounted, and goes on unchanged to look at; its parent is another one then. One that
    /// changed nothing gives its parent. Durable with the next durable write; the files' content, if
    /// somebody syncs.
    ///
    /// # Errors
    /// There is no such snapshot, the stack is full, or the disk failed; nothing has changed then.
    fn freeze(&self, key: &SnapshotKey, mode: UpperMode) -> Result<Layer, SnapshotError>;

    /// Makes a snapshot of a container of the image `base` on top of a frozen layer.
    ///
    /// # Errors
    /// As [`SnapshotDriver::prepare`].
    fn branch(
        &self,
        key: &SnapshotKey,
        from: &ChainId,
        base: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError>;

    /// Has a snapshot that is not mounted begin again on top of a frozen layer, and lets go of what it
    /// was; the old or the new state, whenever the power fails.
    ///
    /// # Errors
    /// There is no such snapshot or layer, or the disk failed.
    fn reset(&self, key: &SnapshotKey, to: &ChainId) -> Result<(), SnapshotError>;

    /// What a frozen layer takes, by itself.
    ///
    /// # Errors
    /// There is no such layer, or the disk failed.
    fn frozen_usage(&self, layer: &ChainId) -> Result<Usage, SnapshotError>;

    /// Removes every snapshot that is not among `live`, and gives their keys.
    ///
    /// # Errors
    /// The disk failed.
    fn retain(&self, live: &HashSet<SnapshotKey>) -> Result<Vec<SnapshotKey>, SnapshotError> {
        let dead: Vec<_> = self.list()?.into_iter().filter(|key| !live.contains(key)).collect();
        for key in &dead {
            self.remove(key)?;
        }
        Ok(dead)
    }
}

/// Opens the snapshots of a store with a driver that was chosen.
pub(crate) fn open(
    kind: DriverKind,
    shared: Arc<Shared>,
    layers: Layers,
) -> Result<Box<dyn SnapshotDriver>, SnapshotError> {
    Ok(match kind {
        DriverKind::Overlay | DriverKind::Reflink => {
            let shares = driver::shares_extents(&shared.layout)?;
            // Where extents are shared it would only save a copy that costs nothing.
            let metacopy = !shares && driver::has_metacopy(&shared.layout)?;
            // Layers that another driver froze.
            layers.make_all_files()?;
            Box::new(OverlayDriver::open(shared, layers, overlay::Kind { kind, shares, metacopy })?)
        }
        DriverKind::Btrfs => Box::new(TreeDriver::open(shared, layers, Clones::Subvolumes)?),
        DriverKind::Zfs => {
            let zfs = tree::zfs::Zfs::open(&shared.layout)?;
            Box::new(TreeDriver::open(shared, layers, Clones::Datasets(zfs))?)
        }
        DriverKind::Copy => {
            let shared_extents = driver::shares_extents(&shared.layout)?;
            Box::new(TreeDriver::open(shared, layers, Clones::Copies { shared: shared_extents })?)
        }
    })
}
