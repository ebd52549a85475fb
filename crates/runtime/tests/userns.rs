//! User and time namespaces, namespaces by path, ids of mounts: from outside, by the command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use bundle::Bundle;
use common::holder::Holder;
use seacow_spec::oci::runtime::{IdMapping, LinuxNamespace, NamespaceKind, Spec, TimeOffset};

fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
    IdMapping { container_id, host_id, size }
}

fn in_user_namespace(spec: &mut Spec) {
    let linux = spec.linux.as_mut().unwrap();
    linux.namespaces.push(LinuxNamespace { kind: NamespaceKind::User, path: String::new() });
    linux.uid_mappings = vec![map(0, 100_000, 1000), map(1000, 200_000, 1)];
    linux.gid_mappings = vec![map(0, 300_000, 1001)];
}

fn namespace(spec: &mut Spec, kind: NamespaceKind) -> &mut LinuxNamespace {
    let list = &mut spec.linux.as_mut().unwrap().namespaces;
    if !list.iter().any(|n| n.kind == kind) {
        list.push(LinuxNamespace { kind, path: String::new() });
    }
    list.iter_mut().find(|n| n.kind == kind).unwrap()
}

/// Mount points are made by the container's root, who needs the right to.
fn give_root(bundle: &Bundle) {
    chown(bundle.path().join("rootfs"), Some(100_000), Some(300_000)).unwrap();
}

fn output(bundle: &Bundle) -> String {
    bundle.ok(&["run", &bundle.id])
}

fn of_process(pid: i32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

/// Says so where the kernel has no such namespaces.
fn has(kind: &str) -> bool {
    let there = Path::new("/proc/self/ns").join(kind).exists();
    if !there {
        eprintln!("SKIP: the kernel has no {kind} namespaces");
    }
    there
}

#[test]
fn a_user_namespace_of_its_own() {
    let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; \
         echo x > /dev/null; head -c3 /dev/zero | wc -c; stat -c %t:%T /dev/full; \
         mount | grep -c ' on /proc type proc'; ls /sys/class/net; cat /proc/keys | wc -c; \
         hostname changed && hostname; readlink /proc/self/ns/user; touch /sys/x 2>&1; \
         mount -t tmpfs none /srv 2>&1; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
         cat /proc/self/oom_score_adj; cat /proc/1/setgroups; touch /own; stat -c %u /own";
    let Some(bundle) = Bundle::new("userns", script, |spec| {
        in_user_namespace(spec);
        let linux = spec.linux.as_mut().unwrap();
        linux.sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "7".into());
        let process = spec.process.as_mut().unwrap();
        process.oom_score_adj = Some(321);
        let sets = process.capabilities.as_mut().unwrap();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push("CAP_SYS_ADMIN".into());
        }
    }) else {
        return;
    };
    give_root(&bundle);
    let text = output(&bundle);
    let lines: Vec<&str> = text.lines().collect();
    let user = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(lines[11], user.display().to_string());
    let expected =
        ["0", " 0 100000 1000", " 1000 200000 1", " 0 300000 1001", "3", "1:7", "1", "lo", "0", "changed"];
    assert_eq!(lines[..9], expected[..9], "{text}");
    assert_eq!(&lines[9..11], ["changed", lines[10]], "{text}");
    assert!(lines.iter().any(|l| l.starts_with("touch: /sys/x: ")), "{text}");
    assert_eq!(lines[lines.len() - 4..], ["7", "321", "allow", "0"], "{text}");
    let own = std::fs::metadata(bundle.path().join("rootfs/own")).unwrap();
    assert_eq!((own.uid(), own.gid()), (100_000, 300_000));
}

