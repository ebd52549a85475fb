//! The root file system and everything mounted into it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use seacow_spec::oci::runtime::{Linux, Mount};
use seacow_spec::shim::{Lower, Rootfs};
use seacow_sys::mount::{self, Attributes, Overlay, Upper};
use seacow_sys::rooted::Root;

use super::stage::Stage;
use super::{place, sources};
use crate::error::{Error, Step};
use crate::validate::linux as checked;

/// Mounts the root file system on the stage and opens it. `given` is what the parent opened for an
/// init that cannot.
pub(crate) fn mount(
    stage: &Stage,
    rootfs: &Rootfs,
    linux: &Linux,
    given: Option<OwnedFd>,
) -> Result<Root, Error> {
    let detached = match given {
        Some(detached) => detached,
        None => detached(rootfs, linux, Some(&stage.host_view()))?,
    };
    let at = place_of(stage, rootfs);
    mount::attach_at(detached.as_fd(), &at)
        .step(|| format!("attach root file system at {}", at.display()))?;
    Root::open(&at).step(|| "open root file system".into())
}

/// The root file system as a detached mount, for an init that has no stage yet to put views on.
pub(crate) fn open(rootfs: &Rootfs, linux: &Linux) -> Result<OwnedFd, Error> {
    detached(rootfs, linux, None)
}

/// The root file system as a detached mount. A view of the host is attached at `view`, a path of a mount
/// namespace that is the caller's alone, and may go from there when this is done.
pub(crate) fn detached(rootfs: &Rootfs, linux: &Linux, view: Option<&Path>) -> Result<OwnedFd, Error> {
    match rootfs {
        Rootfs::Directory(dir) => directory(dir, keeps_master(linux)?),
        Rootfs::Overlay { lowers, upper } => {
            let lowers = lower_dirs(view, lowers)?;
            let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
            if let ([only], None) = (lowers.as_slice(), upper) {
                // An overlay of one read-only layer is the layer, read-only.
                let tree = directory(only, None)?;
                let how = mount::Change { set: Attributes::READ_ONLY, ..mount::Change::default() };
                mount::change(tree.as_fd(), &how).step(|| format!("make {} read-only", only.display()))?;
                return Ok(tree);
            }
            let upper = upper.as_ref().map(|u| Upper {
                dir: &u.upper,
                work: &u.work,
                volatile: u.volatile,
                metacopy: u.metacopy,
            });
            let context = Some(linux.mount_label.as_str()).filter(|label| !label.is_empty());
            Ok(Overlay { lowers: &lowers, upper, source: "overlay", context }.mount(Attributes::empty())?)
        }
    }
}

/// Where the root is mounted until it is entered. A bundle's directory stays where it is, also for
/// hooks that come into this mount namespace to add to it; unless that would cover the stage.
fn place_of(stage: &Stage, rootfs: &Rootfs) -> PathBuf {
    match rootfs {
        // In a user namespace nobody may walk there.
        Rootfs::Directory(_) if stage.is_here() => stage.rootfs(),
        Rootfs::Directory(dir) => match dir.canonicalize() {
            Ok(dir) if !stage.rootfs().starts_with(&dir) => dir,
            Ok(_) | Err(_) => stage.rootfs(),
        },
        Rootfs::Overlay { .. } => stage.rootfs(),
    }
}

/// A root that is asked to be a slave goes on receiving the host's mounts; `Some` says whether the
/// mounts below it do too. Our own namespace is a slave of the host's already.
fn keeps_master(linux: &Linux) -> Result<Option<bool>, Error> {
    Ok(match checked::propagation(&linux.rootfs_propagation)? {
        Some((mount::Propagation::Slave, recursive)) => Some(recursive),
        Some(_) | None => None,
    })
}

