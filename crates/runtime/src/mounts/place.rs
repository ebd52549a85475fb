//! Putting one mount on one place.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use seacow_spec::oci::runtime::Mount;
use seacow_sys::Errno;
use seacow_sys::mount::{self, Change, MountFlags, Propagation};
use seacow_sys::rooted::{Entry, Root};

use super::options::{Bind, Options};
use crate::error::{Error, Step};

/// A path that means the file behind a descriptor, for calls that take only paths. Needs the
/// host's `/proc`, which is there until the root changes.
pub(crate) fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Mounts one entry of the configuration below `root`, making the mount point where missing. `tree`
/// is a bind mount's source when it was cloned before.
pub(crate) fn place(root: &Root, entry: &Mount, tree: Option<OwnedFd>) -> Result<(), Error> {
    refuse_in_proc(&entry.destination)?;
    let options = Options::parse(&entry.options);
    if options.bind.is_some() || entry.kind == "bind" {
        place_bind(root, entry, &options, tree)
    } else {
        place_filesystem(root, entry, &options)
    }
}

/// A bind mount: cloned detached, changed, then attached; it is never seen with wrong attributes.
fn place_bind(root: &Root, entry: &Mount, options: &Options, tree: Option<OwnedFd>) -> Result<(), Error> {
    let Mount { source, destination, .. } = entry;
    let early = tree.is_some() && matches!(options.propagation, Some((Propagation::Shared, _)));
    let tree = bound_tree(entry, options, tree)?;
    let source_type =
        FileType::from_raw_mode(rustix::fs::fstat(&tree).step(|| format!("status of {source}"))?.st_mode);
    let target = mount_point(root, Path::new(destination), source_type == FileType::Directory)?;
    refuse_over_proc(target.as_fd(), destination, is_procfs(tree.as_fd(), destination)?)?;
    let mounting = || format!("mount {source} on {destination}");
    mount::attach(tree.as_fd(), target.as_fd()).step(mounting)?;
    if early { renew(&tree, target.as_fd(), options).step(mounting) } else { Ok(()) }
}

/// What a bind mount puts in its place, with its attributes; `tree` is its source when it was cloned
/// before.
pub(crate) fn bound_tree(entry: &Mount, options: &Options, tree: Option<OwnedFd>) -> Result<OwnedFd, Error> {
    let destination = &entry.destination;
    let tree = match tree {
        Some(tree) => tree,
        None => clone_source(entry, options)?,
    };
    let change = |how: Change<'_>, what: &str| {
        mount::change(tree.as_fd(), &how).step(|| format!("set {what} of bind mount {destination}"))
    };
    let (propagation, all) = options.propagation.unwrap_or((Propagation::Private, true));
    change(Change { propagation: Some(propagation), recursive: all, ..Change::default() }, "propagation")?;
    if !options.set.is_empty() || !options.clear.is_empty() {
        change(Change { set: options.set, clear: options.clear, ..Change::default() }, "options")?;
    }
    if !options.set_recursive.is_empty() || !options.clear_recursive.is_empty() {
        let (set, clear) = (options.set_recursive, options.clear_recursive);
        change(Change { set, clear, recursive: true, ..Change::default() }, "recursive options")?;
    }
    Ok(tree)
}

/// Puts a copy in the place of a tree that was cloned before all others: mounts are listed in the
/// order in which they were made, which shall be the configuration's. Only what is attached here can
/// be copied by us.
fn renew(tree: &OwnedFd, target: BorrowedFd<'_>, options: &Options) -> Result<(), Errno> {
    let copy = mount::clone_tree(tree.as_fd(), options.bind == Some(Bind::Recursive))?;
    // No peer of the host's any more: what is below it must not be unmounted there too.
    let how = Change { propagation: Some(Propagation::Private), recursive: true, ..Change::default() };
    mount::change(tree.as_fd(), &how)?;
    mount::detach(tree.as_fd())?;
    mount::attach(copy.as_fd(), target)
}

/// A detached copy of a bind mount's source.
pub(crate) fn clone_source(entry: &Mount, options: &Options) -> Result<OwnedFd, Error> {
    let recursive = options.bind == Some(Bind::Recursive);
    if let Some(path) = &options.beneath {
        let tree = Root::open(Path::new(&entry.source))
            .and_then(|top| top.locate(path))
            .and_then(|found| mount::clone_tree(found.as_fd(), recursive));
        return tree.step(|| format!("cannot access path {} in {}", path.display(), entry.source));
    }
    mount::clone_tree_at(Path::new(&entry.source), recursive)
        .step(|| format!("bind source path {} for {}", entry.source, entry.destination))
}