#[test]
fn relative_sources_of_bind_mounts_are_in_the_bundle() {
    for user_namespace in [false, true] {
        let Some(bundle) = Bundle::new("relative", "cat /srv/file; pwd", |spec| {
            if user_namespace {
                in_user_namespace(spec);
            }
            let options = if user_namespace { "rbind,rshared" } else { "bind" };
            let mut mount = common::mount("/srv", "", options);
            mount.source = "given".into();
            spec.mounts.push(mount);
        }) else {
            return;
        };
        give_root(&bundle);
        std::fs::create_dir(bundle.path().join("given")).unwrap();
        std::fs::write(bundle.path().join("given/file"), "of the bundle\n").unwrap();
        // Called from elsewhere.
        let done = Command::new(env!("CARGO_BIN_EXE_seacow-runtime"))
            .arg("--root")
            .arg(bundle.path().join("state"))
            .args(["run", "--bundle"])
            .arg(bundle.path())
            .arg(&bundle.id)
            .current_dir("/")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert_eq!(String::from_utf8_lossy(&done.stdout), "of the bundle\n/\n", "{errors}");
    }
}

#[test]
fn exec_terminal_and_another_user_in_a_user_namespace() {
    let Some(bundle) = Bundle::new("userns-exec", "exec sleep 60", |spec| {
        in_user_namespace(spec);
        let process = spec.process.as_mut().unwrap();
        (process.user.uid, process.user.gid) = (1000, 1000);
    }) else {
        return;
    };
    bundle.ok(&["run", "-d", "--pid-file", "pid", &bundle.id]);
    let pid: i32 = std::fs::read_to_string(bundle.path().join("pid")).unwrap().parse().unwrap();
    assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 200_000);
    // Its output is a pipe of ours, which becomes the container's.
    let script = "id -u; readlink /proc/self/ns/user; echo o >/dev/stdout";
    let child = bundle.spawn(&["exec", &bundle.id, "sh", "-c", script]);
    let inside = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(inside, format!("1000\n{}\no\n", of_process(pid, "user")));
    assert_eq!(bundle.ok(&["exec", "-u", "0:0", &bundle.id, "id", "-u"]), "0\n");
    let refused = bundle.call(&["exec", "-u", "4000:0", &bundle.id, "id", "-u"]);
    assert!(!refused.status.success());
    let mut child = Command::new("script");
    child.args(["-qec"]).arg(format!(
        "{} --root {} exec -t -u 0:0 {} sh -c 'tty; stat -c %u $(tty)'",
        env!("CARGO_BIN_EXE_seacow-runtime"),
        bundle.path().join("state").display(),
        bundle.id
    ));
    if Path::new("/usr/bin/script").exists() {
        let shown = child.arg("/dev/null").stdin(Stdio::null()).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).replace("\r\n", "\n").replace("^@", "");
        assert!(shown.contains("/dev/pts/0\n0\n"), "{shown}");
    } else {
        eprintln!("SKIP the terminal: no script(1) (Debian: bsdutils)");
    }
}

#[test]
fn binds_files_and_the_hosts_locks_in_a_user_namespace() {
    let out = tempfile::Builder::new().prefix("seacow-userns-").tempdir().unwrap();
    let data = out.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "content\n").unwrap();
    let listener = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
    let host = out.path().join("read-only");
    std::fs::create_dir(&host).unwrap();
    let guard = Mounted::tmpfs(&host, "ro,nosuid");
    let script = "cat /f; stat -c %F /s; cat /d/file; { echo x > /d/new; } 2>&1; \
                  mount -o remount,rw /r 2>&1; { echo x > /r/x; } 2>&1; true";
    let Some(bundle) = Bundle::new("userns-binds", script, |spec| {
        in_user_namespace(spec);
        let sets = spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push("CAP_SYS_ADMIN".into());
        }
        for (destination, source) in [
            ("/f", data.join("file")),
            ("/s", data.join("socket")),
            ("/d", data.clone()),
            ("/r", host.clone()),
        ] {
            let mut mount =
                common::mount(destination, "bind", if destination == "/d" { "rbind,ro" } else { "rbind" });
            mount.source = source.display().to_string();
            spec.mounts.push(mount);
        }
    }) else {
        return;
    };
    give_root(&bundle);
    let text = output(&bundle);
    assert!(text.starts_with("content\nsocket\ncontent\n"), "{text}");
    assert!(text.contains("can't create /d/new: Read-only file system"), "{text}");
    // What the host has locked its root cannot unlock.
    assert!(text.contains("can't create /r/x: Read-only file system"), "{text}");
    drop((listener, guard));
}

