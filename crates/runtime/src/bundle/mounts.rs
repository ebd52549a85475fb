//! The caller's own mount namespace, with the container's root file system in it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use seacow_spec::oci::runtime::{Linux, Mount};
use seacow_spec::shim::{Create, Rootfs};
use seacow_sys::mount;
use seacow_sys::ns::{self, Kinds};
use seacow_sys::rooted::Root;

use super::Ids;
use crate::error::{Error, Step};
use crate::mounts::stage::Stage;
use crate::mounts::{rootfs, sources};

/// A mount namespace of the caller's own. Mounts of the host still arrive in it, its own do not
/// reach the host.
#[derive(Debug)]
pub struct Mounts {
    stage: Stage,
    dir: PathBuf,
    host: OwnedFd,
}

impl Mounts {
    /// Leaves the present mount namespace for a copy of it, with a small file system on `stage`
    /// (made if missing; it stays empty on the host).
    ///
    /// # Errors
    /// The kernel refuses: without CAP_SYS_ADMIN, or with more than one thread.
    pub fn enter(stage: &Path) -> Result<Self, Error> {
        match rustix::fs::mkdir(stage, Mode::from(0o700)) {
            Ok(()) | Err(seacow_sys::Errno::EXIST) => {}
            Err(errno) => return Err(errno).step(|| format!("make stage {}", stage.display())),
        }
        let host = ns::open_own(Kinds::MOUNT).step(|| "open own mount namespace".into())?;
        ns::unshare(Kinds::MOUNT).step(|| "make a mount namespace".into())?;
        Ok(Self { stage: Stage::open(stage)?, dir: stage.to_owned(), host })
    }

    /// Mounts the root file system, with the maps of `ids`, and makes the working directory where the
    /// image lacks it.
    ///
    /// # Errors
    /// A layer is missing, or the kernel refuses the overlay.
    pub fn root(&self, create: &Create, ids: Option<&Ids>) -> Result<Root, Error> {
        let nothing = Linux::default();
        let linux = create.spec.linux.as_ref().unwrap_or(&nothing);
        if let Some(ids) = ids.filter(|_| create.maps_root) {
            self.open_ways()?;
            // We are nobody there: the working directory is the runtime's to make.
            let tree = ids.mount_root(create, &self.dir)?;
            return rootfs::mount(&self.stage, &create.rootfs, linux, Some(tree));
        }
        let root = rootfs::mount(&self.stage, &create.rootfs, linux, None)?;
        let cwd = create.spec.process.as_ref().map_or("", |process| process.cwd.as_str());
        let writable = matches!(&create.rootfs, Rootfs::Overlay { upper: Some(_), .. });
        if writable && !cwd.is_empty() {
            rootfs::make_cwd(&root, cwd)?;
        }
        Ok(root)
    }

    /// The container's root, nobody here, finds its way through the directories above the stage; what is
    /// in them stays their owner's.
    fn open_ways(&self) -> Result<(), Error> {
        let above = self.dir.parent().into_iter();
        above.chain([self.dir.as_path()]).try_for_each(|dir| {
            rustix::fs::chmod(dir, Mode::from(0o711))
                .step(|| format!("open the way through {}", dir.display()))
        })
    }

    /// Where [`Self::root`] mounts it.
    pub fn root_path(&self) -> PathBuf {
        self.stage.rootfs()
    }

    /// The container's mounts with sources that another runtime can bind. One that shall pass
    /// mounts on to the host is taken in the host's namespace: ours only receives.
    ///
    /// # Errors
    /// A source does not exist.
    pub fn sources(&self, mounts: &[Mount], ids: Option<&Ids>) -> Result<Vec<Mount>, Error> {
        let mut all = mounts.to_vec();
        if let Some(ids) = ids {
            self.map_sources(&mut all, ids)?;
        }
        if !mounts.iter().any(sources::is_shared) {
            return Ok(all);
        }
        let own = ns::open_own(Kinds::MOUNT).step(|| "open own mount namespace".into())?;
        ns::enter(self.host.as_fd(), Kinds::MOUNT).step(|| "return to the host's mounts".into())?;
        let trees = sources::clone_shared(mounts);
        ns::enter(own.as_fd(), Kinds::MOUNT).step(|| "return to own mounts".into())?;
        let shared = all.iter_mut().filter(|mount| sources::is_shared(mount));
        for (number, (mount, tree)) in shared.zip(trees?).enumerate() {
            let at = self.dir.join(format!("shared-{number}"));
            attach(tree, &at)?;
            mount.source = at.to_string_lossy().into_owned();
        }
        Ok(all)
    }

    /// What shall be seen with the container's ids is mounted so here: not every runtime can.
    fn map_sources(&self, mounts: &mut [Mount], ids: &Ids) -> Result<(), Error> {
        for (number, entry) in mounts.iter_mut().enumerate() {
            let Some(tree) = sources::clone_mapped(entry, ids.namespace())? else { continue };
            let at = self.dir.join(format!("mapped-{number}"));
            attach(tree, &at)?;
            entry.source = at.to_string_lossy().into_owned();
            entry.options.retain(|option| option != "idmap" && option != "ridmap");
        }
        Ok(())
    }

    /// Goes back to the host's namespace. The kernel unmounts what was in the other as soon as no
    /// process of the container is left in a copy of it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn leave(self) -> Result<(), Error> {
        ns::enter(self.host.as_fd(), Kinds::MOUNT).step(|| "return to the host's mounts".into())
    }
}

/// Attaches a tree on a file or directory made for it.
fn attach(tree: OwnedFd, at: &Path) -> Result<(), Error> {
    let making = || format!("make {}", at.display());
    let stat = rustix::fs::fstat(&tree).step(making)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
        rustix::fs::mkdir(at, Mode::from(0o700)).step(making)?;
    } else {
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        drop(rustix::fs::open(at, flags, Mode::from(0o600)).step(making)?);
    }
    mount::attach_at(tree.as_fd(), at).step(|| format!("attach {}", at.display()))
}
