//! Device nodes and links in `/dev`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FileType, Mode};
use seacow_spec::oci::runtime::LinuxDevice;
use seacow_sys::Errno;
use seacow_sys::rooted::Root;

use crate::error::{Error, Step};

/// Nodes every container has: name, major, minor (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links every container has.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Fills a fresh `/dev`. `dev` is that directory.
pub(crate) fn populate(dev: &Root, all_of_host: bool) -> Result<(), Error> {
    for (name, major, minor) in NODES {
        node(dev, name, FileType::CharacterDevice, 0o666, major, minor)?;
    }
    for (name, target) in LINKS {
        let entry = dev.entry(Path::new(name)).step(|| format!("find /dev/{name}"))?;
        entry.symlink(Path::new(target)).step(|| format!("link /dev/{name}"))?;
    }
    if all_of_host {
        copy_host(dev, Path::new("/dev"), Path::new(""), 0)?;
    }
    Ok(())
}

fn node(dev: &Root, name: &str, kind: FileType, mode: u32, major: u32, minor: u32) -> Result<(), Error> {
    let entry = dev.entry(Path::new(name)).step(|| format!("find /dev/{name}"))?;
    entry.mknod(kind, Mode::from(mode), major, minor).step(|| format!("make device /dev/{name}"))
}

/// Directories of the host's `/dev` that are file systems of their own or mean something else in
/// a container.
const NOT_COPIED: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
/// `/dev/disk/by-id` is the deepest usual directory.
const DEPTH: u32 = 8;

/// Makes a node for every device of the host.
fn copy_host(dev: &Root, from: &Path, below: &Path, depth: u32) -> Result<(), Error> {
    let listing = std::fs::read_dir(from).step(|| format!("list {}", from.display()))?;
    for item in listing {
        let item = item.step(|| format!("list {}", from.display()))?;
        let name = item.file_name();
        let at = below.join(&name);
        // Devices come and go; what has gone meanwhile is no error.
        let Ok(meta) = item.metadata() else { continue };
        let kind = meta.file_type();
        if kind.is_dir() {
            if depth < DEPTH && !(depth == 0 && NOT_COPIED.iter().any(|n| name == *n)) {
                copy_host(dev, &from.join(&name), &at, depth + 1)?;
            }
        } else if (kind.is_char_device() || kind.is_block_device())
            && !(depth == 0 && NOT_COPIED.iter().any(|n| name == *n))
        {
            let kind = if kind.is_char_device() { FileType::CharacterDevice } else { FileType::BlockDevice };
            copy_node(dev, &at, kind, &meta)?;
        }
    }
    Ok(())
}

fn copy_node(dev: &Root, at: &Path, kind: FileType, meta: &std::fs::Metadata) -> Result<(), Error> {
    let making = || format!("make device /dev/{}", at.display());
    if let Some(parent) = at.parent().filter(|p| !p.as_os_str().is_empty()) {
        drop(dev.mkdir_all(parent, Mode::from(0o755)).step(making)?);
    }
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    let entry = dev.entry(at).step(making)?;
    match entry.mknod(kind, Mode::from(meta.mode() & 0o7777), major, minor) {
        Ok(()) => entry.chown(meta.uid(), meta.gid()).step(making),
        // One of the standard nodes.
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).step(making),
    }
}

/// Makes the devices the configuration asks for, below the container's root.
pub(crate) fn add(root: &Root, devices: &[LinuxDevice]) -> Result<(), Error> {
    for device in devices {
        let making = || format!("make device {}", device.path);
        let invalid = || Error::Invalid { what: format!("device {}: bad type or number", device.path) };
        let kind = match device.kind.as_str() {
            "c" | "u" => FileType::CharacterDevice,
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            _ => return Err(invalid()),
        };
        let path = Path::new(&device.path);
        if let Some(parent) = path.parent() {
            drop(root.mkdir_all(parent, Mode::from(0o755)).step(making)?);
        }
        let major = u32::try_from(device.major).map_err(|_| invalid())?;
        let minor = u32::try_from(device.minor).map_err(|_| invalid())?;
        // The upper bits, should there be any, are the type's.
        let mode = Mode::from(device.file_mode.unwrap_or(0o666) & 0o7777);
        let entry = root.entry(path).step(making)?;
        match entry.mknod(kind, mode, major, minor) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                entry.unlink().step(|| format!("replace device {}", device.path))?;
                entry.mknod(kind, mode, major, minor).step(making)?;
            }
            Err(errno) => return Err(errno).step(making),
        }
        entry.chmod(mode).step(making)?;
        entry.chown(device.uid.unwrap_or(0), device.gid.unwrap_or(0)).step(making)?;
    }
    Ok(())
}