/// A mount of the test's.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, options: &str) -> Self {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "seacow-test"]).arg(at).status();
        assert!(done.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

const KINDS: [(NamespaceKind, &str); 6] = [
    (NamespaceKind::Network, "net"),
    (NamespaceKind::Ipc, "ipc"),
    (NamespaceKind::Uts, "uts"),
    (NamespaceKind::Cgroup, "cgroup"),
    (NamespaceKind::Mount, "mnt"),
    (NamespaceKind::Time, "time"),
];

#[test]
fn every_kind_is_joined_by_its_path() {
    if common::missing().is_some() {
        return eprintln!("SKIP: {:?}", common::missing());
    }
    let holder = Holder::new(&["-n", "-i", "-u", "-C", "-m", "--propagation", "unchanged", "-T"]);
    for (kind, name) in KINDS {
        if !has(name) {
            continue;
        }
        let name_of_time = if name == "time" { "time_for_children" } else { name };
        let Some(bundle) =
            Bundle::new(&format!("join-{name}"), &format!("readlink /proc/self/ns/{name}"), |spec| {
                spec.hostname.clear();
                namespace(spec, kind).path = holder.path(name_of_time);
            })
        else {
            return;
        };
        assert_eq!(output(&bundle).trim(), of_process(holder.pid(), name_of_time), "{name}");
    }
}

#[test]
fn a_user_namespace_is_joined_with_what_it_owns() {
    let first = |spec: &mut Spec| in_user_namespace(spec);
    let Some(bundle) = Bundle::new("join-first", "exec sleep 60", first) else { return };
    bundle.ok(&["run", "-d", "--pid-file", "pid", &bundle.id]);
    let pid: i32 = std::fs::read_to_string(bundle.path().join("pid")).unwrap().parse().unwrap();
    let kinds = [(NamespaceKind::User, "user"), (NamespaceKind::Network, "net"), (NamespaceKind::Pid, "pid")];
    let script =
        "for k in user net pid ipc; do readlink /proc/self/ns/$k; done; id -u; ps | grep -c '[s]leep 60'";
    let Some(second) = Bundle::new("join-second", script, |spec| {
        spec.hostname.clear();
        for (kind, name) in kinds {
            namespace(spec, kind).path = format!("/proc/{pid}/ns/{name}");
        }
    }) else {
        return;
    };
    let text = output(&second);
    let lines: Vec<&str> = text.lines().collect();
    for (line, (_, name)) in lines.iter().zip(kinds) {
        assert_eq!(*line, of_process(pid, name));
    }
    assert_ne!(lines[3], of_process(pid, "ipc"));
    assert_eq!(lines[4..], ["0", "1"], "{text}");
    // A new user namespace beside a joined network that is the host's to give.
    let holder = Holder::new(&["-n"]);
    let Some(third) = Bundle::new("join-third", "readlink /proc/self/ns/net; id -u", |spec| {
        in_user_namespace(spec);
        spec.hostname.clear();
        namespace(spec, NamespaceKind::Network).path = holder.path("net");
    }) else {
        return;
    };
    assert_eq!(output(&third), format!("{}\n0\n", of_process(holder.pid(), "net")));
}

#[test]
fn clocks_of_a_time_namespace() {
    if !has("time") {
        return;
    }
    for user in [false, true] {
        let script = "cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time; exec sleep 60";
        let Some(bundle) = Bundle::new(&format!("time-{user}"), script, |spec| {
            if user {
                in_user_namespace(spec);
            }
            namespace(spec, NamespaceKind::Time);
            let offsets = &mut spec.linux.as_mut().unwrap().time_offsets;
            offsets.insert("boottime".into(), TimeOffset { secs: 1_000_000, nanosecs: 5 });
            offsets.insert("monotonic".into(), TimeOffset { secs: 2_000_000, nanosecs: 0 });
        }) else {
            return;
        };
        bundle.ok(&["run", "-d", "--pid-file", "pid", &bundle.id]);
        let pid: i32 = std::fs::read_to_string(bundle.path().join("pid")).unwrap().parse().unwrap();
        let uptime = |text: &str| text.split('.').next().unwrap().trim().parse::<i64>().unwrap();
        let host = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
        let inside =
            bundle.ok(&["exec", &bundle.id, "sh", "-c", "cat /proc/uptime; readlink /proc/self/ns/time"]);
        assert!((uptime(&inside) - host - 1_000_000).abs() < 5, "{inside} and {host}");
        assert!(inside.ends_with(&format!("{}\n", of_process(pid, "time"))), "{inside}");
        assert_ne!(
            of_process(pid, "time"),
            std::fs::read_link("/proc/self/ns/time").unwrap().display().to_string()
        );
    }
}

#[test]
fn what_cannot_be_joined_is_named() {
    let cases: [(&str, &str); 4] = [
        ("/nosuch", "linux.namespaces[1].path: open /nosuch: No such file"),
        (
            "/proc/self/ns/uts",
            "linux.namespaces[1].path: /proc/self/ns/uts is a uts namespace, not a network one",
        ),
        ("/etc/passwd", "linux.namespaces[1].path: /etc/passwd is not a namespace"),
        ("relative", "linux.namespaces[1].path: \"relative\" is not absolute"),
    ];
    for (path, expected) in cases {
        let Some(bundle) = Bundle::new("join-bad", "true", |spec| {
            namespace(spec, NamespaceKind::Network).path = path.into()
        }) else {
            return;
        };
        let done = bundle.call(&["run", &bundle.id]);
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && text.contains(expected), "{text}");
        assert_eq!(bundle.ok(&["list", "-q"]), "");
    }
}

