//! The store as a whole: opening, what a crash has left, the lock.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use seacow_spec::{Classified, ErrorClass};

use crate::blob::Blobs;
use crate::disk::{Disk, FaultHook};
use crate::error::{At, IoFailure};
use crate::host::Host;
use crate::image::Images;
use crate::layer::Layers;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::meta::{Meta, MetaError};
use crate::point::Points;
use crate::quota::QuotaError;
use crate::record::Records;
use crate::shared::Shared;
use crate::snapshot::{self, DriverError, DriverKind, SnapshotDriver, SnapshotError};
use crate::volume::Volumes;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon uses it.
    #[error("the data root {} is in use by another seacowd{}", root.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    InUse {
        /// The data root.
        root: PathBuf,
        /// The other daemon.
        pid: Option<i32>,
    },
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The storage driver cannot be used.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The snapshots failed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Limits could not be put right.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

impl Classified for OpenError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::InUse { .. } => ErrorClass::Conflict,
            Self::Meta(error) => error.class(),
            Self::Driver(error) => error.class(),
            Self::Snapshot(error) => error.class(),
            Self::Quota(error) => error.class(),
            Self::Io(error) => error.class(),
        }
    }
}

/// Where and how.
#[derive(Clone)]
pub struct StoreOptions {
    /// What lasts: images, containers, volumes.
    pub data_root: PathBuf,
    /// What a reboot may take away.
    pub exec_root: PathBuf,
    /// How snapshots are made; the best that the data root allows if absent.
    pub driver: Option<DriverKind>,
    /// Bounds on what comes from outside.
    pub limits: Limits,
    /// Makes durable steps fail, in tests.
    pub faults: Option<FaultHook>,
}

impl StoreOptions {
    /// With default limits.
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Self {
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            driver: None,
            limits: Limits::default(),
            faults: None,
        }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("data_root", &self.data_root)
            .field("exec_root", &self.exec_root)
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

/// Everything that a daemon keeps on disk. To be shared by an `Arc`; every method may be called
/// from any thread, and blocks.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    layers: Layers,
    images: Images,
    blobs: Blobs,
    records: Records,
    points: Points,
    volumes: Volumes,
    snapshots: Box<dyn SnapshotDriver>,
    /// Held as long as the store is open; the kernel lets go of it when the process dies.
    _lock: File,
}

