//! The `host` image: the live root file system of this very machine, as a read-only lower layer.
//!
//! It is a view, not a snapshot: what changes on the host later may show through. Other mounts are
//! not in it (overlayfs does not cross into them), and a *mask* hides the store itself and volatile
//! trees. Overlayfs refuses a lower directory that lies below another lower of the same file
//! system, and every directory lies below `/`; so the view is a read-only overlay of its own,
//! `[mask, /]`, and the container's overlay is stacked on it ([`Lower::HostView`]).
//!
//! The mask must be on another file system than `/`: the exec root when that is a tmpfs, else
//! `/dev/shm`. It is only ever added to, because running containers look through it.
//!
//! The image's id follows the machine's id and the state of its package database: build steps on
//! top are cached until packages change.
//!
//! [`Lower::HostView`]: seacow_spec::shim::Lower::HostView

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode;
use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::oci::image::{History, ImageConfig};
use seacow_spec::reference::InvalidReference;
use seacow_spec::{Classified, Digest, ErrorClass, Reference, Timestamp};
use seacow_sys::rooted::Root;
use sha2::Digest as _;

use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::hash;
use crate::layout::{Layout, mkdir};

/// Why this machine's root cannot be used as an image.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel stacks two overlays, and there is one already.
    #[error(
        "the image host is not possible here: the root file system is an overlay itself, and the kernel \
         does not stack three; use another base image"
    )]
    Stacked,
    /// No place for the mask.
    #[error(
        "the image host is not possible here: what it hides must be kept on another file system than the \
         root's, and neither {} nor /dev/shm is one; put the exec root on a tmpfs (--exec-root)",
        .0.display()
    )]
    NoMask(PathBuf),
    /// Somebody else made the mask's directory.
    #[error("the mask of the image host at {} does not belong to this user", .0.display())]
    ForeignMask(PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The reserved name does not parse (a fault of this program).
    #[error(transparent)]
    Reference(#[from] InvalidReference),
}

impl Classified for HostError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Stacked | Self::NoMask(_) => ErrorClass::NotImplemented,
            Self::ForeignMask(_) => ErrorClass::Forbidden,
            Self::Io(error) => error.class(),
            Self::Reference(_) => ErrorClass::Internal,
        }
    }
}

/// The reserved name.
pub(crate) fn reference() -> Result<Reference, InvalidReference> {
    seacow_spec::reference::HOST_IMAGE.parse::<Reference>().map(Reference::or_latest)
}

/// The host as a base for images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// The last state and what it was read from; reading takes milliseconds, checking it none.
    last: Arc<Mutex<Option<HostState>>>,
}

/// The machine's identity at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostState {
    databases: Vec<Database>,
    /// Stands for the root file system in a config's list of layers.
    pub(crate) diff_id: Digest,
}

