//! Namespaces of its own, the host's, and those of others.

use std::os::fd::AsFd;
use std::path::Path;

use crate::bench::Bench;
use crate::common;
use crate::common::process;
use seacow_runtime::init::Prepared;
use seacow_spec::ErrorClass;
use seacow_spec::oci::runtime::{LinuxNamespace, NamespaceKind};
use seacow_sys::process::wait;

pub(crate) fn namespaces(bench: &mut Bench) {
    assert_eq!(bench.output("hostname; echo $$"), "seacow-test\n1");
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let inside = bench.output(&format!("readlink /proc/self/ns/{kind}"));
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(Path::new(&inside), outside, "{kind}");
    }
    assert_eq!(
        bench.output("grep -c ':/$' /proc/self/cgroup; wc -l < /proc/self/cgroup").split('\n').count(),
        2
    );
    assert!(bench.output("ip addr show lo").contains("inet 127.0.0.1/8"));
    assert_eq!(bench.output("ls /sys/class/net"), "lo");
    // Nothing of ours is open in it.
    let order = bench.order(process(&["ls", "/proc/self/fd"]));
    assert_eq!(bench.run(&order).output, "0\n1\n2\n3\n");
    // The kernel's threads and the host's processes are out of sight.
    // The shell, which counts without a child.
    assert_eq!(bench.output("set -- /proc/[0-9]*; echo $#"), "1");
}

pub(crate) fn shared_namespaces(bench: &mut Bench) {
    let keep = |kinds: &[NamespaceKind]| -> Vec<LinuxNamespace> {
        common::namespaces().into_iter().filter(|n| kinds.contains(&n.kind)).collect()
    };
    let mut order = bench.sh("for n in net pid uts; do readlink /proc/self/ns/$n; done; ls /sys/fs/cgroup");
    order.prepare.namespaces = keep(&[NamespaceKind::Mount, NamespaceKind::Ipc]);
    order.create.spec.hostname.clear();
    let done = bench.run(&order);
    for kind in ["net", "pid", "uts"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(done.output.contains(host.to_str().unwrap()), "{kind}: {}", done.output);
    }
    // A hostname would be the host's.
    let mut order = bench.sh("true");
    order.prepare.namespaces = keep(&[NamespaceKind::Mount]);
    assert_eq!(bench.try_run(&order).err().unwrap().report().class, ErrorClass::InvalidArgument);
    let mut order = bench.sh("true");
    order.prepare.namespaces = keep(&[NamespaceKind::Mount]);
    order.create.spec.hostname.clear();
    order.create.spec.linux.as_mut().unwrap().sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    let report = bench.try_run(&order).err().unwrap().report().to_string();
    assert!(report.contains("not in a separate kernel namespace"), "{report}");

    let first = bench.sh("sleep 60");
    let (running, _read, _) = bench.begin(&first).unwrap();
    let mut order = bench
        .sh("readlink /proc/self/ns/net; readlink /proc/self/ns/pid; set -- /proc/[0-9]*; echo $#; hostname");
    order.create.spec.hostname.clear();
    for namespace in &mut order.prepare.namespaces {
        let name = match namespace.kind {
            NamespaceKind::Network => "net",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            _ => continue,
        };
        namespace.path = format!("/proc/{}/ns/{name}", running.pid);
    }
    let done = bench.run(&order);
    for kind in ["net", "pid"] {
        let of_first = std::fs::read_link(format!("/proc/{}/ns/{kind}", running.pid)).unwrap();
        assert!(done.output.contains(of_first.to_str().unwrap()), "{kind}: {}", done.output);
    }
    // sleep, sh
    assert!(done.output.ends_with("\n2\nseacow-test\n"), "{}", done.output);
    running.cgroups.kill_all().unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
}

pub(crate) fn dropped(bench: &mut Bench) {
    let order = bench.sh("true");
    let stage = bench.fixture.path().join("1/stage");
    let prepared = Prepared::new(&order.prepare, &stage).unwrap();
    let (pid, cgroups) = (prepared.pid(), prepared.cgroups().clone());
    drop(prepared);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "init was not reaped");
    cgroups.remove().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("seacow-stage"));
}
