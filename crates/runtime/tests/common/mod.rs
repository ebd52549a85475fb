//! A busybox root file system and what the tests share. Needs root and Debian's busybox-static.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod bundle;
pub(crate) mod holder;

use std::path::{Path, PathBuf};

use seacow_spec::oci::runtime::{
    Capabilities, Linux, LinuxNamespace, Mount, NamespaceKind, Process, Root, Spec,
};

/// Why privileged tests cannot run here; printed, because a silent skip is a hole.
pub(crate) fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root");
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("no /bin/busybox (Debian: busybox-static)");
    }
    None
}

/// A directory that is removed at the end, with a root file system in `rootfs`.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("seacow-runtime-").tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "srv"] {
            std::fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "false", "cat", "ls", "id", "env", "pwd", "sleep", "mount", "umount", "stat",
            "touch", "ip", "hostname", "kill", "tty", "test", "echo", "readlink", "mkdir", "head", "grep",
            "wc", "dd", "chroot", "mknod", "ps", "unshare", "setpriv", "sync", "tail",
        ] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n";
        std::fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
        std::fs::write(rootfs.join("etc/group"), "root:x:0:\nweb:x:33:\naudio:x:29:web\nvideo:x:44:\n")
            .unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }
}

pub(crate) fn mount(destination: &str, kind: &str, options: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: kind.into(),
        options: options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect(),
        ..Mount::default()
    }
}

pub(crate) fn kernel_mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "nosuid,noexec,nodev"),
        mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
        mount("/sys/fs/cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
        mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=67108864"),
    ]
}

pub(crate) fn masked() -> Vec<String> {
    let proc = ["acpi", "kcore", "keys", "latency_stats", "timer_list", "sched_debug", "scsi"];
    let mut paths: Vec<String> = proc.iter().map(|p| format!("/proc/{p}")).collect();
    paths.push("/sys/firmware".into());
    paths
}

pub(crate) fn readonly() -> Vec<String> {
    ["bus", "fs", "irq", "sys", "sysrq-trigger"].iter().map(|p| format!("/proc/{p}")).collect()
}

pub(crate) fn namespaces() -> Vec<LinuxNamespace> {
    use NamespaceKind::{Cgroup, Ipc, Mount as Mounts, Network, Pid, Uts};
    [Pid, Network, Ipc, Uts, Mounts, Cgroup].map(|kind| LinuxNamespace { kind, path: String::new() }).to_vec()
}

/// Docker's default capabilities.
pub(crate) fn capabilities() -> Capabilities {
    let names: Vec<String> = seacow_runtime::seccomp::DEFAULT_CAPABILITIES.names().collect();
    Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    }
}

pub(crate) fn process(args: &[&str]) -> Process {
    Process {
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
        cwd: "/".into(),
        capabilities: Some(capabilities()),
        ..Process::default()
    }
}

pub(crate) fn spec(process: Process) -> Spec {
    Spec {
        oci_version: "1.2.0".into(),
        process: Some(process),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        hostname: "seacow-test".into(),
        mounts: Vec::new(),
        linux: Some(Linux {
            namespaces: namespaces(),
            masked_paths: masked(),
            readonly_paths: readonly(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// What a dynamically linked runtime needs to be executed inside: the image brings it, and could
/// bring something else. The test is linked to the same.
pub(crate) fn give_libraries(rootfs: &Path) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    // The interpreter by the name that binaries have for it.
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].map(Path::new);
    for file in mapped.filter(|file| file.to_string_lossy().contains(".so")).chain(loaders) {
        let Ok(below) = file.strip_prefix("/") else { continue };
        let inside = rootfs.join(below);
        if file.exists() && !inside.exists() {
            std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
            std::fs::copy(file, inside).unwrap();
        }
    }
}
