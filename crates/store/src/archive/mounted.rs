//! A stopped container's root, mounted for a moment.
//!
//! The mounts live in a mount namespace of a thread of its own: whatever happens to the daemon,
//! they are gone with it.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use seacow_spec::shim::{Lower, Rootfs};
use seacow_sys::mount::{self, Attributes, Overlay, Propagation, Upper};
use seacow_sys::ns;
use seacow_sys::rooted::Root;

use super::{ArchiveError, ContainerRoot};
use crate::Store;
use crate::error::At;
use crate::fsutil::ids::Ids;

/// A directory or file of the host that the container sees somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// Not to be written to.
    pub read_only: bool,
}

impl Store {
    /// Mounts a root file system with its binds where nobody else sees it, and calls `work` with
    /// it. Nothing else may have the same writable layer mounted meanwhile.
    ///
    /// # Errors
    /// The root could not be mounted. What `work` answers is passed on as it is.
    pub fn with_mounted<T: Send>(
        &self,
        rootfs: &Rootfs,
        binds: &[Bind],
        work: impl FnOnce(&ContainerRoot) -> T + Send,
    ) -> Result<T, ArchiveError> {
        let mounts = self.shared.layout.mnt();
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("seacow-mounted".into())
                .spawn_scoped(scope, || {
                    let root = mount_all(rootfs, binds, &mounts)?;
                    let worked = work(&root);
                    drop(root);
                    // The namespace goes some time after the thread; who is answered may mount the same
                    // again at once.
                    let _ = mount::unmount_detach(&mounts.join("root"));
                    Ok(worked)
                })
                .map_err(|_| ArchiveError::Thread("no thread could be made"))?;
            thread.join().map_err(|_| ArchiveError::Thread("the thread panicked"))?
        })
    }
}

fn mount_all(rootfs: &Rootfs, binds: &[Bind], mounts: &Path) -> Result<ContainerRoot, ArchiveError> {
    ns::unshare(ns::Kinds::MOUNT).at("leave the mount namespace for", mounts)?;
    mount::make_all(Propagation::Private).at("make mounts private for", mounts)?;
    let top = mounts.join("root");
    // Where this is called while another root is mounted, its copy in this namespace must not outlive it.
    let _ = mount::unmount_detach(&top);
    match rootfs {
        Rootfs::Directory(path) => mount::bind(path, &top, true).at("bind", path)?,
        Rootfs::Overlay { lowers, upper } => {
            let lowers: Vec<PathBuf> =
                lowers.iter().map(|lower| lower_dir(lower, mounts)).collect::<Result<_, _>>()?;
            let overlay = Overlay {
                lowers: &lowers.iter().map(PathBuf::as_path).collect::<Vec<_>>(),
                upper: upper.as_ref().map(|upper| Upper {
                    dir: &upper.upper,
                    work: &upper.work,
                    volatile: upper.volatile,
                    metacopy: upper.metacopy,
                }),
                source: "seacow",
                context: None,
            };
            let mounted = overlay.mount(Attributes::empty())?;
            mount::attach_at(std::os::fd::AsFd::as_fd(&mounted), &top).at("mount on", &top)?;
        }
    }
    let root = Root::open(&top).at("open", &top)?;
    for bind in binds {
        attach(&root, bind)?;
    }
    Ok(ContainerRoot { root, ids: Ids::default() })
}

/// The host's view is mounted first, on a place of its own.
fn lower_dir(lower: &Lower, mounts: &Path) -> Result<PathBuf, ArchiveError> {
    match lower {
        Lower::Dir(path) => Ok(path.clone()),
        Lower::HostView { mask, root } => {
            let place = mounts.join("host");
            let overlay =
                Overlay { lowers: &[mask, root], upper: None, source: "seacow-host", context: None };
            let mounted = overlay.mount(Attributes::READ_ONLY)?;
            mount::attach_at(std::os::fd::AsFd::as_fd(&mounted), &place).at("mount on", &place)?;
            Ok(place)
        }
    }
}

fn attach(root: &Root, bind: &Bind) -> Result<(), ArchiveError> {
    let source = mount::clone_tree_at(&bind.source, true).at("bind", &bind.source)?;
    if bind.read_only {
        let change =
            mount::Change { set: Attributes::READ_ONLY, recursive: true, ..mount::Change::default() };
        mount::change(std::os::fd::AsFd::as_fd(&source), &change).at("make read-only", &bind.source)?;
    }
    let stat = rustix::fs::stat(&bind.source).at("look at", &bind.source)?;
    let target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => root.mkdir_all(&bind.destination, Mode::from_raw_mode(0o755)),
        _ => root.locate(&bind.destination).or_else(|_| {
            let parent = bind.destination.parent().unwrap_or(Path::new("/"));
            root.mkdir_all(parent, Mode::from_raw_mode(0o755))?;
            root.create(&bind.destination, Mode::from_raw_mode(0o644))
        }),
    };
    let target = target.at("find the mount point", &bind.destination)?;
    mount::attach(std::os::fd::AsFd::as_fd(&source), std::os::fd::AsFd::as_fd(&target))
        .at("mount on", &bind.destination)?;
    Ok(())
}
