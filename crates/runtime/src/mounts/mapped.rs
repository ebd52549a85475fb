//! The root of a container in a user namespace, shown with its ids.
//!
//! On the disk everything has the ids that the container itself sees, so that layers are shared by
//! containers with any maps, and what a container leaves behind is right without being translated.
//! An overlay cannot be id-mapped, its layers can (Linux 5.19): each directory is covered by a mapped
//! mount of itself, in a mount namespace that only lives until the overlay has its own copies of those
//! mounts (before 6.15 it takes no mounts that are attached nowhere).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use seacow_spec::shim::{Lower, OverlayUpper, Rootfs};
use seacow_sys::cred;
use seacow_sys::mount::{self, Attributes, Change, Overlay, Propagation, Upper};
use seacow_sys::ns::{self, Kinds};

use crate::error::{Error, Step};

/// Who sees the layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer<'a> {
    /// The user namespace.
    pub(crate) ids: BorrowedFd<'a>,
    /// Its root, as the host knows him.
    pub(crate) root: (u32, u32),
    /// An empty directory of the host that only this container uses.
    pub(crate) stage: &'a Path,
    /// SELinux label of the files.
    pub(crate) context: Option<&'a str>,
}

/// Mounts a root file system, detached. Leaves the caller in a mount namespace of its own, and with the
/// container's root as the owner of files it makes.
pub(crate) fn root(rootfs: &Rootfs, viewer: Viewer<'_>) -> Result<OwnedFd, Error> {
    ns::unshare(Kinds::MOUNT).step(|| "leave the host's mount namespace".into())?;
    mount::make_all(Propagation::Private).step(|| "detach from the host's mounts".into())?;
    match rootfs {
        Rootfs::Directory(dir) => mapped(dir, Attributes::empty(), viewer),
        Rootfs::Overlay { lowers, upper } => overlay(lowers, upper.as_ref(), viewer),
    }
}

fn overlay(lowers: &[Lower], upper: Option<&OverlayUpper>, viewer: Viewer<'_>) -> Result<OwnedFd, Error> {
    let mut dirs = Vec::with_capacity(lowers.len());
    for lower in lowers {
        dirs.push(match lower {
            Lower::Dir(dir) => cover(dir, dir, viewer)?,
            Lower::HostView { mask, root } => host_view(mask, root, viewer)?,
        });
    }
    let dirs: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
    let Some(upper) = upper else {
        if let [only] = dirs.as_slice() {
            // An overlay of one read-only layer is the layer, read-only.
            return mapped(only, Attributes::READ_ONLY, viewer);
        }
        let overlay = Overlay { lowers: &dirs, upper: None, source: "overlay", context: viewer.context };
        return Ok(overlay.mount(Attributes::empty())?);
    };
    // Both directories have to be on one mount.
    let parent = upper.upper.parent().filter(|parent| upper.work.parent() == Some(parent));
    let parent = parent.ok_or_else(|| Error::Invalid {
        what: format!("{} and {} are not neighbours", upper.upper.display(), upper.work.display()),
    })?;
    cover(parent, parent, viewer)?;
    // The overlay works with the rights of whoever mounts it, and an owner without a place in the map
    // can make no files.
    let (uid, gid) = viewer.root;
    cred::own_files_as(uid, gid).step(|| "make files as the container's root".into())?;
    let upper =
        Upper { dir: &upper.upper, work: &upper.work, volatile: upper.volatile, metacopy: upper.metacopy };
    let overlay = Overlay { lowers: &dirs, upper: Some(upper), source: "overlay", context: viewer.context };
    Ok(overlay.mount(Attributes::empty())?)
}

/// The host's own root below a mask is an overlay itself, of mapped layers.
fn host_view(mask: &Path, root: &Path, viewer: Viewer<'_>) -> Result<PathBuf, Error> {
    let mask = cover(mask, mask, viewer)?;
    let below = cover(root, viewer.stage, viewer)?;
    let overlay = Overlay { lowers: &[&mask, &below], upper: None, source: "seacow-host", context: None };
    let view = overlay.mount(Attributes::READ_ONLY)?;
    mount::attach_at(view.as_fd(), viewer.stage).step(|| "attach the view of the host".into())?;
    Ok(viewer.stage.to_owned())
}

/// Puts a mapped mount of a directory on a place, and gives the place.
fn cover(dir: &Path, place: &Path, viewer: Viewer<'_>) -> Result<PathBuf, Error> {
    let tree = mapped(dir, Attributes::empty(), viewer)?;
    mount::attach_at(tree.as_fd(), place).step(|| format!("cover {} by its mapped self", place.display()))?;
    Ok(place.to_owned())
}

fn mapped(dir: &Path, more: Attributes, viewer: Viewer<'_>) -> Result<OwnedFd, Error> {
    let tree = mount::clone_tree_at(dir, false).step(|| format!("bind layer {}", dir.display()))?;
    let how = Change { set: Attributes::IDMAP | more, user_namespace: Some(viewer.ids), ..Change::default() };
    mount::change(tree.as_fd(), &how)
        .step(|| format!("map the ids of {}: its file system has to be able to", dir.display()))?;
    Ok(tree)
}
