//! `spec`.

use std::io::Write;
use std::path::PathBuf;

use seacow_runtime::cgroup::{Layout, layout};
use seacow_spec::oci::runtime::{
    Capabilities, DeviceRule, IdMapping, Linux, LinuxNamespace, LinuxResources, Mount, NamespaceKind,
    Process, Rlimit, Root, Spec, VERSION,
};

use super::args::Parsed;
use super::error::CliError;

/// Writes a `config.json` to start from.
pub(crate) fn spec(parsed: &Parsed) -> Result<(), CliError> {
    let path = parsed.value("bundle").map_or_else(PathBuf::new, PathBuf::from).join("config.json");
    let mut spec = example();
    if parsed.has("rootless") {
        make_rootless(&mut spec);
    }
    let text = serde_json::to_string_pretty(&spec)
        .map_err(|source| CliError::Json { path: path.clone(), source })?;
    match std::fs::File::create_new(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(CliError::State(format!("file {} exists. Remove it first", path.display())))
        }
        Err(e) => Err(CliError::file("write", path, e)),
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(|e| CliError::file("write", path, e)),
    }
}

/// For a caller who is not root: a user namespace in which the caller is, the host's network, and
/// nothing that only root may do.
fn make_rootless(spec: &mut Spec) {
    let own = |host_id: u32| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    let linux = spec.linux.get_or_insert_with(Linux::default);
    linux.namespaces.retain(|n| n.kind != NamespaceKind::Network);
    linux.namespaces.push(LinuxNamespace { kind: NamespaceKind::User, path: String::new() });
    linux.uid_mappings = own(rustix::process::geteuid().as_raw());
    linux.gid_mappings = own(rustix::process::getegid().as_raw());
    linux.resources = None;
    for mount in &mut spec.mounts {
        // Ids that are not mapped cannot be given to anybody.
        mount.options.retain(|o| !o.starts_with("gid=") && !o.starts_with("uid="));
        if mount.destination == "/sys" {
            // The host's network cannot mount a sysfs of its own.
            mount.kind = "none".into();
            mount.source = "/sys".into();
            mount.options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        }
    }
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
    // Version 1 hierarchies are bound one by one without a namespace, as other runtimes do.
    let unified = matches!(layout(), Ok(Layout::V2 { .. }));
    let kinds = [Pid, Network, Ipc, Uts, Mounts].into_iter().chain(unified.then_some(Cgroup));
    let deny = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
    let linux = Linux {
        resources: Some(LinuxResources { devices: vec![deny], ..LinuxResources::default() }),
        namespaces: kinds.map(|kind| LinuxNamespace { kind, path: String::new() }).collect(),
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
        hostname: super::help::program(),
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
