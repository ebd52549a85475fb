//! Root file systems: what is written, hidden and read-only.

use std::path::Path;

use crate::bench::Bench;
use crate::common::mount;
use seacow_spec::oci::runtime::Rlimit;
use seacow_spec::shim::{Lower, Rootfs};

pub(crate) fn overlay(bench: &mut Bench) {
    let order = bench.sh("echo hello; echo changed > /etc/passwd; echo new > /new; exit 7");
    let done = bench.run(&order);
    assert_eq!((done.code, done.output.as_str()), (7, "hello\n"));
    let rootfs = bench.fixture.rootfs();
    assert!(!rootfs.join("new").exists());
    assert!(std::fs::read_to_string(rootfs.join("etc/passwd")).unwrap().starts_with("root"));
    assert_eq!(std::fs::read_to_string(bench.fixture.path().join("1/upper/new")).unwrap(), "new\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("seacow-runtime-"), "a mount leaked into the host: {mounts}");
}

pub(crate) fn masks(bench: &mut Bench) {
    assert_eq!(bench.output("cat /proc/keys /proc/timer_list | wc -c"), "0");
    assert_eq!(bench.output("ls -A /sys/firmware | wc -l"), "0");
    assert_eq!(bench.output("stat -c %t:%T /proc/keys"), "1:3");
    for path in
        ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_seqnum", "/sys/firmware/x"]
    {
        let done = bench.sh(&format!("echo x > {path}"));
        let done = bench.run(&done);
        assert_ne!(done.code, 0, "{path} was writable");
    }
    let done = bench.sh("touch /sys/fs/cgroup/memory/x || touch /sys/fs/cgroup/x || mkdir /sys/fs/cgroup/y");
    assert_ne!(bench.run(&done).code, 0);
    let order = bench.sh("mount -o remount,rw /proc/sys");
    assert_ne!(bench.run(&order).code, 0);
}

pub(crate) fn directories(bench: &mut Bench) {
    let mut order = bench.sh("pwd");
    order.create.spec.process.as_mut().unwrap().cwd = "/made/for/it".into();
    assert_eq!(bench.run(&order).output, "/made/for/it\n");
    // CVE-2024-21626: a directory of the host that is open in the runtime.
    let leaked = rustix::fs::open("/etc", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for number in 3..64 {
        let mut order = bench.sh("ls /proc/self/cwd/..");
        order.create.spec.process.as_mut().unwrap().cwd = format!("/proc/self/fd/{number}");
        let done = bench.try_run(&order);
        assert!(done.is_err(), "descriptor {number} was entered: {}", done.unwrap().output);
    }
    assert_eq!(bench.output("ls /proc/self/fd | wc -l"), "4", "a leaked descriptor reached the container");
    drop(leaked);
}

pub(crate) fn readonly_root(bench: &mut Bench) {
    let mut order = bench.sh(
        "touch /x; touch /tmp/x; touch /dev/shm/y && echo shm; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
         cat /proc/sys/kernel/msgmax; ulimit -n; cat /proc/self/oom_score_adj; umask",
    );
    let spec = &mut order.create.spec;
    spec.root.as_mut().unwrap().readonly = true;
    spec.mounts = vec![mount("/tmp", "tmpfs", "mode=1777")];
    let linux = spec.linux.as_mut().unwrap();
    linux.sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    linux.sysctl.insert("kernel.msgmax".into(), "9999".into());
    let process = spec.process.as_mut().unwrap();
    process.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 777, soft: 333 }];
    process.oom_score_adj = Some(123);
    process.user.umask = Some(0o027);
    let done = bench.run(&order);
    assert!(
        done.output.starts_with("touch: /x: Read-only file system\nshm\n0\n9999\n333\n123\n0027"),
        "{}",
        done.output
    );
    let mut order = bench.sh("true");
    order.create.spec.process.as_mut().unwrap().rlimits =
        vec![Rlimit { kind: "RLIMIT_NOSUCH".into(), hard: 1, soft: 1 }];
    assert!(bench.try_run(&order).err().unwrap().report().to_string().contains("RLIMIT_NOSUCH"));
}

pub(crate) fn host_view(bench: &mut Bench) {
    // The mask lies on a file system other than the root's.
    let tmp = tempfile::Builder::new().prefix("seacow-mask-").tempdir_in("/dev/shm").unwrap();
    let mask = tmp.path().join("mask");
    std::fs::create_dir_all(mask.join("tmp")).unwrap();
    rustix::fs::setxattr(mask.join("tmp"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .unwrap();
    let mut order = bench.sh(
        "ls /etc/debian_version; ls -A /tmp | wc -l; echo x > /etc/seacow-was-here; ls /etc/seacow-was-here",
    );
    if let Rootfs::Overlay { lowers, .. } = &mut order.create.rootfs {
        *lowers = vec![Lower::HostView { mask, root: "/".into() }];
    }
    let done = bench.run(&order);
    assert_eq!(done.output, "/etc/debian_version\n0\n/etc/seacow-was-here\n");
    assert!(!Path::new("/etc/seacow-was-here").exists());
}
