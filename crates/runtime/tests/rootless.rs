//! `seacow-runtime` by an ordinary user: his own id alone, or more of them by newuidmap.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::Fixture;
use seacow_spec::oci::runtime::{IdMapping, LinuxNamespace, LinuxResources, NamespaceKind, Pids, Spec};

/// `$0` is the file of grants, the rest the command.
const AS_GRANTED: &str = "mount --bind $0 /etc/subuid && mount --bind $0 /etc/subgid && \
     exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";

/// Somebody without rights.
const USER: u32 = 65534;

struct Rootless {
    fixture: Fixture,
    id: String,
    /// Where newuidmap is, and what it is told that the user has.
    granted: Option<(PathBuf, PathBuf)>,
    /// Root of a user namespace that was made before, as rootless podman calls its runtime.
    inside: bool,
}

impl Rootless {
    fn new(name: &str, script: &str, change: impl FnOnce(&mut Spec)) -> Option<Self> {
        if let Some(why) = common::missing() {
            eprintln!("SKIP {name}: {why}");
            return None;
        }
        let fixture = Fixture::new();
        let mut spec = common::spec(common::process(&["/bin/sh", "-c", script]));
        spec.mounts = common::kernel_mounts();
        let linux = spec.linux.as_mut().unwrap();
        linux.namespaces.push(LinuxNamespace { kind: NamespaceKind::User, path: String::new() });
        let own = |container_id| vec![IdMapping { container_id, host_id: USER, size: 1 }];
        (linux.uid_mappings, linux.gid_mappings) = (own(0), own(0));
        change(&mut spec);
        std::fs::write(fixture.path().join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        std::fs::set_permissions(fixture.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for dir in [fixture.path().to_owned(), fixture.rootfs()] {
            chown(dir, Some(USER), Some(USER)).unwrap();
        }
        let id = format!("seacow-test-{name}-{}", std::process::id());
        Some(Self { fixture, id, granted: None, inside: false })
    }

    fn call(&self, words: &[&str]) -> Output {
        // Output goes to files: a pipe would only end when the container that inherits it does.
        let file = |name: &str| std::fs::File::create(self.fixture.path().join(name)).unwrap();
        let read = |name: &str| std::fs::read(self.fixture.path().join(name)).unwrap();
        let runtime = env!("CARGO_BIN_EXE_seacow-runtime");
        let mut command = match &self.granted {
            None if self.inside => {
                let mut command = Command::new("unshare");
                command.args(["-U", "-r", "-m", runtime]);
                command
            }
            None => Command::new(runtime),
            Some((dir, grants)) => {
                // A view of /etc in which the user has more ids.
                let mut command = Command::new("unshare");
                let path = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{path}", dir.display())).args(["-m", "sh", "-c", AS_GRANTED]);
                command.arg(grants).arg(runtime);
                command
            }
        };
        if self.granted.is_none() {
            command.uid(USER).gid(USER);
        }
        let status = command
            .arg("--root")
            .arg(self.fixture.path().join("state"))
            .args(words)
            .current_dir(self.fixture.path())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .status()
            .unwrap();
        Output { status, stdout: read("stdout"), stderr: read("stderr") }
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn error(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        self.call(&["delete", "-f", &self.id]);
    }
}

#[test]
fn with_his_own_id_alone() {
    let script = "id -u; id -g; cat /proc/self/setgroups; echo x > /dev/null; ls /sys/class/net; \
                  stat -c %t:%T /dev/zero; touch /made; hostname; echo $$";
    let Some(user) = Rootless::new("rootless", script, |_| {}) else { return };
    let text = user.ok(&["run", &user.id]);
    assert_eq!(text, "0\n0\ndeny\nlo\n1:5\nseacow-test\n1\n");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(user.fixture.rootfs().join("made")).unwrap().uid(), USER);
    assert_eq!(user.ok(&["list", "-q"]), "");
}

#[test]
fn the_whole_life_without_rights() {
    let Some(user) = Rootless::new("rootless-life", "exec sleep 60", |_| {}) else { return };
    user.ok(&["create", "--pid-file", "pid", &user.id]);
    user.ok(&["start", &user.id]);
    let pid = std::fs::read_to_string(user.fixture.path().join("pid")).unwrap();
    let of = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
    for kind in ["user", "pid", "net", "mnt", "ipc", "uts"] {
        let link = format!("/proc/self/ns/{kind}");
        assert_eq!(user.ok(&["exec", &user.id, "readlink", &link]).trim(), of(kind), "{kind}");
    }
    assert_eq!(user.ok(&["exec", &user.id, "sh", "-c", "id -u; cat /proc/1/comm"]), "0\nsleep\n");
    user.ok(&["kill", &user.id, "KILL"]);
    while !user.ok(&["state", &user.id]).contains("stopped") {
        std::thread::yield_now();
    }
    user.ok(&["delete", &user.id]);
}

#[test]
fn what_needs_rights_is_refused_when_it_was_asked_for() {
    let limits = LinuxResources { pids: Some(Pids { limit: 7 }), ..LinuxResources::default() };
    let Some(user) = Rootless::new("rootless-limits", "true", |spec| {
        spec.linux.as_mut().unwrap().resources = Some(limits)
    }) else {
        return;
    };
    let text = user.error(&["run", &user.id]);
    assert!(text.contains("limits without rights to make a cgroup (linux.resources)"), "{text}");
    let Some(user) = Rootless::new("rootless-groups", "true", |spec| {
        spec.process.as_mut().unwrap().user.additional_gids = vec![0];
    }) else {
        return;
    };
    let text = user.error(&["run", &user.id]);
    assert!(text.contains("set groups [0]"), "{text}");
    // Somebody else's id, without anybody's word for it.
    let Some(user) = Rootless::new("rootless-ids", "true", |spec| {
        let more = IdMapping { container_id: 1, host_id: 100_000, size: 10 };
        spec.linux.as_mut().unwrap().uid_mappings.push(more);
    }) else {
        return;
    };
    let text = user.error(&["run", &user.id]);
    assert!(text.contains("newuidmap"), "{text}");
    assert_eq!(user.ok(&["list", "-q"]), "");
}

/// Where newuidmap is: a distribution's, or the directory that the environment names.
fn newuidmap() -> Option<PathBuf> {
    let given = std::env::var_os("SEACOW_UIDMAP").map(PathBuf::from);
    let dirs = given.into_iter().chain(std::iter::once(PathBuf::from("/usr/bin")));
    dirs.into_iter().find(|dir| dir.join("newuidmap").exists())
}

#[test]
fn with_more_ids_by_newuidmap() {
    let Some(dir) = newuidmap() else {
        return eprintln!("SKIP: no newuidmap (Debian: uidmap)");
    };
    let ids = |spec: &mut Spec| {
        let linux = spec.linux.as_mut().unwrap();
        let more = IdMapping { container_id: 1, host_id: 500_000, size: 65_536 };
        linux.uid_mappings.push(more);
        linux.gid_mappings.push(more);
        let user = &mut spec.process.as_mut().unwrap().user;
        (user.uid, user.gid, user.additional_gids) = (33, 33, vec![44]);
    };
    let script = "id -u; id -G; tr -s ' ' < /proc/self/uid_map; stat -c %g /dev/pts/ptmx";
    let Some(mut user) = Rootless::new("rootless-more", script, ids) else { return };
    let grants = user.fixture.path().join("grants");
    std::fs::write(&grants, "nobody:500000:65536\n").unwrap();
    user.granted = Some((dir, grants));
    assert_eq!(user.ok(&["run", &user.id]), "33\n33 44\n 0 65534 1\n 1 500000 65536\n0\n");
}

#[test]
fn by_root_of_a_user_namespace() {
    let script =
        "id -u; echo x > /dev/null; stat -c %t:%T /dev/zero; cat /proc/self/oom_score_adj; ls /sys/class/net";
    let Some(mut user) = Rootless::new("rootless-inside", script, |spec| {
        let linux = spec.linux.as_mut().unwrap();
        linux.namespaces.retain(|n| n.kind != NamespaceKind::User);
        (linux.uid_mappings, linux.gid_mappings) = (Vec::new(), Vec::new());
        spec.process.as_mut().unwrap().oom_score_adj = Some(100);
    }) else {
        return;
    };
    user.inside = true;
    assert_eq!(user.ok(&["run", &user.id]), "0\n1:5\n100\nlo\n");
}
