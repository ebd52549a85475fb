//! `spec`.

use std::path::PathBuf;

use seacow_spec::oci::runtime::{
    Capabilities, DeviceRule, Linux, LinuxNamespace, LinuxResources, Mount, NamespaceKind, Process, Rlimit,
    Root, Spec, VERSION,
};

use super::args::Parsed;
use super::error::CliError;

/// Writes a `config.json` to start from.
pub(crate) fn spec(parsed: &Parsed) -> Result<(), CliError> {
    if parsed.has("rootless") {
        return Err(CliError::NotImplemented("spec --rootless".into()));
    }
    let path = parsed.value("bundle").map_or_else(PathBuf::new, PathBuf::from).join("config.json");
    if path.exists() {
        return Err(CliError::State(format!("file {} exists. Remove it first", path.display())));
    }
    let text = serde_json::to_string_pretty(&example())
        .map_err(|source| CliError::Json { path: path.clone(), source })?;
    std::fs::write(&path, text).map_err(|e| CliError::file("write", path, e))
}

fn example() -> Spec {
    let caps = || ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"].map(str::to_owned).to_vec();
    let process = Process {
        terminal: true,
        args: vec!["sh".into()],
        env: vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            "TERM=xterm".into(),
        ],
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: caps(),
            effective: caps(),
            permitted: caps(),
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    };
    use NamespaceKind::{Cgroup, Ipc, Mount as Mounts, Network, Pid, Uts};
    let deny = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
    let linux = Linux {
        resources: Some(LinuxResources { devices: vec![deny], ..LinuxResources::default() }),
        namespaces: [Pid, Network, Ipc, Uts, Mounts, Cgroup]
            .map(|kind| LinuxNamespace { kind, path: String::new() })
            .to_vec(),
        masked_paths: [
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ]
        .map(str::to_owned)
        .to_vec(),
        readonly_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            .map(str::to_owned)
            .to_vec(),
        ..Linux::default()
    };
    Spec {
        oci_version: VERSION.into(),
        process: Some(process),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        hostname: "seacow".into(),
        mounts: mounts(),
        linux: Some(linux),
        ..Spec::default()
    }
}

fn mounts() -> Vec<Mount> {
    let rows = [
        ("/proc", "proc", "proc", ""),
        ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
    ];
    rows.map(|(destination, kind, source, options)| Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect(),
        ..Mount::default()
    })
    .to_vec()
}
