//! A user namespace that is made, or found, before the container.
//!
//! Runtimes make one themselves when told to; but the root file system and volumes have the
//! container's own ids on the disk and are mounted with the namespace's maps before the runtime is
//! asked for anything. So it is made here, and named to the runtime by its path. Somebody's that shall
//! be joined is held here likewise, and outlives him until the container is made.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use seacow_spec::oci::runtime::{IdMapping, NamespaceKind};
use seacow_spec::shim::{Create, Prepare};
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::unix;

use super::UserNamespace;
use crate::error::{Error, Step};
use crate::init::handle::{Child, out_of_order};
use crate::init::idmaps;
use crate::init::namespaces::open;
use crate::mounts::mapped::{self, Viewer};
use crate::validate::maps;
use crate::wire::{self, FromChild};

/// A user namespace, held by descriptor.
#[derive(Debug)]
pub struct Ids {
    user: OwnedFd,
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
    /// Its root, as the host knows him.
    root: (u32, u32),
}

impl Ids {
    /// The user namespace that a container gets for itself or joins; `None` where it has the host's
    /// ids.
    ///
    /// # Errors
    /// The kernel refuses, or what shall be joined is not there or has no root.
    pub fn of(prepare: &Prepare) -> Result<Option<Self>, Error> {
        let mut namespaces = prepare.namespaces.iter().enumerate();
        let Some((index, wanted)) = namespaces.find(|(_, ns)| ns.kind == NamespaceKind::User) else {
            return Ok(None);
        };
        let settings = &prepare.settings;
        let (user, uids, gids) = if wanted.path.is_empty() {
            let user = idmaps::namespace(&settings.uid_mappings, &settings.gid_mappings)?;
            (user, settings.uid_mappings.clone(), settings.gid_mappings.clone())
        } else {
            let Some(user) = open(index, wanted, Kinds::USER)? else { return Ok(None) };
            let (uids, gids) = idmaps::of(user.as_fd())?;
            (user, uids, gids)
        };
        let root = maps::to_host(&uids, 0).zip(maps::to_host(&gids, 0));
        let root = root.ok_or_else(|| Error::Invalid { what: "a user namespace without a root".into() })?;
        Ok(Some(Self { user, uids, gids, root }))
    }

    /// What the runtime is told of it, valid for as long as this value lives.
    pub fn for_runtime(&self) -> UserNamespace {
        UserNamespace {
            // Not `/proc/<pid>/`: runc since 1.1.13 takes such a pid for one that lives in the namespace,
            // whatever follows, and compares with its maps.
            path: format!("/proc/./{}/fd/{}", process::own_pid(), self.user.as_raw_fd()),
            uid_mappings: self.uids.clone(),
            gid_mappings: self.gids.clone(),
        }
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.user.as_fd()
    }

    /// A network namespace that belongs to it: whoever owns it may mount `/sys` for it.
    pub(super) fn network(&self) -> Result<OwnedFd, Error> {
        let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
        match process::clone3(&Clone::default()).step(|| "clone a helper".into())? {
            Cloned::Child => {
                drop(ours);
                let told = self
                    .become_owner_of_network()
                    .and_then(|network| wire::send_tree(theirs.as_fd(), network.as_fd()))
                    .or_else(|error| wire::send_failed(theirs.as_fd(), &error.report()));
                process::exit_now(i32::from(told.is_err()));
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                descriptor_of(&Child::new(pid, pidfd, ours)?, "make a network namespace")
            }
        }
    }

    fn become_owner_of_network(&self) -> Result<OwnedFd, Error> {
        process::die_with_parent().step(|| "tie the helper to the shim's life".into())?;
        ns::enter(self.user.as_fd(), Kinds::USER).step(|| "join the user namespace".into())?;
        ns::unshare(Kinds::NETWORK).step(|| "make a network namespace".into())?;
        ns::open_own(Kinds::NETWORK).step(|| "open the new network namespace".into())
    }

    /// The root file system with its maps, as a detached mount. `stage` is an empty directory of the
    /// host that only this container uses. By a helper: whoever mounts it makes files as the
    /// container's root from then on.
    pub(super) fn mount_root(&self, create: &Create, stage: &Path) -> Result<OwnedFd, Error> {
        let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
        match process::clone3(&Clone::default()).step(|| "clone a helper".into())? {
            Cloned::Child => {
                drop(ours);
                let label = create.spec.linux.as_ref().map(|linux| linux.mount_label.as_str());
                let context = label.filter(|label| !label.is_empty());
                let viewer = Viewer { ids: self.user.as_fd(), root: self.root, stage, context };
                let told = process::die_with_parent()
                    .step(|| "tie the helper to the shim's life".into())
                    .and_then(|()| mapped::root(&create.rootfs, viewer))
                    .and_then(|root| wire::send_tree(theirs.as_fd(), root.as_fd()))
                    .or_else(|error| wire::send_failed(theirs.as_fd(), &error.report()));
                process::exit_now(i32::from(told.is_err()));
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                descriptor_of(&Child::new(pid, pidfd, ours)?, "mount the root file system")
            }
        }
    }
}

fn descriptor_of(helper: &Child, doing: &'static str) -> Result<OwnedFd, Error> {
    match helper.answer()? {
        Some(FromChild::Tree(Some(descriptor))) => Ok(descriptor),
        Some(_) => Err(out_of_order()),
        None => Err(helper.lost(doing)),
    }
}