/// A directory as a mount that passes nothing on, and receives only what `slave` says.
fn directory(dir: &Path, slave: Option<bool>) -> Result<OwnedFd, Error> {
    let tree = mount::clone_tree_at(dir, true).step(|| format!("bind root directory {}", dir.display()))?;
    let change = |propagation, recursive| {
        let how = mount::Change { propagation: Some(propagation), recursive, ..mount::Change::default() };
        mount::change(tree.as_fd(), &how).step(|| format!("detach root directory {}", dir.display()))
    };
    match slave {
        None => change(mount::Propagation::Private, true)?,
        Some(recursive) => change(mount::Propagation::Slave, recursive)?,
    }
    Ok(tree)
}

/// Directories of the layers; the view of the host, if there is one, is mounted first.
fn lower_dirs(at: Option<&Path>, lowers: &[Lower]) -> Result<Vec<PathBuf>, Error> {
    let mut dirs = Vec::with_capacity(lowers.len());
    for lower in lowers {
        match lower {
            Lower::Dir(dir) => dirs.push(dir.clone()),
            Lower::HostView { mask, root } => {
                let at = at.ok_or_else(|| Error::NotImplemented {
                    what: "a view of the host in a user namespace".into(),
                })?;
                let view = view_of_host(mask, root)?;
                if dirs.iter().any(|dir| dir == at) {
                    return Err(Error::Invalid { what: "two views of the host in one root".into() });
                }
                mount::attach_at(view.as_fd(), at).step(|| "attach the view of the host".into())?;
                dirs.push(at.to_owned());
            }
        }
    }
    if dirs.is_empty() {
        return Err(Error::Invalid { what: "a root file system without layers".into() });
    }
    Ok(dirs)
}

/// What the host's root looks like without what its mask hides, as a detached mount.
pub(crate) fn view_of_host(mask: &Path, root: &Path) -> Result<OwnedFd, Error> {
    let layers = [mask, root];
    let view = Overlay { lowers: &layers, upper: None, source: "seacow-host", context: None };
    Ok(view.mount(Attributes::READ_ONLY)?)
}

/// Places the remaining mounts in order. `given` has the sources that the parent opened
/// ([`sources::is_given`]), of all of them where it says `all`.
pub(crate) fn place_all(root: &Root, mounts: &[Mount], given: Vec<OwnedFd>, all: bool) -> Result<(), Error> {
    let mut given = given.into_iter();
    for entry in mounts {
        let tree = if sources::is_given(entry, all) { given.next() } else { None };
        place::place(root, entry, tree)?;
    }
    Ok(())
}

/// Takes the host's kernel file systems out of the way of a container that does not pivot: they stay
/// in its mount namespace, and a whole `/proc` among them would let its processes mount another one
/// without masks.
pub(crate) fn hide_bare_kernel_mounts(root: BorrowedFd<'_>) -> Result<(), Error> {
    let own =
        rustix::fs::readlink(place::fd_path(root), Vec::new()).step(|| "find the root's path".into())?;
    let own = PathBuf::from(std::ffi::OsString::from_vec(own.into_bytes()));
    let table =
        std::fs::read_to_string("/proc/self/mountinfo").step(|| "read /proc/self/mountinfo".into())?;
    let bare = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let kernel = matches!(after.split(' ').next()?, "proc" | "sysfs");
        let path = crate::cgroup::unescape(before.split(' ').nth(4)?);
        (kernel && !Path::new(&path).starts_with(&own)).then(|| PathBuf::from(path))
    };
    let found: Vec<PathBuf> = table.lines().filter_map(bare).collect();
    for path in found.iter().rev() {
        // Busy or locked: then nobody shall see it.
        if mount::unmount_detach(path).is_err() {
            mount::mount_at("tmpfs", "tmpfs", path, mount::MountFlags::RDONLY, "size=0")
                .step(|| format!("cover {}", path.display()))?;
        }
    }
    Ok(())
}

/// The working directory, made when the image does not have it, as Docker does.
pub(crate) fn make_cwd(root: &Root, cwd: &str) -> Result<(), Error> {
    root.mkdir_all(Path::new(cwd), Mode::from(0o755)).map(drop).step(|| format!("mkdir {cwd}"))
}