#[test]
fn ids_of_mounts_are_mapped() {
    let out = tempfile::Builder::new().prefix("seacow-idmap-").tempdir().unwrap();
    std::fs::write(out.path().join("file"), "").unwrap();
    chown(out.path().join("file"), Some(5), Some(6)).unwrap();
    let source = out.path().display().to_string();
    let idmap = |spec: &mut Spec, options: &str, maps: Option<(IdMapping, IdMapping)>| {
        let mut mount = common::mount("/m", "bind", options);
        mount.source = source.clone();
        if let Some((uid, gid)) = maps {
            (mount.uid_mappings, mount.gid_mappings) = (vec![uid], vec![gid]);
        }
        spec.mounts.push(mount);
    };
    let Some(bundle) = Bundle::new("idmap", "stat -c %u:%g /m/file; touch /m/new", |spec| {
        idmap(spec, "bind", Some((map(0, 1000, 10), map(0, 2000, 10))));
        let process = spec.process.as_mut().unwrap();
        (process.user.uid, process.user.gid) = (1003, 2004);
    }) else {
        return;
    };
    std::fs::set_permissions(out.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(output(&bundle), "1005:2006\n");
    let new = std::fs::metadata(out.path().join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (3, 4));
    // By the container's own maps: its root is the host's on this mount.
    let Some(bundle) = Bundle::new("idmap-own", "stat -c %u:%g /m/file; touch /m/root", |spec| {
        in_user_namespace(spec);
        idmap(spec, "rbind,ridmap", None);
    }) else {
        return;
    };
    give_root(&bundle);
    assert_eq!(output(&bundle), "5:6\n");
    assert_eq!(std::fs::metadata(out.path().join("root")).unwrap().uid(), 0);
    let Some(bundle) = Bundle::new("idmap-bad", "true", |spec| idmap(spec, "rbind,idmap", None)) else {
        return;
    };
    let text = String::from_utf8_lossy(&bundle.call(&["run", &bundle.id]).stderr).into_owned();
    assert!(text.contains("].options: idmap without mappings needs a user namespace"), "{text}");
}
