//! Device nodes and links in `/dev`.

use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use seacow_spec::oci::runtime::LinuxDevice;
use seacow_sys::Errno;
use seacow_sys::mount;
use seacow_sys::rooted::{Entry, Root};

use crate::error::{Error, Step};
use crate::validate::{self, linux as checked};

/// Nodes every container has: name, major, minor (Documentation/admin-guide/devices.txt).
pub(crate) const NODES: [(&str, u32, u32); 6] =
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
        each_of_host(&mut |at, meta| copy_node(dev, at, meta))?;
    }
    Ok(())
}

fn node(dev: &Root, name: &str, kind: FileType, mode: u32, major: u32, minor: u32) -> Result<(), Error> {
    let entry = dev.entry(Path::new(name)).step(|| format!("find /dev/{name}"))?;
    match entry.mknod(kind, Mode::from(mode), major, minor) {
        // In a user namespace nobody makes devices; the host's own is lent.
        Err(Errno::PERM) => {
            bind_host(&entry, &Path::new("/dev").join(name), checked::Node { kind, major, minor, mode })
        }
        done => done.step(|| format!("make device /dev/{name}")),
    }
}

/// Directories of the host's `/dev` that are file systems of their own or mean something else in
/// a container.
const NOT_COPIED: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
/// `/dev/disk/by-id` is the deepest usual directory.
const DEPTH: u32 = 8;

/// Calls `visit` with the path below `/dev` of every device of the host.
pub(crate) fn each_of_host(
    visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> Result<(), Error>,
) -> Result<(), Error> {
    each_below(Path::new("/dev"), Path::new(""), 0, visit)
}

fn each_below(
    from: &Path,
    below: &Path,
    depth: u32,
    visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> Result<(), Error>,
) -> Result<(), Error> {
    let listing = std::fs::read_dir(from).step(|| format!("list {}", from.display()))?;
    for item in listing {
        let item = item.step(|| format!("list {}", from.display()))?;
        let name = item.file_name();
        if depth == 0 && NOT_COPIED.iter().any(|n| name == *n) {
            continue;
        }
        let at = below.join(&name);
        // Devices come and go; what has gone meanwhile is no error.
        let Ok(meta) = item.metadata() else { continue };
        let kind = meta.file_type();
        if kind.is_dir() {
            if depth < DEPTH {
                each_below(&from.join(&name), &at, depth + 1, visit)?;
            }
        } else if kind.is_char_device() || kind.is_block_device() {
            visit(&at, &meta)?;
        }
    }
    Ok(())
}

/// Makes a node for a device of the host.
fn copy_node(dev: &Root, at: &Path, meta: &std::fs::Metadata) -> Result<(), Error> {
    let making = || format!("make device /dev/{}", at.display());
    if let Some(parent) = at.parent().filter(|p| !p.as_os_str().is_empty()) {
        drop(dev.mkdir_all(parent, Mode::from(0o755)).step(making)?);
    }
    let kind =
        if meta.file_type().is_char_device() { FileType::CharacterDevice } else { FileType::BlockDevice };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    let entry = dev.entry(at).step(making)?;
    match entry.mknod(kind, Mode::from(meta.mode() & 0o7777), major, minor) {
        Ok(()) => entry.chown(meta.uid(), meta.gid()).step(making),
        // One of the standard nodes.
        Err(Errno::EXIST) => Ok(()),
        Err(Errno::PERM) => {
            let node = checked::Node { kind, major, minor, mode: 0 };
            bind_host(&entry, &Path::new("/dev").join(at), node)
        }
        Err(errno) => Err(errno).step(making),
    }
}

