//! A store on a host whose file system cannot share extents: an xfs in one sparse file.
//!
//! ```text
//! <data root>/store.xfs    the file; takes what is in it, not what its size says
//! <data root>/store/       where it is mounted: the data root that everything else works with
//! ```
//! The file is a block device by loop(4), past the page cache. The mount is the host's, so that it
//! outlives a daemon that is killed, as its containers do; the next daemon finds and uses it. It goes
//! when a daemon stops and no container runs, and the device with it.
//!
//! [`StoreFile::tend`] is to be called every few seconds. It keeps three promises: the file system
//! grows before it is full; blocks of what was removed go back to the host; and *the host's disk is
//! never promised twice* — of the file system's free space as much is held back by a ballast file as
//! the host could not provide, so that a full host is a plain "no space left" to whoever writes, and
//! not a failing block device below a file system.

mod create;
mod superblock;
mod tend;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use seacow_spec::{Classified, ErrorClass};
use seacow_sys::Errno;
use seacow_sys::loopdev::{self, Device};
use seacow_sys::mount::{self, MountFlags};

pub use create::Progress;
pub use tend::Tended;

use crate::error::{At, IoFailure};
use crate::layout::mkdir;
use crate::quota::means::{XFS, XFS_QUOTA};
use crate::store::{OpenError, lock_file};
use tend::Memory;

const FILE: &str = "store.xfs";
const MOUNT: &str = "store";

/// Why there is no store file to work with.
#[derive(Debug, thiserror::Error)]
pub enum StoreFileError {
    /// Somebody works with the data root.
    #[error(transparent)]
    InUse(#[from] Box<OpenError>),
    /// There is one already.
    #[error("there is a store file already: {}", .0.display())]
    Exists(PathBuf),
    /// None is needed.
    #[error(
        "the file system of {} shares extents between files already; a store file would only be in the way",
        .0.display()
    )]
    Needless(PathBuf),
    /// Too small.
    #[error("a store file has at least {} MiB", .0 >> 20)]
    TooSmall(u64),
    /// What is there does not fit.
    #[error(
        "no room to copy what is in {} into a store file: {needed} bytes are needed, {free} are free; remove \
         images or volumes first, nothing was changed",
        root.display()
    )]
    NoRoom {
        /// The data root.
        root: PathBuf,
        /// Bytes of what is there.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The program that makes the file system is missing.
    #[error("mkfs.xfs is not there: install xfsprogs and try again; nothing was changed")]
    NoMkfs,
    /// The file system cannot be made.
    #[error("mkfs.xfs: {0}")]
    Mkfs(String),
    /// A part of it is missing.
    #[error(
        "the store file {} is cut short: it has {len} bytes, the file system in it {wanted}; nothing was \
         touched: bring the whole file back from a copy, or move it away to begin with an empty store",
        file.display()
    )]
    Short {
        /// The file.
        file: PathBuf,
        /// Bytes that it has.
        len: u64,
        /// Bytes that it must have.
        wanted: u64,
    },
    /// It is something else.
    #[error("{} is no store file: {reason}; nothing was touched", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something else is mounted in its place.
    #[error("another file system is mounted on {}; unmount it first", .0.display())]
    Covered(PathBuf),
    /// No loop device could be had.
    #[error("attach the store file: {error}: {}", error.errno())]
    Loop {
        /// What failed.
        #[from]
        error: loopdev::Error,
    },
    /// The kernel does not mount it.
    #[error(
        "mount the store file {}: {errno}; nothing was changed. The kernel's log says more; xfs_repair on the \
         file mends what can be mended",
        file.display()
    )]
    Mount {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

impl Classified for StoreFileError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::InUse(error) => error.class(),
            Self::Exists(_) | Self::Needless(_) | Self::Covered(_) => ErrorClass::Conflict,
            Self::TooSmall(_) => ErrorClass::InvalidArgument,
            Self::NoRoom { .. } => ErrorClass::Unavailable,
            Self::NoMkfs => ErrorClass::NotImplemented,
            Self::Io(error) => error.class(),
            Self::Mkfs(_)
            | Self::Short { .. }
            | Self::Foreign { .. }
            | Self::Loop { .. }
            | Self::Mount { .. } => ErrorClass::Internal,
        }
    }
}

/// A store file that is mounted.
#[derive(Debug)]
pub struct StoreFile {
    home: PathBuf,
    memory: Mutex<Memory>,
    /// Keeps others from the data root; the kernel lets go of it when the process dies.
    _lock: File,
}

/// What a store file is and takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The file.
    pub file: PathBuf,
    /// Where it is mounted, if it is.
    pub mounted: Option<PathBuf>,
    /// Whether blocks go past the page cache.
    pub direct: bool,
    /// Bytes of its file system.
    pub size: u64,
    /// Bytes that are used in it; 0 while it is not mounted.
    pub used: u64,
    /// Bytes that it takes of the host's disk.
    pub allocated: u64,
    /// Bytes that the host's disk has left.
    pub host_free: u64,
}

