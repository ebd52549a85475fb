//! What is mounted into the container, and devices.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::bench::Bench;
use crate::common::mount;
use seacow_spec::oci::runtime::{LinuxDevice, Mount};
use seacow_spec::shim::SeccompChoice;
use seacow_sys::process::wait;

fn bind(source: &Path, destination: &str, options: &str) -> Mount {
    Mount { source: source.display().to_string(), ..mount(destination, "bind", options) }
}

pub(crate) fn mounts(bench: &mut Bench) {
    let host = bench.fixture.path().join("volume");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "of the host\n").unwrap();
    // An image that wants its mounts to land elsewhere.
    let evil = bench.fixture.path().join("target");
    std::fs::create_dir(&evil).unwrap();
    symlink(&evil, bench.fixture.rootfs().join("data")).unwrap();
    symlink("../../../../..", bench.fixture.rootfs().join("up")).unwrap();
    let mut order = bench
        .sh("cat /made/dir/file /made/file; touch /made/dir/new || echo denied; touch /rw/x; \
         stat -f -c %T /scratch; cat /data/file; cat /up/below/file; echo x > /made/file");
    order.create.spec.mounts = vec![
        bind(&host, "/made/dir", "rbind,ro"),
        bind(&host.join("file"), "/made/file", "bind,ro"),
        bind(&host, "/rw", "rbind"),
        mount("/scratch", "tmpfs", "size=1m"),
        bind(&host, "/data", "rbind"),
        bind(&host, "/up/below", "rbind"),
    ];
    let done = bench.run(&order);
    let lines: Vec<&str> = done.output.lines().collect();
    assert_eq!(lines[..2], ["of the host", "of the host"], "{}", done.output);
    assert!(done.output.contains("Read-only file system") && done.output.contains("denied"));
    assert_eq!(done.output.matches("of the host").count(), 4, "{}", done.output);
    assert!(done.output.contains("tmpfs") && host.join("x").exists() && done.code != 0);
    assert_eq!(std::fs::read_dir(&evil).unwrap().count(), 0, "a mount point was made outside");
    assert!(!Path::new("/below").exists());
    let refused = [
        (bind(&host, "/proc/1/attr", "bind"), "inside /proc"),
        (bind(Path::new("/nosuch/source"), "/x", "rbind"), "bind source path /nosuch/source"),
    ];
    for (entry, text) in refused {
        let mut order = bench.sh("true");
        order.create.spec.mounts = vec![entry];
        let report = bench.try_run(&order).err().unwrap().report().to_string();
        assert!(report.contains(text), "{report}");
    }
    std::fs::remove_dir(bench.fixture.rootfs().join("proc")).unwrap();
    symlink("tmp", bench.fixture.rootfs().join("proc")).unwrap();
    let order = bench.sh("true");
    let report = bench.try_run(&order).err().unwrap().report().to_string();
    assert!(report.contains("/proc of the image is a symbolic link"), "{report}");
}

pub(crate) fn propagation(bench: &mut Bench) {
    use seacow_sys::mount::{Change, MountFlags, Propagation, change_at, mount_at, unmount_detach};
    let volume = bench.fixture.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    mount_at("tmpfs", "seacow-test", &volume, MountFlags::empty(), "").unwrap();
    let shared = Change { propagation: Some(Propagation::Shared), ..Change::default() };
    change_at(&volume, &shared).unwrap();
    for name in ["private", "shared", "slave", "later"] {
        std::fs::create_dir(volume.join(name)).unwrap();
    }
    let mut order =
        bench.sh("mount -t tmpfs inside /v/private/private && mount -t tmpfs inside /v/shared/shared && \
         mount -t tmpfs inside /v/slave/slave || exit 1; echo up; \
         while ! test -e /v/slave/later/file; do sleep 0.01; done; ls /v/private/later /v/shared/later");
    order.create.seccomp = SeccompChoice::Unconfined;
    let caps = order.create.spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
    for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted] {
        set.push("CAP_SYS_ADMIN".into());
    }
    order.create.spec.mounts = vec![
        bind(&volume, "/v/private", "rbind"),
        bind(&volume, "/v/shared", "rbind,rshared"),
        bind(&volume, "/v/slave", "rbind,rslave"),
    ];
    let (running, mut read, _) = bench.begin(&order).unwrap();
    let mut up = [0; 3];
    read.read_exact(&mut up).unwrap();
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let reached = |name: &str| host.contains(&format!("{}/{name} ", volume.display()));
    assert_eq!([reached("private"), reached("shared"), reached("slave")], [false, true, false]);
    let later = volume.join("later");
    mount_at("tmpfs", "outside", &later, MountFlags::empty(), "").unwrap();
    std::fs::write(later.join("file"), "").unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "/v/private/later:\n\n/v/shared/later:\nfile\n");
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
    drop(running.namespaces);
    unmount_detach(&volume).unwrap();
}

pub(crate) fn devices(bench: &mut Bench) {
    assert_eq!(bench.output("dd if=/dev/zero of=/dev/null bs=1 count=3 2>&1 | head -n1"), "3+0 records in");
    let order = bench.sh("mknod /tmp/mem c 1 1 && cat /tmp/mem | head -c1");
    let done = bench.run(&order);
    assert!(done.output.contains("Operation not permitted"), "{}", done.output);
    let mut order = bench.sh("stat -c '%t:%T %a %u' /dev/seacow-fuse; cat /dev/seacow-fuse; ls /dev/null");
    let linux = order.create.spec.linux.as_mut().unwrap();
    linux.devices = vec![LinuxDevice {
        path: "/dev/seacow-fuse".into(),
        kind: "c".into(),
        major: 10,
        minor: 229,
        file_mode: Some(0o640),
        uid: Some(33),
        gid: None,
    }];
    let done = bench.run(&order);
    assert!(done.output.starts_with("a:e5 640 33\n"), "{}", done.output);
    let mut order = bench.sh("ls /dev | wc -l; head -c0 /dev/kmsg");
    order.prepare.privileged = true;
    let done = bench.run(&order);
    assert!(done.output.lines().next().unwrap().parse::<u32>().unwrap() > 20, "{}", done.output);
}
