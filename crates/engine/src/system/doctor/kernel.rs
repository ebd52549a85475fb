//! What the kernel offers.

use seacow_spec::docker::system::Check;

use super::super::host::{self, Cgroups};
use super::{failed, ok, warning};
use crate::lsm::apparmor;

/// Controllers and what is lost without them.
const CONTROLLERS: [(&str, &str); 4] = [
    ("memory", "--memory"),
    ("pids", "--pids-limit"),
    ("cpu", "--cpus and --cpu-shares"),
    ("cpuset", "--cpuset-cpus"),
];

pub(super) fn cgroups() -> Vec<Check> {
    let name = "cgroups";
    let cgroups = host::cgroups();
    let version = match &cgroups {
        Cgroups::V2 { .. } => ok(name, "cgroup v2 is mounted at /sys/fs/cgroup."),
        Cgroups::V1 { .. } => warning(
            name,
            "cgroup v1 is mounted: everything works, but newer limits (memory.high, io) do not exist there.",
            "Boot with systemd.unified_cgroup_hierarchy=1 for cgroup v2.",
        ),
        Cgroups::Missing => failed(
            name,
            "No cgroup hierarchy is mounted at /sys/fs/cgroup: containers cannot be limited, frozen or counted.",
            "Mount it: mount -t cgroup2 none /sys/fs/cgroup",
        ),
    };
    let mut checks = vec![version];
    for (controller, options) in CONTROLLERS {
        if !cgroups.has(controller) {
            checks.push(warning(
                "cgroup controllers",
                format!("The controller {controller} is not available: {options} cannot be obeyed."),
                format!("Boot without cgroup_disable={controller}, and leave the controller to the kernel's default."),
            ));
        }
    }
    checks
}

pub(super) fn overlay() -> Check {
    let name = "overlay";
    if host::knows_file_system("overlay") {
        return ok(name, "The kernel has overlayfs.");
    }
    failed(name, "The kernel does not know overlayfs.", "Load it: modprobe overlay")
}

pub(super) fn user_namespaces() -> Check {
    let name = "user namespaces";
    if host::sysctl("kernel.apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return warning(
            name,
            "AppArmor keeps unprivileged programs from making user namespaces: sandboxes inside containers fail.",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for the program.",
        );
    }
    let none = |name: &str| host::sysctl(name).as_deref() == Some("0");
    if none("user.max_user_namespaces") || none("kernel.unprivileged_userns_clone") {
        return warning(
            name,
            "User namespaces are switched off for unprivileged programs: sandboxes inside containers fail.",
            "sysctl user.max_user_namespaces=65536 (on Debian also kernel.unprivileged_userns_clone=1)",
        );
    }
    ok(name, "User namespaces can be made.")
}

pub(super) fn mandatory_access(labels: bool) -> Check {
    let name = "mandatory access control";
    match (host::selinux(), host::apparmor()) {
        (Some(_), _) if labels => ok(name, "SELinux is on, and containers are labelled."),
        (Some(true), _) => warning(
            name,
            "SELinux enforces its policy, and containers are not labelled: they run as the daemon does.",
            "Start seacowd with --selinux-enabled; see docs/design/selinux.md.",
        ),
        (Some(false), _) => ok(name, "SELinux is permissive; containers are not labelled."),
        (None, true) => match apparmor::ensure_default() {
            Ok(()) => ok(name, format!("AppArmor confines containers by {}.", apparmor::DEFAULT_PROFILE)),
            Err(why) => warning(
                name,
                format!("AppArmor is on, but containers run without a profile: {why}."),
                "Install apparmor_parser (Debian, Ubuntu: the package apparmor).",
            ),
        },
        (None, false) => ok(name, "Neither SELinux nor AppArmor is on."),
    }
}

pub(super) fn sysctls() -> Vec<Check> {
    let mut checks = Vec::new();
    let low = |name: &str, least: u64| {
        host::sysctl(name).and_then(|value| value.parse::<u64>().ok()).filter(|value| *value < least)
    };
    // Each container with a file watcher takes one; 128 is an old default.
    if let Some(value) = low("fs.inotify.max_user_instances", 512) {
        checks.push(warning(
            "inotify",
            format!(
                "Only {value} inotify instances per user: many containers with file watchers run out of them."
            ),
            "sysctl -w fs.inotify.max_user_instances=8192",
        ));
    }
    if let Some(value) = low("kernel.keys.maxkeys", 1000) {
        checks.push(warning(
            "kernel keys",
            format!("Only {value} keys per user: each container takes one, and starts fail beyond them."),
            "sysctl -w kernel.keys.maxkeys=2000",
        ));
    }
    checks
}
