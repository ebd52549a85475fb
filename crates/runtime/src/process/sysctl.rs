//! Kernel settings of the container's namespaces.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use seacow_sys::ns::Kinds;

use crate::error::{Error, Step};
use crate::init::namespaces::Plan;
use crate::validate;

/// Settings of the System V IPC namespace.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Writes them below `proc_sys`, the container's own `/proc/sys`, or else the host's, which shows the
/// caller's own namespaces too: but the kernel remembers there a directory `net` of the same name for
/// every network namespace that ever looked, and compares with all of them.
pub(crate) fn apply(
    settings: &BTreeMap<String, String>,
    plan: &Plan,
    proc_sys: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    for (key, value) in settings {
        let below = below_proc_sys(key, |kind| plan.leaves_host(kind))?;
        let how = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = match proc_sys {
            Some(own) => rustix::fs::openat(own, below, how, Mode::empty()),
            None => rustix::fs::open(Path::new("/proc/sys").join(below), how, Mode::empty()),
        };
        file.map_err(std::io::Error::from)
            .and_then(|file| std::fs::File::from(file).write_all(value.as_bytes()))
            .step(|| format!("set sysctl {key} to {value:?}"))?;
    }
    Ok(())
}

/// The file of a setting, below `/proc/sys`. Refused when it belongs to no namespace that the container has for
/// itself: it would change the host.
pub(crate) fn below_proc_sys(
    key: &str,
    leaves_host: impl Fn(Kinds) -> bool,
) -> Result<PathBuf, validate::Error> {
    // net/ipv4/conf/eth0.100/… keeps its dots when the key is written with slashes.
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let path = path.trim_start_matches('/');
    let refused = |what: String| Err(validate::Error::field(format!("linux.sysctl[{key:?}]"), what));
    if path.split('/').any(|p| p.is_empty() || p == "." || p == "..") || path.contains('\0') {
        return refused("not the name of a setting".into());
    }
    let dotted = path.replace('/', ".");
    if dotted == "kernel.hostname" {
        return refused("sysctl kernel.hostname conflicts with the field hostname".into());
    }
    if permitted(&dotted, leaves_host) {
        Ok(PathBuf::from(path))
    } else {
        refused(format!("sysctl {key:?} is not in a separate kernel namespace"))
    }
}

fn permitted(key: &str, leaves_host: impl Fn(Kinds) -> bool) -> bool {
    if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        return leaves_host(Kinds::IPC);
    }
    if key.starts_with("net.") {
        return leaves_host(Kinds::NETWORK);
    }
    key == "kernel.domainname" && leaves_host(Kinds::UTS)
}
