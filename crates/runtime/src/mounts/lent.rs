//! Kernel file systems that the kernel does not give to a user namespace: the host's own, lent.

use std::os::fd::AsFd;
use std::path::Path;

use seacow_spec::oci::runtime::Mount;
use seacow_sys::Errno;
use seacow_sys::mount::{self, Change};

use super::options::Options;

/// A second try at a kernel file system at `at`, after `errno`.
pub(crate) fn instead(errno: Errno, entry: &Mount, at: &Path, options: &Options) -> Result<(), Errno> {
    match (entry.kind.as_str(), errno) {
        // With the pid, network or IPC namespace of somebody else they cannot be mounted anew.
        ("proc", Errno::PERM) => bind(Path::new("/proc"), at, options),
        ("sysfs", Errno::PERM) => bind(Path::new("/sys"), at, options),
        ("mqueue", Errno::PERM) => match bind(Path::new("/dev/mqueue"), at, options) {
            // Whose IPC namespace it shares has none mounted either.
            Err(Errno::NOENT) => Ok(()),
            bound => bound,
        },
        // A group of terminals that the user namespace does not have.
        ("devpts", Errno::INVAL) if has_group(&options.data) => {
            let rest: Vec<&str> = options.data.split(',').filter(|o| !has_group(o)).collect();
            mount::mount_at("devpts", "devpts", at, options.flags(), &rest.join(","))
        }
        _ => Err(errno),
    }
}

fn has_group(data: &str) -> bool {
    data.split(',').any(|option| option.starts_with("gid="))
}

fn bind(from: &Path, at: &Path, options: &Options) -> Result<(), Errno> {
    let tree = mount::clone_tree_at(from, true)?;
    // A copy of the host's receives what is mounted there later.
    let private =
        Change { propagation: Some(mount::Propagation::Private), recursive: true, ..Change::default() };
    mount::change(tree.as_fd(), &private)?;
    mount::change(tree.as_fd(), &Change { set: options.set, ..Change::default() })?;
    mount::attach_at(tree.as_fd(), at)
}
