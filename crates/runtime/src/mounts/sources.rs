//! What init cannot open for itself, opened by its parent: the sources of some bind mounts, and in
//! a user namespace, whose root may walk no path of the host, of all of them and the root's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use seacow_spec::oci::runtime::{Linux, Mount};
use seacow_spec::shim::Create;
use seacow_sys::mount::{self, Attributes, Change};
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::unix;

use super::options::{Bind, Options};
use super::{borrow, mapped, place, rootfs};
use crate::error::{Error, Step};
use crate::init::handle::{Child, out_of_order};
use crate::init::{foreign, idmaps};
use crate::validate;
use crate::wire::{self, FromChild};

/// Whether the parent opens the source of this mount. `all` of a user namespace.
pub(crate) fn is_given(entry: &Mount, all: bool) -> bool {
    let options = Options::parse(&entry.options);
    let bind = options.bind.is_some() || entry.kind == "bind";
    bind && (all || is_foreign(entry, &options) || is_mapped(entry, &options))
}

/// Whether a bind mount's source is not in the container's mount namespace: it shall pass mounts on
/// to the host, of which the container's copy only receives, or belongs to another process.
pub(crate) fn is_shared(entry: &Mount) -> bool {
    let options = Options::parse(&entry.options);
    options.bind.is_some() && is_foreign(entry, &options)
}

/// The trees of those, taken where they are.
pub(crate) fn clone_shared(mounts: &[Mount]) -> Result<Vec<OwnedFd>, Error> {
    mounts
        .iter()
        .filter(|entry| is_shared(entry))
        .map(|entry| clone_source(entry, &Options::parse(&entry.options)))
        .collect()
}

fn clone_source(entry: &Mount, options: &Options) -> Result<OwnedFd, Error> {
    match borrow::of_process(&entry.source) {
        Some((pid, path)) => borrow::clone_tree(pid, path, options.bind == Some(Bind::Recursive)),
        None => place::clone_source(entry, options),
    }
}

/// The tree of a mount that asks for the ids of the container's user namespace, with these.
pub(crate) fn clone_mapped(entry: &Mount, ids: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
    let options = Options::parse(&entry.options);
    let Some(how) = options.id_map.filter(|_| options.bind.is_some()) else { return Ok(None) };
    let tree = clone_source(entry, &options)?;
    map_ids(&tree, ids, how, entry)?;
    Ok(Some(tree))
}

fn map_ids(tree: &OwnedFd, ids: BorrowedFd<'_>, how: Bind, entry: &Mount) -> Result<(), Error> {
    let how = Change {
        set: Attributes::IDMAP,
        user_namespace: Some(ids),
        recursive: how == Bind::Recursive,
        ..Change::default()
    };
    mount::change(tree.as_fd(), &how).step(|| format!("map ids of mount {}", entry.destination))
}

fn is_foreign(entry: &Mount, options: &Options) -> bool {
    matches!(options.propagation, Some((mount::Propagation::Shared, _)))
        || borrow::of_process(&entry.source).is_some()
}

fn is_mapped(entry: &Mount, options: &Options) -> bool {
    options.id_map.is_some() || !entry.uid_mappings.is_empty() || !entry.gid_mappings.is_empty()
}

/// Init, as far as its mounts are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) pid: i32,
    /// Set for an init that can open nothing itself: its mount namespace, in which the sources are
    /// opened so that what the host has locked stays locked.
    pub(crate) needs_all: Option<BorrowedFd<'a>>,
    /// An empty directory of the host that only this container uses.
    pub(crate) stage: &'a Path,
}

/// Opens what [`is_given`], in order; before them the root, when init needs all.
pub(crate) fn open(create: &Create, owner: Owner<'_>) -> Result<Vec<OwnedFd>, Error> {
    let all = owner.needs_all.is_some();
    let mut given = Vec::new();
    for (index, entry) in create.spec.mounts.iter().enumerate().filter(|(_, m)| is_given(m, all)) {
        let options = Options::parse(&entry.options);
        let ids = if is_mapped(entry, &options) { Some(ids_of(index, entry, owner.pid)?) } else { None };
        given.push(Source { entry, options, ids });
    }
    match owner.needs_all {
        None => given.iter().map(Source::open).collect(),
        Some(namespace) => open_inside(create, &given, owner, namespace),
    }
}

