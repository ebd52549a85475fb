//! What a container has that clones could not have, as far as its record tells; the shim knows about the
//! process itself.

use std::path::Path;

use seacow_spec::docker::host_config::HostConfig;
use seacow_store::rooted::{self, Root};

use crate::config::{CgroupDriver, Config};
use crate::container::mounts;
use crate::container::record::{MountRecord, Record};
use crate::container::{capabilities, userns};
use crate::network::Mode;

/// The capability to mount file systems.
const MOUNTS: &str = "CAP_SYS_ADMIN";
const SHM: &str = "/dev/shm";

/// What its options say.
pub(super) fn of_record(record: &Record, config: &Config) -> Vec<String> {
    let host = &record.host_config;
    let mut reasons = Vec::new();
    let mut note = |wrong: bool, text: &str| {
        if wrong {
            reasons.push(text.to_owned());
        }
    };
    note(
        !matches!(config.runtimes.find(&host.runtime), Ok(None)),
        "another OCI runtime than seacow's made it",
    );
    note(
        config.cgroup_driver == CgroupDriver::Systemd,
        "systemd makes its cgroups, which clones cannot be born in",
    );
    note(record.network == Mode::Host, "it has the host's network, in which clones would take its ports");
    note(matches!(record.network, Mode::Container(_)), "it lives in another container's network");
    for (what, mode) in [
        ("pid", &host.pid_mode),
        ("IPC", &host.ipc_mode),
        ("UTS", &host.uts_mode),
        ("cgroup", &host.cgroupns_mode),
    ] {
        let shared = mode == "host" || mode.starts_with("container:");
        note(shared, &format!("it shares a {what} namespace ({mode})"));
    }
    note(record.config.tty, "it has a terminal");
    note(userns::remap(record, config).is_some(), "it has a user namespace");
    let may_mount = host.privileged || adds(host).iter().any(|name| name == MOUNTS);
    note(may_mount, "it may mount file systems (CAP_SYS_ADMIN), which clones would not have");
    reasons.extend(record.mounts.iter().filter_map(of_mount));
    reasons
}

fn adds(host: &HostConfig) -> Vec<String> {
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    capabilities::of(&list(&host.cap_add), &list(&host.cap_drop), host.privileged)
}

/// A mount of the user's. What is read-only is shared; what is written to would be by all at once.
fn of_mount(mount: &MountRecord) -> Option<String> {
    let point = &mount.point;
    let at = &point.destination;
    if point.kind == "tmpfs" {
        return None;
    }
    let what = match (point.kind.as_str(), point.name.is_empty()) {
        ("volume", false) => format!("volume {}", point.name),
        (kind, _) => format!("{kind} {}", point.source),
    };
    if mount.filesystem.is_some() || mount.scratch || !mount.lowers.is_empty() {
        return Some(format!("{what} on {at} is a file system that it mounts itself"));
    }
    if let Some(plugin) = mount.plugin() {
        return Some(format!(
            "{what} on {at} is the plug-in {plugin}'s, which has it mounted for this container"
        ));
    }
    if point.rw {
        return Some(format!("{what} on {at} is writable: all clones would write to the same files"));
    }
    let spreads = !matches!(point.propagation.as_str(), "" | "private" | "rprivate");
    spreads.then(|| format!("{what} on {at} passes mounts on ({})", point.propagation))
}

/// File systems in memory that are not empty: clones get empty ones. Looked at in the container.
pub(super) fn of_mounts(record: &Record, pid: i32) -> Vec<String> {
    let tmpfs = record.host_config.tmpfs.iter().flatten().map(|(path, _)| mounts::clean(path));
    let mounted = record.mounts.iter().filter(|mount| mount.point.kind == "tmpfs");
    let mut paths: Vec<String> = tmpfs.chain(mounted.map(|mount| mount.point.destination.clone())).collect();
    if record.mounts.iter().all(|mount| mount.point.destination != SHM) {
        paths.push(SHM.to_owned());
    }
    let Ok(root) = Root::open(Path::new(&format!("/proc/{pid}/root"))) else { return Vec::new() };
    let filled = |path: &String| {
        let dir = root.locate_dir(Path::new(path)).ok()?;
        let names = rooted::list(std::os::fd::AsFd::as_fd(&dir)).ok()?;
        let (first, _) = names.first()?;
        let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
        Some(format!(
            "the tmpfs {path} is not empty ({}{more}), which clones would not have",
            first.to_string_lossy()
        ))
    };
    paths.iter().filter_map(filled).collect()
}
