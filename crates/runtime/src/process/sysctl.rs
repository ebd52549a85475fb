//! Kernel settings of the container's namespaces.

use std::collections::BTreeMap;

use seacow_sys::ns::Kinds;

use crate::error::{Error, Step};
use crate::init::namespaces::Plan;

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

/// Writes them through the host's `/proc/sys`, which shows the caller's own namespaces. Refuses
/// what belongs to no namespace that the container has for itself: it would change the host.
pub(crate) fn apply(settings: &BTreeMap<String, String>, plan: &Plan) -> Result<(), Error> {
    for (key, value) in settings {
        // net/ipv4/conf/eth0.100/… keeps its dots when the key is written with slashes.
        let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
        if !permitted(&path.replace('/', "."), plan) || path.split('/').any(|p| p.is_empty() || p == "..") {
            return Err(Error::Invalid {
                what: format!("sysctl {key:?} is not in a separate kernel namespace"),
            });
        }
        std::fs::write(format!("/proc/sys/{path}"), value)
            .step(|| format!("set sysctl {key} to {value:?}"))?;
    }
    Ok(())
}

fn permitted(key: &str, plan: &Plan) -> bool {
    if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        return plan.leaves_host(Kinds::IPC);
    }
    if key.starts_with("net.") {
        return plan.leaves_host(Kinds::NETWORK);
    }
    key == "kernel.domainname" && plan.leaves_host(Kinds::UTS)
}