impl Store {
    /// Opens the store of a data root, making one where there is none, and removes what a crash
    /// left half-made: drafts, directories that the metadata does not name, layers that nothing
    /// refers to. Snapshots without a container are the engine's to tell
    /// ([`SnapshotDriver::retain`]).
    ///
    /// # Errors
    /// Another daemon has it open, the metadata is unreadable or of a newer version, the driver
    /// cannot be used on it, or the disk failed.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let layout = Layout::create(options.data_root, options.exec_root)?;
        let lock = lock(&layout.lock(), layout.data())?;
        let disk = Disk::new(layout.data(), options.faults)?;
        let meta = Meta::open(&layout.meta(), disk.clone())?;
        let driver = snapshot::choose(options.driver, &layout, &meta)?;
        let shared = Arc::new(Shared::new(layout, disk, meta, options.limits)?);
        crate::layer::finish_freezes(&shared).map_err(SnapshotError::from)?;
        remove_half_made(&shared)?;
        let layers = Layers::new(shared.clone());
        let snapshots = snapshot::open(driver, shared.clone(), layers.clone())?;
        shared.change().release_all_unused()?;
        let volumes = Volumes::open(shared.clone())?;
        shared.quotas.repair(&shared)?;
        let blobs = Blobs::new(shared.clone());
        blobs.tidy()?;
        Ok(Self {
            blobs,
            images: Images::new(shared.clone(), layers.clone(), Host::default()),
            records: Records::new(shared.clone()),
            points: Points::new(shared.clone()),
            layers,
            volumes,
            snapshots,
            shared,
            _lock: lock,
        })
    }

    /// Read-only file trees.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Images and their names.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Packed layers as registries have them.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Writable layers of containers.
    pub fn snapshots(&self) -> &dyn SnapshotDriver {
        &*self.snapshots
    }

    /// The engine's own documents.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Moments of containers' files.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// Writes what containers have written out to the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync_snapshots(&self) -> Result<(), IoFailure> {
        self.shared.disk.sync_fs(&self.shared.layout.snapshots())
    }

    /// Counts what frozen layers take that nobody has counted yet.
    ///
    /// # Errors
    /// The disk failed.
    pub fn measure_frozen(&self) -> Result<(), SnapshotError> {
        for layer in self.layers.list().iter().filter(|layer| layer.is_unmeasured()) {
            let measured = self
                .snapshots
                .frozen_usage(&layer.chain_id)
                .and_then(|usage| Ok(self.layers.note_sizes(&layer.chain_id, usage.size, usage.bytes)?));
            match measured {
                // Or it went meanwhile.
                Ok(()) | Err(SnapshotError::Layer(crate::LayerError::NotFound(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Named volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// What is limited, by its key (`snapshot/<key>`, `volume/<name>`, `gone/<number>` for what is on its way
    /// out), and to how many bytes.
    pub fn limits(&self) -> Vec<(String, u64)> {
        self.shared.quotas.list()
    }

    /// How the file system of the data root keeps limits, in words; the error says what is missing.
    ///
    /// # Errors
    /// It keeps none, or cannot be asked.
    pub fn limit_means(&self) -> Result<&'static str, String> {
        let means = crate::quota::Means::of(&self.shared.layout).map_err(|error| error.to_string())?;
        means.map(crate::quota::Means::words)
    }

    /// Where everything lasting lies.
    pub fn data_root(&self) -> &Path {
        self.shared.layout.data()
    }

    /// Where everything lies that a reboot may take away.
    pub fn exec_root(&self) -> &Path {
        self.shared.layout.exec()
    }

    /// Waits until everything that was removed is gone from the disk too.
    pub fn settle(&self) {
        self.shared.sweeper.settle();
    }

    /// Removes what the `host` image needs outside of the data root. Only when no container of it
    /// runs: hidden trees would show through.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove_host_mask(&self) -> Result<(), IoFailure> {
        crate::host::remove_mask(&self.shared.layout)
    }
}

/// How long a lock is waited for whose holder is gone: a child that it had just forked has a copy
/// of the descriptor until it executes its own program.
const LOCK_LINGERS: std::time::Duration = std::time::Duration::from_millis(500);

/// Takes the lock of a data root.
pub(crate) fn lock_file(root: &Path) -> Result<File, Box<OpenError>> {
    lock(&root.join("lock"), root).map_err(Box::new)
}

fn lock(path: &Path, root: &Path) -> Result<File, OpenError> {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path).at("open", path)?;
    let began = std::time::Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(seacow_sys::Errno::AGAIN) => {}
            Err(errno) => return Err(IoFailure::new("lock", path, errno).into()),
        }
        let pid = holder(&mut file);
        let lives = |pid: i32| {
            u32::try_from(pid) != Ok(std::process::id()) && Path::new(&format!("/proc/{pid}")).exists()
        };
        if pid.is_some_and(lives) || began.elapsed() > LOCK_LINGERS {
            return Err(OpenError::InUse { root: root.to_owned(), pid });
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    file.set_len(0).and_then(|()| file.rewind()).at("empty", path)?;
    writeln!(file, "{}", std::process::id()).at("write", path)?;
    Ok(file)
}

fn holder(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

/// Directories that no metadata names, and the trash.
fn remove_half_made(shared: &Shared) -> Result<(), IoFailure> {
    let layout = &shared.layout;
    for name in names(&layout.trash())? {
        shared.sweeper.remove(layout.trash().join(name));
    }
    for name in names(&layout.drafts())? {
        shared.discard(&layout.drafts().join(name))?;
    }
    let known: std::collections::HashSet<String> =
        shared.catalog().layers.keys().map(|chain| chain.hex().to_owned()).collect();
    for name in names(&layout.layers())? {
        if !name.to_str().is_some_and(|name| known.contains(name)) {
            shared.discard(&layout.layers().join(name))?;
        }
    }
    Ok(())
}

pub(crate) fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, IoFailure> {
    let entries = std::fs::read_dir(dir).at("list", dir)?;
    entries.map(|entry| Ok(entry.at("list", dir)?.file_name())).collect()
}