impl StoreFile {
    /// Whether a data root has one.
    pub fn exists(data_root: &Path) -> bool {
        data_root.join(FILE).exists()
    }

    /// Checks and mounts a data root's store file, or finds it mounted by a daemon that is gone.
    ///
    /// # Errors
    /// Another daemon has it, it is damaged, or the kernel refuses it. Nothing is changed then.
    pub fn attach(data_root: &Path) -> Result<Self, StoreFileError> {
        let lock = lock_file(data_root)?;
        let file = data_root.join(FILE);
        superblock::check(&file)?;
        let place = data_root.join(MOUNT);
        mkdir(&place, 0o700)?;
        if !is_mounted(&file, &place)? {
            mount_file(&file, &place)?;
        }
        create::remove_what_was_copied(data_root)?;
        let this = Self { home: data_root.to_owned(), memory: Mutex::default(), _lock: lock };
        // A growth that was cut off between two steps.
        this.fill_file()?;
        Ok(this)
    }

    /// The directory to be used as the data root.
    pub fn root(&self) -> PathBuf {
        self.home.join(MOUNT)
    }

    /// Takes the mount away, and the device with it as soon as nobody has a file of it open. Only when
    /// no container runs.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn detach(&self) -> Result<(), StoreFileError> {
        let place = self.root();
        Ok(mount::unmount_detach(&place).at("unmount", &place)?)
    }

    /// What a data root's store file is and takes; `None` without one.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn status(data_root: &Path) -> Result<Option<Status>, StoreFileError> {
        let file = data_root.join(FILE);
        let Ok(meta) = std::fs::metadata(&file) else { return Ok(None) };
        let place = data_root.join(MOUNT);
        let device = open(&file).and_then(|file| Device::of(&file).at("find the device of", data_root))?;
        let mounted = is_mounted(&file, &place)?;
        let used = if mounted { Room::of(&place)?.used() } else { 0 };
        // On the disk it is up to date only when nobody uses it.
        let size = if mounted {
            let top = File::open(&place).at("open", &place)?;
            seacow_sys::space::xfs_bytes(std::os::fd::AsFd::as_fd(&top)).at("look at", &place)?
        } else {
            superblock::check(&file)?
        };
        Ok(Some(Status {
            size,
            used: used.saturating_sub(tend::ballast(&place)),
            allocated: meta.blocks() * 512,
            host_free: Room::of(data_root)?.free,
            direct: device.is_some_and(|device| device.is_direct()),
            mounted: mounted.then_some(place),
            file,
        }))
    }

    /// As [`StoreFile::status`], of this one.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn own_status(&self) -> Result<Status, StoreFileError> {
        Self::status(&self.home)?
            .ok_or_else(|| StoreFileError::Foreign { file: self.file(), reason: "it is gone" })
    }

    fn file(&self) -> PathBuf {
        self.home.join(FILE)
    }
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug)]
struct Room {
    total: u64,
    free: u64,
}

impl Room {
    fn of(path: &Path) -> Result<Self, IoFailure> {
        let found = rustix::fs::statvfs(path).at("look at the room of", path)?;
        Ok(Self { total: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
    }

    fn used(self) -> u64 {
        self.total.saturating_sub(self.free)
    }
}

/// Whether this very file is mounted there.
fn is_mounted(file: &Path, place: &Path) -> Result<bool, StoreFileError> {
    let Ok(there) = std::fs::metadata(place) else { return Ok(false) };
    let home = place.parent().unwrap_or(place);
    if there.dev() == std::fs::metadata(home).at("look at", home)?.dev() {
        return Ok(false);
    }
    let device = Device::of(&open(file)?).at("find the device of", file)?;
    let number = device.and_then(|device| std::fs::metadata(device.path()).ok()).map(|meta| meta.rdev());
    if number == Some(there.dev()) { Ok(true) } else { Err(StoreFileError::Covered(place.to_owned())) }
}

/// Attaches the file, unless it still is, and mounts it. The device goes with the last mount.
fn mount_file(file: &Path, place: &Path) -> Result<(), StoreFileError> {
    let opened = open(file)?;
    let device = match Device::of(&opened).at("find the device of", file)? {
        Some(device) => device,
        None => Device::attach(std::os::fd::AsFd::as_fd(&opened), file)?,
    };
    let source = device.path().to_string_lossy();
    mount_xfs(&source, place).map_err(|errno| StoreFileError::Mount { file: file.to_owned(), errno })
}

/// With limits of projects where the kernel's xfs has them; one that has not refuses the option.
fn mount_xfs(source: &str, place: &Path) -> Result<(), Errno> {
    let mount = |options| mount::mount_at("xfs", source, place, MountFlags::NOATIME, options);
    let is_known = Path::new(XFS).exists() && !Path::new(XFS_QUOTA).exists();
    let with_quota = if is_known { Err(Errno::INVAL) } else { mount("prjquota") };
    match with_quota {
        Err(Errno::INVAL) => mount(""),
        done => done,
    }
}

fn open(file: &Path) -> Result<File, IoFailure> {
    File::options().read(true).write(true).open(file).at("open", file)
}
