//! A bind mount whose source lies in another process's mount namespace: `/proc/PID/root/PATH`.
//!
//! The kernel binds only what the caller's own namespace holds. So the parent, which has one thread,
//! enters the other namespace for the moment that it takes to clone the tree.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use seacow_sys::mount;
use seacow_sys::ns::{self, Kinds};
use seacow_sys::rooted::Root;

use crate::error::{Error, Step};

/// Process and path of such a source.
pub(crate) fn of_process(source: &str) -> Option<(i32, &Path)> {
    let (pid, path) = source.strip_prefix("/proc/")?.split_once("/root/")?;
    let path = Path::new(source.get(source.len() - path.len() - 1..)?);
    Some((pid.parse().ok().filter(|pid| *pid > 0)?, path))
}

/// A detached copy of what is mounted there, found below that process's root whatever links its
/// owner made.
pub(crate) fn clone_tree(pid: i32, path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let other = ns::open(pid, Kinds::MOUNT).step(|| format!("open the mount namespace of process {pid}"))?;
    let own = ns::open_own(Kinds::MOUNT).step(|| "open own mount namespace".into())?;
    ns::enter(other.as_fd(), Kinds::MOUNT).step(|| format!("enter the mounts of process {pid}"))?;
    let tree = Root::open(Path::new("/"))
        .and_then(|root| root.locate(path))
        .and_then(|found| mount::clone_tree(found.as_fd(), recursive));
    // Whatever became of it: nothing of ours may be done in the other namespace.
    ns::enter(own.as_fd(), Kinds::MOUNT).step(|| "return to own mounts".into())?;
    tree.step(|| format!("bind {} of process {pid}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        assert_eq!(of_process("/proc/12/root/dev/shm"), Some((12, Path::new("/dev/shm"))));
        for other in ["/proc/self/root/x", "/proc/0/root/x", "/proc/12/roots/x", "/tmp", "/proc/12/root"] {
            assert_eq!(of_process(other), None, "{other}");
        }
    }
}