/// What installed packages are recorded in.
const DATABASES: [&str; 6] = [
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
    "/lib/apk/db/installed",
    "/var/lib/pacman/local",
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Database {
    path: &'static str,
    size: u64,
    modified: (i64, i64),
}

impl Host {
    pub(crate) fn state(&self) -> Result<HostState, HostError> {
        let databases: Vec<Database> = DATABASES
            .iter()
            .filter_map(|path| {
                let meta = std::fs::metadata(path).ok()?;
                Some(Database { path, size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
            })
            .collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = last.as_ref()
            && state.databases == databases
        {
            return Ok(state.clone());
        }
        let mut hash = sha2::Sha256::new_with_prefix("seacow host base 1\n");
        hash.update(machine_id()?);
        for database in &databases {
            hash.update(format!("\n{} {}\n", database.path, database.size));
            hash_file(Path::new(database.path), &mut hash)?;
        }
        let state = HostState { databases, diff_id: hash::finish(hash) };
        *last = Some(state.clone());
        Ok(state)
    }
}

impl HostState {
    /// The config blob: the same bytes as long as the state is the same.
    pub(crate) fn config(&self) -> Result<Vec<u8>, HostError> {
        let newest = self.databases.iter().map(|database| database.modified).max().unwrap_or((0, 0));
        let created = Timestamp::from_unix(newest.0, u32::try_from(newest.1).unwrap_or(0));
        let shell = if Path::new("/bin/bash").exists() { "bash" } else { "sh" };
        let mut config = ImageConfig {
            architecture: architecture().into(),
            os: "linux".into(),
            created: Some(created),
            config: Some(ContainerConfig {
                env: Some(vec![
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
                ]),
                cmd: Some(vec![shell.to_owned()]),
                ..ContainerConfig::default()
            }),
            history: vec![History {
                created: Some(created),
                created_by: "the root file system of this machine".into(),
                comment: "a live view".into(),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = vec![self.diff_id.clone()];
        serde_json::to_vec(&config)
            .map_err(|error| IoFailure::new("write the config of", "the host image", error).into())
    }
}

/// Go's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn machine_id() -> Result<Vec<u8>, IoFailure> {
    for path in ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname"] {
        if let Ok(id) = std::fs::read(path)
            && !id.trim_ascii().is_empty()
        {
            return Ok(id.trim_ascii().to_vec());
        }
    }
    let root = std::fs::metadata("/").at("look at", "/")?;
    Ok(format!("{}:{}", root.dev(), root.ino()).into_bytes())
}

/// The content; of a directory (pacman's) its names.
fn hash_file(path: &Path, hash: &mut sha2::Sha256) -> Result<(), IoFailure> {
    if path.is_dir() {
        let names = std::fs::read_dir(path).at("list", path)?;
        let mut names: Vec<_> = names.filter_map(|entry| entry.ok().map(|e| e.file_name())).collect();
        names.sort();
        names.iter().for_each(|name| {
            hash.update(name.as_bytes());
            hash.update(b"\n");
        });
        return Ok(());
    }
    let mut file = std::fs::File::open(path).at("read", path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).at("read", path)? {
            0 => return Ok(()),
            len => hash.update(&buffer[..len]),
        }
    }
}

/// Mask and root of the view, made when first needed.
pub(crate) fn view_of(layout: &Layout) -> Result<(PathBuf, PathBuf), HostError> {
    let root = PathBuf::from("/");
    let stat = rustix::fs::statfs("/").at("look at", "/")?;
    if stat.f_type as u64 & 0xffff_ffff == OVERLAYFS_MAGIC {
        return Err(HostError::Stacked);
    }
    let mask = mask_dir(layout)?;
    Ok((mask, root))
}

const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// Trees that are not part of the image: they belong to the running machine.
const VOLATILE: [&str; 6] = ["/tmp", "/var/tmp", "/run", "/proc", "/sys", "/dev"];
/// Files that every container gets its own of; the mount points must exist behind the mask too.
const BOUND: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
/// Says that the mask is complete.
const READY: &str = ".seacow-mask";

fn mask_dir(layout: &Layout) -> Result<PathBuf, HostError> {
    let root_device = device(Path::new("/"))?;
    let own = layout.exec().join("host-mask");
    let name = format!("seacow-host-{}", hash::digest(layout.data().as_os_str().as_bytes()).short());
    let shared = Path::new("/dev/shm").join(name);
    let place = [own, shared]
        .into_iter()
        .find(|place| place.parent().is_some_and(|dir| device(dir).is_ok_and(|d| d != root_device)))
        .ok_or_else(|| HostError::NoMask(layout.exec().to_owned()))?;
    // The marker is beside the mask, not in it.
    let mask = place.join("fs");
    if place.join(READY).exists() && owned(&place)? {
        return Ok(mask);
    }
    mkdir(&place, 0o700)?;
    if !owned(&place)? {
        return Err(HostError::ForeignMask(place));
    }
    mkdir(&mask, 0o755)?;
    build_mask(layout, &mask, root_device)?;
    std::fs::write(place.join(READY), b"").at("write", place.join(READY))?;
    Ok(mask)
}

/// `/dev/shm` is everybody's: a directory there is ours only if we own it.
fn owned(place: &Path) -> Result<bool, IoFailure> {
    let meta = std::fs::symlink_metadata(place).at("look at", place)?;
    Ok(meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw())
}

fn build_mask(layout: &Layout, mask: &Path, root_device: u64) -> Result<(), IoFailure> {
    let root = Root::open(mask).at("open", mask)?;
    copy_look(Path::new("/"), &root, Path::new("."))?;
    let own = [layout.data(), layout.exec()].map(|path| std::fs::canonicalize(path).ok());
    // Volatile trees first: the store's own directories often lie in one, and are then hidden with it.
    let hidden = VOLATILE.iter().map(PathBuf::from).chain(own.into_iter().flatten());
    for path in hidden {
        hide(&root, &path, root_device)?;
    }
    for file in BOUND {
        let Ok(target) = std::fs::canonicalize(file) else { continue };
        if VOLATILE.iter().any(|tree| target.starts_with(tree)) {
            let below = target.strip_prefix("/").unwrap_or(&target);
            let parent = below.parent().unwrap_or(Path::new(""));
            root.mkdir_all(parent, Mode::from_raw_mode(0o755)).at("make directory", parent)?;
            root.create(below, Mode::from_raw_mode(0o644)).at("create", below)?;
        }
    }
    Ok(())
}

/// Makes an empty directory of that name that hides the host's.
fn hide(mask: &Root, path: &Path, root_device: u64) -> Result<(), IoFailure> {
    let mut host = PathBuf::from("/");
    let mut below = PathBuf::new();
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        host.push(name);
        below.push(name);
        let Ok(meta) = std::fs::symlink_metadata(&host) else { return Ok(()) };
        if !meta.is_dir() {
            return Ok(());
        }
        let entry = mask.entry(&below).at("open", &below)?;
        match entry.mkdir(Mode::from_raw_mode(0o755)) {
            Ok(()) => copy_look(&host, mask, &below)?,
            Err(seacow_sys::Errno::EXIST) if attrs::is_opaque(&entry).at("look at", &below)? => return Ok(()),
            Err(seacow_sys::Errno::EXIST) => {}
            Err(errno) => return Err(IoFailure::new("make directory", below, errno)),
        }
        // Beyond a mount point there is nothing in the view.
        if host == path || meta.dev() != root_device {
            return attrs::set_opaque(&entry).at("hide what is below", &below);
        }
    }
    Ok(())
}

/// A directory of the mask looks like the host's own.
fn copy_look(host: &Path, mask: &Root, below: &Path) -> Result<(), IoFailure> {
    let meta = std::fs::metadata(host).at("look at", host)?;
    let entry = mask.entry(below).at("open", below)?;
    entry.chown(meta.uid(), meta.gid()).at("set the owner of", below)?;
    entry.chmod(Mode::from_raw_mode(meta.mode() & 0o7777)).at("set the mode of", below)
}

fn device(path: &Path) -> Result<u64, IoFailure> {
    Ok(std::fs::metadata(path).at("look at", path)?.dev())
}

/// Removes the mask. For a daemon that leaves nothing behind: no container may be running on the
/// host image, or hidden trees show through in it.
pub(crate) fn remove_mask(layout: &Layout) -> Result<(), IoFailure> {
    let name = format!("seacow-host-{}", hash::digest(layout.data().as_os_str().as_bytes()).short());
    for place in [layout.exec().join("host-mask"), Path::new("/dev/shm").join(name)] {
        if place.exists() {
            crate::layout::remove_tree(&place)?;
        }
    }
    Ok(())
}