/// Makes the devices the configuration asks for, below the container's root. One that is there
/// already is kept, with the mode and owner asked for.
pub(crate) fn add(root: &Root, devices: &[LinuxDevice]) -> Result<(), Error> {
    for (index, device) in devices.iter().enumerate() {
        let making = || format!("make device {}", device.path);
        let node = checked::device(index, device)?;
        let path = Path::new(&device.path);
        if path == Path::new("/dev/ptmx") {
            // The one of the container's own devpts is there already; a node would be the host's.
            continue;
        }
        if let Some(parent) = path.parent() {
            drop(root.mkdir_all(parent, Mode::from(0o755)).step(making)?);
        }
        let mode = Mode::from(node.mode);
        let entry = root.entry(path).step(making)?;
        match entry.mknod(node.kind, mode, node.major, node.minor) {
            Ok(()) => {}
            Err(Errno::EXIST) => same_node(&entry, index, device, node)?,
            // In a user namespace nobody makes devices; the host's own is lent.
            Err(Errno::PERM) => {
                bind_host(&entry, &of_host(path, node)?, node)?;
                continue;
            }
            Err(errno) => return Err(errno).step(making),
        }
        if is_bound(&entry).step(making)? {
            continue;
        }
        entry.chown(device.uid.unwrap_or(0), device.gid.unwrap_or(0)).step(making)?;
        // Last: a change of owner takes set-id bits away.
        entry.chmod(mode).step(making)?;
    }
    Ok(())
}

/// Whether the node is one of the host's, bound here: its mode and owner are the host's matter.
fn is_bound(entry: &Entry) -> Result<bool, Errno> {
    Ok(entry.stat()?.st_dev != rustix::fs::fstat(entry.dir())?.st_dev)
}

/// Refuses what is there under a device's name but is not that device.
fn same_node(entry: &Entry, index: usize, device: &LinuxDevice, wanted: checked::Node) -> Result<(), Error> {
    let stat = entry.stat().step(|| format!("status of {}", device.path))?;
    let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let same = FileType::from_raw_mode(stat.st_mode) == wanted.kind
        && (wanted.kind == FileType::Fifo || numbers == (wanted.major, wanted.minor));
    if same {
        return Ok(());
    }
    let what = format!("{} exists and is another file", device.path);
    Err(validate::Error::field(format!("linux.devices[{index}].path"), what).into())
}

/// Where the host has a device: under the same name, or under another.
fn of_host(path: &Path, wanted: checked::Node) -> Result<PathBuf, Error> {
    let fits = |meta: &std::fs::Metadata| {
        let kind = meta.file_type();
        let same_kind = match wanted.kind {
            FileType::CharacterDevice => kind.is_char_device(),
            FileType::BlockDevice => kind.is_block_device(),
            _ => false,
        };
        let rdev = meta.rdev();
        same_kind && (rustix::fs::major(rdev), rustix::fs::minor(rdev)) == (wanted.major, wanted.minor)
    };
    if std::fs::symlink_metadata(path).is_ok_and(|meta| fits(&meta)) {
        return Ok(path.to_owned());
    }
    let mut found = None;
    each_of_host(&mut |at, meta| {
        if found.is_none() && fits(meta) {
            found = Some(Path::new("/dev").join(at));
        }
        Ok(())
    })?;
    // What is wrong with this one is said when it is bound.
    Ok(found.unwrap_or_else(|| path.to_owned()))
}

/// Binds a node of the host on a new empty file.
fn bind_host(entry: &Entry, host: &Path, wanted: checked::Node) -> Result<(), Error> {
    let making = || format!("bind the host's device {}", host.display());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(host, flags, Mode::empty()).step(making)?;
    let stat = rustix::fs::fstat(&node).step(making)?;
    let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != wanted.kind || numbers != (wanted.major, wanted.minor) {
        let (major, minor) = (wanted.major, wanted.minor);
        return Err(Error::Invalid {
            what: format!("the host's {} is not device {major}:{minor}", host.display()),
        });
    }
    let tree = mount::clone_tree(node.as_fd(), false).step(making)?;
    let target = entry.create_new(Mode::from(0o644)).step(making)?;
    mount::attach(tree.as_fd(), target.as_fd()).step(making)
}
