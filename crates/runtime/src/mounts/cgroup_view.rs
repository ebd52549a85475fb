//! What a container sees of its cgroups at `/sys/fs/cgroup`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use seacow_spec::oci::runtime::Mount;
use seacow_sys::Errno;
use seacow_sys::mount::{self, Attributes, Change, MountFlags, Propagation};

use super::options::Options;
use crate::cgroup::{Cgroups, Hierarchy, Layout};
use crate::error::{Error, Step};

/// How the container comes to its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Its own mounts of the trees, of which its cgroup namespace shows its own part.
    Mounted,
    /// Its cgroup's directories, bound.
    Bound,
    /// It has a cgroup namespace, and may bind what the host has mounted. Of version 1 the directories
    /// are bound, which is the same mount in the end: to mount a hierarchy the kernel walks through all
    /// version 2 cgroups of the machine (`cgroup_lock_and_drain_offline`), a millisecond and a half for
    /// the nine of a container that is one among a thousand.
    Either,
}

/// Mounts it at `at`, a path of ours.
pub(crate) fn place(at: &Path, entry: &Mount, cgroups: &Cgroups, view: View) -> Result<(), Error> {
    let options = Options::parse(&entry.options);
    rustix::fs::mkdir(at, Mode::from(0o755))
        .or_else(|e| if e == Errno::EXIST { Ok(()) } else { Err(e) })
        .step(|| format!("make mount point {}", entry.destination))?;
    match cgroups.layout() {
        Layout::V2 { mount: host } => {
            let what = || format!("mount cgroup2 on {}", entry.destination);
            match view {
                View::Mounted | View::Either => own_tree(at, &options).step(what),
                View::Bound => bind(&host.join(cgroups.path()), at, &options).step(what),
            }
        }
        Layout::V1 { .. } => place_v1(at, &options, cgroups, view),
    }
}

/// The version 2 tree, of which the container's cgroup namespace shows its own part.
fn own_tree(at: &Path, options: &Options) -> Result<(), Errno> {
    let tree = || mount::mount_at("cgroup2", "cgroup", at, options.flags(), "");
    match tree() {
        // In a `/sys` that was lent the host's lies there already, and the kernel puts no file system
        // on itself: something goes between.
        Err(Errno::BUSY) => {
            mount::mount_at("tmpfs", "tmpfs", at, MountFlags::RDONLY, "size=0")?;
            tree()
        }
        mounted => mounted,
    }
}

fn bind(from: &Path, at: &Path, options: &Options) -> Result<(), Errno> {
    mount::attach_at(bound(from, options)?.as_fd(), at)
}

/// A cgroup's directory as a mount that is not attached yet.
pub(crate) fn bound(from: &Path, options: &Options) -> Result<OwnedFd, Errno> {
    let tree = mount::clone_tree_at(from, false)?;
    // A copy of the host's would receive what is mounted there later.
    let propagation = Some(Propagation::Private);
    mount::change(tree.as_fd(), &Change { set: options.set, propagation, ..Change::default() })?;
    Ok(tree)
}

/// Makes the places of version 1 hierarchies in a directory of ours, and returns them with their names there.
pub(crate) fn make_places<'a>(
    dir: BorrowedFd<'_>,
    hierarchies: &'a [Hierarchy],
) -> Result<Vec<(&'a OsStr, &'a Hierarchy)>, Error> {
    let mut places = Vec::new();
    for hierarchy in hierarchies {
        let Some(name) = hierarchy.mount.file_name() else { continue };
        rustix::fs::mkdirat(dir, name, Mode::from(0o755))
            .step(|| format!("make a place for cgroup {}", hierarchy.mount_options()))?;
        // cpu and cpuacct are found by their own names also where one hierarchy has both.
        for controller in hierarchy.controllers.iter().filter(|c| !c.contains('=') && name != c.as_str()) {
            match rustix::fs::symlinkat(name, dir, controller.as_str()) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno).step(|| format!("link cgroup {controller}")),
            }
        }
        places.push((name, hierarchy));
    }
    Ok(places)
}

/// A tmpfs with one directory per hierarchy.
fn place_v1(at: &Path, options: &Options, cgroups: &Cgroups, view: View) -> Result<(), Error> {
    let Layout::V1 { hierarchies, .. } = cgroups.layout() else { return Ok(()) };
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount::mount_at("tmpfs", "tmpfs", at, plain, "mode=755")
        .step(|| "mount the directory of cgroups".into())?;
    let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let places = rustix::fs::open(at, open, Mode::empty()).step(|| "open the directory of cgroups".into())?;
    for (name, hierarchy) in make_places(places.as_fd(), hierarchies)? {
        let dir = at.join(name);
        let which = hierarchy.mount_options();
        let mounted = || mount::mount_at("cgroup", "cgroup", &dir, options.flags(), &which);
        let bound = || bind(&hierarchy.mount.join(cgroups.path()), &dir, options);
        match view {
            View::Mounted => mounted(),
            View::Bound => bound(),
            View::Either => bound().or_else(|errno| match errno {
                // Nobody could make the cgroup; the container is in the caller's.
                Errno::NOENT => mounted(),
                other => Err(other),
            }),
        }
        .step(|| format!("mount cgroup {which}"))?;
    }
    if options.set.contains(Attributes::READ_ONLY) {
        mount::change_at(at, &Change { set: Attributes::READ_ONLY, ..Change::default() })
            .step(|| "make the directory of cgroups read-only".into())?;
    }
    Ok(())
}
