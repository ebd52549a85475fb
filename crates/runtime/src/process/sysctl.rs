//! Kernel settings of the container's namespaces.

use std::collections::BTreeMap;
use std::path::PathBuf;

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

/// Writes them through the host's `/proc/sys`, which shows the caller's own namespaces.
pub(crate) fn apply(settings: &BTreeMap<String, String>, plan: &Plan) -> Result<(), Error> {
    for (key, value) in settings {
        let file = file_of(key, |kind| plan.leaves_host(kind))?;
        std::fs::write(file, value).step(|| format!("set sysctl {key} to {value:?}"))?;
    }
    Ok(())
}

/// The file of a setting. Refused when it belongs to no namespace that the container has for
/// itself: it would change the host.
pub(crate) fn file_of(key: &str, leaves_host: impl Fn(Kinds) -> bool) -> Result<PathBuf, validate::Error> {
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
        Ok(PathBuf::from("/proc/sys").join(path))
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
