//! Hooks of all stages: where, when and with what they run, and what their failure does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bundle::Bundle;
use seacow_spec::oci::runtime::{Hook, Hooks, Spec};
use seacow_spec::oci::state::{State, Status};

/// A hook that runs a line of shell; `$0` is `out`.
fn hook(out: &Path, line: &str) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), line.into(), out.display().to_string()],
        env: vec!["PATH=/usr/bin:/bin".into(), "GREETING=hello".into()],
        timeout: Some(20),
    }
}

fn outside() -> tempfile::TempDir {
    let out = tempfile::Builder::new().prefix("seacow-hooks-").tempdir().unwrap();
    // Whoever the container's user is, it may write.
    std::fs::set_permissions(out.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    out
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn order_namespace_and_state() {
    let out = outside();
    let log = out.path().join("log");
    // Which mount and pid namespace, and what it was told.
    let tell = |stage: &str| {
        hook(
            &log,
            &format!(
                "echo {stage} $GREETING $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/net) >> $0; \
                 cat > $0.{stage}"
            ),
        )
    };
    let hooks = Hooks {
        prestart: vec![tell("prestart")],
        create_runtime: vec![tell("createRuntime")],
        create_container: vec![tell("createContainer")],
        start_container: vec![tell("startContainer")],
        poststart: vec![tell("poststart")],
        poststop: vec![tell("poststop")],
    };
    let script = format!("echo program >> {}; exec cat", log.display());
    let Some(bundle) = Bundle::new("hooks-all", &script, |spec| {
        spec.hooks = Some(hooks);
        spec.annotations.insert("a".into(), "b".into());
        let mut mount = common::mount(out.path().to_str().unwrap(), "bind", "rbind,rw");
        mount.source = out.path().display().to_string();
        spec.mounts.push(mount);
    }) else {
        return;
    };
    bundle.ok(&["create", "--pid-file", "pid", &bundle.id]);
    let pid: i32 = read(&bundle.path().join("pid")).parse().unwrap();
    let ns = |pid: &str, kind: &str| {
        std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
    };
    let host = format!("hello {} {}", ns("self", "mnt"), ns("self", "net"));
    let own = format!("hello {} {}", ns(&pid.to_string(), "mnt"), ns(&pid.to_string(), "net"));
    let created = format!("prestart {host}\ncreateRuntime {host}\ncreateContainer {own}\n");
    assert_eq!(read(&log), created);
    bundle.ok(&["start", &bundle.id]);
    bundle.wait_for("stopped");
    bundle.ok(&["delete", &bundle.id]);
    let text = read(&log);
    let rest = text.strip_prefix(&created).unwrap();
    let mut lines: Vec<&str> = rest.lines().collect();
    assert_eq!(lines.remove(0), format!("startContainer {own}"));
    assert_eq!(lines.pop().unwrap(), format!("poststop {host}"));
    // The program and the hook after its start run side by side.
    lines.sort_unstable();
    assert_eq!(lines, [format!("poststart {host}"), "program".to_owned()]);
    for (stage, status, told) in [
        ("prestart", Status::Created, pid),
        ("createRuntime", Status::Creating, pid),
        ("createContainer", Status::Creating, 1),
        ("startContainer", Status::Created, 1),
        ("poststart", Status::Running, pid),
        ("poststop", Status::Stopped, 0),
    ] {
        let state: State = serde_json::from_str(&read(&out.path().join(format!("log.{stage}")))).unwrap();
        assert_eq!((state.status, state.pid), (status, told), "{stage}");
        assert_eq!(
            (state.id.as_str(), state.bundle.as_path()),
            (bundle.id.as_str(), bundle.path()),
            "{stage}"
        );
        assert_eq!(state.annotations["a"], "b", "{stage}");
    }
}

#[test]
fn a_hook_before_the_root_shapes_the_container_and_not_the_host() {
    let out = outside();
    let hooks = Hooks {
        // The network device that a sysctl of the container is about.
        create_runtime: vec![hook(
            out.path(),
            "pid=$(sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p'); nsenter -t $pid -n ip link add seacow-d type veth peer name seacow-e",
        )],
        create_container: vec![hook(out.path(), "touch $0/from-the-hook; mount -t tmpfs none $0")],
        ..Hooks::default()
    };
    let Some(bundle) =
        Bundle::new("hooks-shape", "cat /proc/sys/net/ipv4/conf/seacow-d/forwarding", |spec| {
            spec.hooks = Some(hooks);
            let linux = spec.linux.as_mut().unwrap();
            linux.sysctl.insert("net/ipv4/conf/seacow-d/forwarding".into(), "1".into());
        })
    else {
        return;
    };
    assert_eq!(bundle.ok(&["run", &bundle.id]), "1\n");
    assert!(out.path().join("from-the-hook").exists());
    let mounts = read(Path::new("/proc/self/mountinfo"));
    assert!(!mounts.contains(out.path().to_str().unwrap()), "a mount of a hook reached the host");
}

#[test]
fn a_hook_inside_has_no_more_rights_than_the_program() {
    let out = outside();
    let hooks = Hooks {
        start_container: vec![hook(
            &out.path().join("log"),
            "id -u > $0; grep CapEff /proc/self/status >> $0; ls /bin/busybox >> $0; test ! -e /usr/bin/env",
        )],
        ..Hooks::default()
    };
    let Some(bundle) = Bundle::new("hooks-inside", "true", |spec| {
        spec.hooks = Some(hooks);
        let process = spec.process.as_mut().unwrap();
        (process.user.uid, process.user.gid) = (33, 33);
        let mut mount = common::mount(out.path().to_str().unwrap(), "bind", "rbind,rw");
        mount.source = out.path().display().to_string();
        spec.mounts.push(mount);
    }) else {
        return;
    };
    bundle.ok(&["run", &bundle.id]);
    assert_eq!(read(&out.path().join("log")), "33\nCapEff:\t0000000000000000\n/bin/busybox\n");
}

fn with_failing(stage: &str, spec: &mut Spec, out: &Path) {
    let hooks = spec.hooks.get_or_insert_default();
    let list = match stage {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        _ => &mut hooks.poststop,
    };
    list.push(hook(out, "true"));
    list.push(hook(out, "echo no such luck >&2; exit 3"));
    list.push(hook(out, "touch $0"));
}

#[test]
fn a_failed_hook_ends_the_container_until_it_runs() {
    for stage in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let out = outside();
        let (third, last) = (out.path().join("third"), out.path().join("last"));
        let Some(bundle) = Bundle::new(&format!("hooks-bad-{stage}"), "echo ran", |spec| {
            with_failing(stage, spec, &third);
            spec.hooks.as_mut().unwrap().poststop = vec![hook(&last, "cat >> $0")];
        }) else {
            return;
        };
        let done = bundle.call(&["run", &bundle.id]);
        assert!(!done.status.success());
        let text = String::from_utf8_lossy(&done.stderr);
        let expected =
            format!("error running {stage} hook #1: /bin/sh: exit status: 3, output: no such luck");
        assert!(text.contains(&expected), "{text}");
        assert_eq!(String::from_utf8_lossy(&done.stdout), "", "{stage}");
        assert!(!third.exists(), "{stage}: the hook after the failed one ran");
        assert_eq!(bundle.ok(&["list", "-q"]), "");
        // Once, whatever had come about of the container.
        let state: State = serde_json::from_str(&read(&last)).unwrap();
        assert_eq!((state.id, state.status, state.pid), (bundle.id.clone(), Status::Stopped, 0), "{stage}");
    }
}

#[test]
fn a_failed_hook_of_a_running_container_is_told() {
    let out = outside();
    let third = out.path().join("third");
    let Some(bundle) = Bundle::new("hooks-late", "echo ran", |spec| {
        with_failing("poststop", spec, &third);
    }) else {
        return;
    };
    let done = bundle.call(&["run", &bundle.id]);
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(text.contains("error running poststop hook #1"), "{text}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "ran\n");
    assert!(third.exists(), "the hooks after a failed one run all the same");
}

#[test]
fn a_late_hook_is_killed_with_what_it_started() {
    let out = outside();
    let Some(bundle) = Bundle::new("hooks-slow", "true", |spec| {
        let slow =
            Hook { timeout: Some(1), ..hook(&out.path().join("pid"), "sleep 613 & echo $! > $0; wait") };
        spec.hooks = Some(Hooks { create_runtime: vec![slow], ..Hooks::default() });
    }) else {
        return;
    };
    let done = bundle.call(&["run", &bundle.id]);
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(text.contains("error running createRuntime hook #0: /bin/sh: not ended after 1s"), "{text}");
    let pid = read(&out.path().join("pid"));
    let gone =
        || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |s| s.contains(") Z "));
    while !gone() {
        std::thread::yield_now();
    }
}

#[test]
fn a_hook_that_does_not_exist_or_does_not_read_is_no_riddle() {
    let Some(bundle) = Bundle::new("hooks-none", "true", |spec| {
        let none = Hook { path: "/nosuch/hook".into(), ..Hook::default() };
        spec.hooks = Some(Hooks { prestart: vec![none], ..Hooks::default() });
    }) else {
        return;
    };
    let text = String::from_utf8_lossy(&bundle.call(&["run", &bundle.id]).stderr).into_owned();
    assert!(text.contains("error running prestart hook #0: /nosuch/hook: No such file"), "{text}");
    let Some(bundle) = Bundle::new("hooks-deaf", "echo ran", |spec| {
        let deaf = Hook { path: "/bin/true".into(), ..Hook::default() };
        spec.hooks = Some(Hooks { create_runtime: vec![deaf], ..Hooks::default() });
        // More than a pipe holds.
        spec.annotations.insert("long".into(), "x".repeat(1 << 18));
    }) else {
        return;
    };
    assert_eq!(bundle.ok(&["run", &bundle.id]), "ran\n");
}

#[test]
fn the_filter_holds_for_hooks_of_the_image() {
    use seacow_spec::oci::runtime::Seccomp;
    let filter = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL" }],
    });
    let filter: Seccomp = serde_json::from_value(filter).unwrap();
    let hook = Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), "mkdir /tmp/made".into()],
        ..Hook::default()
    };
    let Some(bundle) = Bundle::new("filter", "true", |spec| {
        spec.linux.as_mut().unwrap().seccomp = Some(filter);
        spec.hooks = Some(Hooks { start_container: vec![hook], ..Hooks::default() });
    }) else {
        return;
    };
    let output = bundle.call(&["run", &bundle.id]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("startContainer hook"), "{text}");
    assert!(!bundle.path().join("rootfs/tmp/made").exists());
}

#[test]
fn what_a_hook_mounts_into_the_bundle_is_in_the_container() {
    let script = "cat /srv/given";
    let Some(bundle) = Bundle::new("inject", script, |_| {}) else { return };
    let gift = bundle.path().join("gift");
    std::fs::create_dir(&gift).unwrap();
    std::fs::write(gift.join("given"), "from the host\n").unwrap();
    let target = bundle.path().join("rootfs/srv");
    let enter = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')";
    let hook = Hook {
        path: "/bin/sh".into(),
        args: vec![
            "sh".into(),
            "-c".into(),
            format!("{enter}; nsenter -m -t $pid mount --bind {} {}", gift.display(), target.display()),
        ],
        env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".into()],
        ..Hook::default()
    };
    let config = bundle.path().join("config.json");
    let mut spec: Spec = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spec.hooks = Some(Hooks { create_runtime: vec![hook], ..Hooks::default() });
    std::fs::write(&config, serde_json::to_vec(&spec).unwrap()).unwrap();
    assert_eq!(bundle.ok(&["run", &bundle.id]), "from the host\n");
    assert!(!target.join("given").exists(), "the host sees nothing of it");
}
