//! Network devices that move into the container, from outside. What is the host for them is a network
//! namespace of the test's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod common;

use std::os::unix::fs::chown;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::bundle::Bundle;
use common::holder::Holder;
use seacow_spec::oci::runtime::{Hook, Hooks, IdMapping, LinuxNamespace, NamespaceKind, NetDevice, Spec};

/// A network with two pairs of devices: `sc0` and `sc1`, `sc2` and `sc3`.
struct Host(Holder);

impl Host {
    fn new() -> Self {
        let host = Self(Holder::new(&["-n"]));
        host.ip("link add sc0 type veth peer name sc1");
        host.ip("link add sc2 type veth peer name sc3");
        host.ip("address add 10.77.0.1/24 brd + dev sc0");
        host.ip("address add 10.77.1.1 peer 10.77.1.2/32 dev sc0");
        host.ip("address add fd00:77::1/64 dev sc0 nodad");
        host.ip("address add 10.77.9.9/24 dev sc0 valid_lft 3000 preferred_lft 3000");
        host.ip("address add 10.77.0.2/24 dev sc1");
        host.ip("link set sc0 up");
        host.ip("link set sc1 up");
        host
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.0.path("net"))).arg(program);
        command
    }

    fn try_ip(&self, words: &str) -> Output {
        self.enter("ip").args(words.split(' ')).output().unwrap()
    }

    fn ip(&self, words: &str) -> String {
        let output = self.try_ip(words);
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn has(&self, device: &str) -> bool {
        self.try_ip(&format!("link show {device}")).status.success()
    }

    /// The runtime, called by somebody on this host.
    fn call(&self, bundle: &Bundle, words: &[&str]) -> Output {
        let paths = ["out", "err"].map(|name| bundle.fixture.path().join(name));
        let [out, err] = paths.clone().map(|path| std::fs::File::create(path).unwrap());
        let mut command = self.enter(env!("CARGO_BIN_EXE_seacow-runtime"));
        command.arg("--root").arg(bundle.fixture.path().join("state")).args(words);
        command.current_dir(bundle.fixture.path()).stdin(std::process::Stdio::null());
        let status = command.stdout(out).stderr(err).status().unwrap();
        let [stdout, stderr] = paths.map(|path| std::fs::read(path).unwrap());
        Output { status, stdout, stderr }
    }

    fn ok(&self, bundle: &Bundle, words: &[&str]) -> String {
        let output = self.call(bundle, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, bundle: &Bundle) -> String {
        let output = self.call(bundle, &["run", &bundle.id]);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// `sc0` is as it was made.
    fn assert_untouched(&self) {
        let text = self.ip("address show sc0");
        for part in [",UP", "10.77.0.1/24 brd 10.77.0.255", "10.77.1.1 peer 10.77.1.2/32", "fd00:77::1/64"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

fn lend(spec: &mut Spec, device: &str, name: &str) {
    spec.linux.as_mut().unwrap().net_devices.insert(device.into(), NetDevice { name: name.into() });
}

fn network(spec: &mut Spec) -> &mut LinuxNamespace {
    let namespaces = &mut spec.linux.as_mut().unwrap().namespaces;
    namespaces.iter_mut().find(|n| n.kind == NamespaceKind::Network).unwrap()
}

#[test]
fn a_device_moves_with_its_addresses_and_another_name() {
    for user in [false, true] {
        let Some(bundle) = Bundle::new(&format!("netdev-{user}"), "exec sleep 600", |spec| {
            lend(spec, "sc0", "eth9");
            lend(spec, "sc2", "");
            if user {
                let map = vec![IdMapping { container_id: 0, host_id: 100_000, size: 1000 }];
                let linux = spec.linux.as_mut().unwrap();
                linux.namespaces.push(LinuxNamespace { kind: NamespaceKind::User, path: String::new() });
                (linux.uid_mappings, linux.gid_mappings) = (map.clone(), map);
            }
        }) else {
            return;
        };
        if user {
            chown(bundle.fixture.rootfs(), Some(100_000), Some(100_000)).unwrap();
        }
        let host = Host::new();
        host.ok(&bundle, &["create", &bundle.id]);
        assert!(!host.has("sc0") && !host.has("sc2") && host.has("sc1"));
        host.ok(&bundle, &["start", &bundle.id]);
        let shown = host.ok(&bundle, &["exec", &bundle.id, "ip", "address", "show", "eth9"]);
        for part in [
            ",UP",
            "10.77.0.1/24 brd 10.77.0.255",
            "10.77.1.1 peer 10.77.1.2/32",
            "fd00:77::1/64 scope global",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        // What has to be renewed is its owner's matter.
        assert!(!shown.contains("10.77.9.9"), "{shown}");
        assert_eq!(host.ok(&bundle, &["exec", &bundle.id, "ls", "/sys/class/net"]), "eth9\nlo\nsc2\n");
        assert!(host.ok(&bundle, &["exec", &bundle.id, "ip", "link", "show", "sc2"]).contains(",UP"));
        host.ok(&bundle, &["exec", &bundle.id, "busybox", "ping", "-c", "1", "-w", "20", "10.77.0.2"]);
        host.ok(&bundle, &["delete", "-f", &bundle.id]);
        // The kernel removes virtual devices with their network, and the other ends with them.
        let deadline = Instant::now() + Duration::from_secs(60);
        while host.has("sc1") || host.has("sc3") {
            assert!(Instant::now() < deadline, "the network lives on");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_network_that_was_joined_keeps_them() {
    let host = Host::new();
    let theirs = Holder::new(&["-n"]);
    let Some(bundle) = Bundle::new("netdev-joined", "ip address show sc0", |spec| {
        lend(spec, "sc0", "");
        network(spec).path = theirs.path("net");
    }) else {
        return;
    };
    let shown = host.ok(&bundle, &["run", &bundle.id]);
    assert!(shown.contains("10.77.0.1/24") && shown.contains(",UP"), "{shown}");
    assert!(!host.has("sc0"));
    let inside = Command::new("nsenter")
        .arg(format!("--net={}", theirs.path("net")))
        .args(["ip", "address", "show", "sc0"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&inside.stdout).contains("10.77.0.1/24"));
}

#[test]
fn what_cannot_move_is_named_and_everything_stays() {
    let host = Host::new();
    let theirs = Holder::new(&["-n"]);
    let taken = Command::new("nsenter")
        .arg(format!("--net={}", theirs.path("net")))
        .args(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "sc0"])
        .status();
    assert!(taken.unwrap().success());
    let of_host = host.0.path("net");
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<String>, &'a str);
    let cases: [Case<'_>; 8] = [
        (&[("nosuch", "")], None, "linux.netDevices.nosuch: there is no such network device"),
        // The first has moved by then.
        (&[("sc0", ""), ("zz", "")], None, "linux.netDevices.zz: there is no such network device"),
        (&[("lo", "lo2")], None, "linux.netDevices.lo: cannot be moved: "),
        (&[("lo", "")], None, "linux.netDevices.lo: the container has a network device lo already"),
        (
            &[("sc0", "eth0")],
            Some(theirs.path("net")),
            "linux.netDevices.sc0: the container has a network device eth0 already",
        ),
        (
            &[("sc0", "")],
            Some(theirs.path("net")),
            "linux.netDevices.sc0: the container has a network device sc0 already",
        ),
        (&[("sc0", "")], Some(of_host), "linux.netDevices: the container's network is the host's"),
        (&[("sc0", "x"), ("sc2", "x")], None, "linux.netDevices.sc2.name: a second device would be called x"),
    ];
    for (number, (devices, path, expected)) in cases.into_iter().enumerate() {
        let Some(bundle) = Bundle::new(&format!("netdev-bad-{number}"), "true", |spec| {
            devices.iter().for_each(|(device, name)| lend(spec, device, name));
            network(spec).path = path.unwrap_or_default();
        }) else {
            return;
        };
        let text = host.refused(&bundle);
        assert!(text.contains(expected), "{number}: {text}");
        host.assert_untouched();
    }
}

#[test]
fn a_container_that_fails_later_gives_them_back() {
    let host = Host::new();
    for (number, path) in ["/bin/false", "/nosuch"].into_iter().enumerate() {
        let Some(bundle) = Bundle::new(&format!("netdev-hook-{number}"), "true", |spec| {
            lend(spec, "sc0", "eth0");
            lend(spec, "sc2", "eth1");
            let hook = Hook { path: path.into(), ..Hook::default() };
            spec.hooks = Some(Hooks { create_runtime: vec![hook], ..Hooks::default() });
        }) else {
            return;
        };
        host.refused(&bundle);
        host.assert_untouched();
        // It was down.
        assert!(!host.ip("link show sc2").contains(",UP"));
    }
}