/// The user namespace whose maps a mount gets.
fn ids_of(index: usize, entry: &Mount, pid: i32) -> Result<OwnedFd, Error> {
    if entry.uid_mappings.is_empty() && entry.gid_mappings.is_empty() {
        let own = ns::open_own(Kinds::USER).step(|| "open own user namespace".into())?;
        let of_init = ns::open(pid, Kinds::USER).step(|| "open the container's user namespace".into())?;
        if ns::same(&own, &of_init).step(|| "compare user namespaces".into())? {
            let path = format!("mounts[{index}].options");
            let what = "idmap without mappings needs a user namespace";
            return Err(validate::Error::field(path, what).into());
        }
        return Ok(of_init);
    }
    idmaps::namespace(&entry.uid_mappings, &entry.gid_mappings)
}

struct Source<'a> {
    entry: &'a Mount,
    options: Options,
    ids: Option<OwnedFd>,
}

impl Source<'_> {
    fn open(&self) -> Result<OwnedFd, Error> {
        let tree = clone_source(self.entry, &self.options)?;
        if let Some(ids) = &self.ids {
            map_ids(&tree, ids.as_fd(), self.options.id_map.unwrap_or(Bind::Single), self.entry)?;
        }
        Ok(tree)
    }
}

/// The root with the ids of init's user namespace.
fn mapped_root(create: &Create, owner: Owner<'_>) -> Result<OwnedFd, Error> {
    let ids = ns::open(owner.pid, Kinds::USER).step(|| "open the container's user namespace".into())?;
    let root = foreign::owner(owner.pid)?.ok_or_else(|| Error::Invalid {
        what: "a user namespace without ids for a mapped root file system".into(),
    })?;
    let label = create.spec.linux.as_ref().map(|linux| linux.mount_label.as_str());
    let context = label.filter(|label| !label.is_empty());
    mapped::root(&create.rootfs, mapped::Viewer { ids: ids.as_fd(), root, stage: owner.stage, context })
}

/// Lets a helper with our rights open them in that mount namespace.
fn open_inside(
    create: &Create,
    given: &[Source<'_>],
    owner: Owner<'_>,
    namespace: BorrowedFd<'_>,
) -> Result<Vec<OwnedFd>, Error> {
    let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
    match process::clone3(&Clone::default()).step(|| "clone a helper".into())? {
        Cloned::Child => {
            drop(ours);
            let told = send_all(create, given, owner, namespace, theirs.as_fd())
                .or_else(|error| wire::send_failed(theirs.as_fd(), &error.report()));
            process::exit_now(i32::from(told.is_err()));
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let helper = Child::new(pid, pidfd, ours)?;
            let mut trees = Vec::with_capacity(1 + given.len());
            while trees.len() <= given.len() {
                match helper.answer()? {
                    Some(FromChild::Tree(Some(tree))) => trees.push(tree),
                    Some(_) => return Err(out_of_order()),
                    None => return Err(helper.lost("open the sources of mounts")),
                }
            }
            Ok(trees)
        }
    }
}

fn send_all(
    create: &Create,
    given: &[Source<'_>],
    owner: Owner<'_>,
    namespace: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
) -> Result<(), Error> {
    process::die_with_parent().step(|| "tie the helper to the shim's life".into())?;
    let mapped = if create.maps_root { Some(mapped_root(create, owner)?) } else { None };
    ns::enter(namespace, Kinds::MOUNT).step(|| "join the container's mount namespace".into())?;
    let nothing = Linux::default();
    let root = match mapped {
        Some(root) => root,
        None => rootfs::open(&create.rootfs, create.spec.linux.as_ref().unwrap_or(&nothing))?,
    };
    wire::send_tree(socket, root.as_fd())?;
    for source in given {
        wire::send_tree(socket, source.open()?.as_fd())?;
    }
    Ok(())
}