/// A file system of its own.
fn place_filesystem(root: &Root, entry: &Mount, options: &Options) -> Result<(), Error> {
    let Mount { kind, source, destination, .. } = entry;
    let target = mount_point(root, Path::new(destination), true)?;
    refuse_over_proc(target.as_fd(), destination, kind == "proc")?;
    let source = if source.is_empty() { kind } else { source };
    let data = data_for(kind, &options.data, target.as_fd()).step(|| format!("status of {destination}"))?;
    let mounting = || format!("mount {kind} on {destination} with options {data:?}");
    if options.copy_up && kind == "tmpfs" {
        // Filled first, then made what it shall be.
        mount::mount_at(kind, source, &fd_path(target.as_fd()), MountFlags::empty(), &data).step(mounting)?;
        fill(root, destination, target.as_fd(), options)?;
    } else {
        mount::mount_at(kind, source, &fd_path(target.as_fd()), options.flags(), &data).step(mounting)?;
    }
    if let Some((propagation, recursive)) = options.propagation {
        let placed = root.locate(Path::new(destination)).step(|| format!("find mount {destination}"))?;
        let how = Change { propagation: Some(propagation), recursive, ..Change::default() };
        mount::change(placed.as_fd(), &how).step(|| format!("set propagation of {destination}"))?;
    }
    Ok(())
}

/// Files of `/proc` that may be covered by a mount (lxcfs does), as runc has them.
const PROC_FILES: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
];

/// A mount over `/proc` or inside it would fool whoever reads or writes there, and uncover what is
/// masked.
fn refuse_in_proc(destination: &str) -> Result<(), Error> {
    let path = Path::new(destination);
    let inside = path.starts_with("/proc") && path != Path::new("/proc");
    if inside && !PROC_FILES.iter().any(|file| path == Path::new(file)) {
        return Err(refused(destination, "inside /proc"));
    }
    Ok(())
}

/// What counts is where the destination leads: the image may have links (CVE-2019-16884,
/// CVE-2019-19921, CVE-2023-27561).
pub(crate) fn refuse_over_proc(
    target: BorrowedFd<'_>,
    destination: &str,
    with_proc: bool,
) -> Result<(), Error> {
    let path = Path::new(destination);
    if path == Path::new("/proc") {
        return if with_proc { Ok(()) } else { Err(refused(destination, "/proc, and not of type proc")) };
    }
    if is_procfs(target, destination)? && !PROC_FILES.iter().any(|file| path == Path::new(file)) {
        return Err(refused(destination, "inside /proc"));
    }
    Ok(())
}

fn refused(destination: &str, why: &str) -> Error {
    Error::Invalid { what: format!("{destination:?} cannot be mounted because it is {why}") }
}

fn is_procfs(fd: BorrowedFd<'_>, what: &str) -> Result<bool, Error> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let found = rustix::fs::fstatfs(fd).step(|| format!("file system of {what}"))?;
    Ok(found.f_type as i64 == PROC_SUPER_MAGIC)
}

/// The options of a file system. A tmpfs without a mode takes that of the directory it is put on, as
/// users of Docker expect of their `/tmp`.
pub(crate) fn data_for(kind: &str, data: &str, target: BorrowedFd<'_>) -> Result<String, Errno> {
    if kind != "tmpfs" || data.split(',').any(|option| option.starts_with("mode=")) {
        return Ok(data.to_owned());
    }
    let mode = rustix::fs::fstat(target)?.st_mode & 0o7777;
    let comma = if data.is_empty() { "" } else { "," };
    Ok(format!("{data}{comma}mode={mode:o}"))
}

/// Copies what a tmpfs hides into it. `hidden` is the directory below.
fn fill(root: &Root, destination: &str, hidden: BorrowedFd<'_>, options: &Options) -> Result<(), Error> {
    let copying = || format!("copy {destination} into its tmpfs");
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    // By "." below the handle: its path would lead to what is mounted there now.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::openat(hidden, ".", flags, Mode::empty()).step(copying)?;
    let placed = root.locate(Path::new(destination)).step(copying)?;
    let to = open(&fd_path(placed.as_fd())).step(copying)?;
    super::copy_up::copy(from.as_fd(), to.as_fd()).step(copying)?;
    if options.set.is_empty() {
        return Ok(());
    }
    mount::change(placed.as_fd(), &Change { set: options.set, ..Change::default() })
        .step(|| format!("set options of {destination}"))
}

/// The directory or file at `path` below the root, made when missing.
pub(crate) fn mount_point(root: &Root, path: &Path, directory: bool) -> Result<OwnedFd, Error> {
    let making = || format!("make mount point {}", path.display());
    if directory {
        return root.mkdir_all_through_links(path, Mode::from(0o755)).step(making);
    }
    match root.locate(path) {
        Err(seacow_sys::Errno::NOENT) => {}
        found => return found.step(making),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Invalid { what: format!("mount point {}", path.display()) });
    };
    let parent = root.mkdir_all_through_links(parent, Mode::from(0o755)).step(making)?;
    let entry = Entry::in_dir(parent, name).step(making)?;
    match entry.create_new(Mode::from(0o644)) {
        Ok(_) | Err(seacow_sys::Errno::EXIST) => {}
        Err(errno) => return Err(errno).step(making),
    }
    // A dangling link of that name is refused, not followed.
    entry.open(OFlags::PATH, Mode::empty()).step(making).and_then(|found| {
        let stat = rustix::fs::fstat(&found).step(making)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return Err(Error::Invalid {
                what: format!("mount point {} is a dangling link", path.display()),
            });
        }
        Ok(found)
    })
}
