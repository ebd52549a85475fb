//! Attacks from inside a container, and by its image, on `seacow-runtime`. Each was seen to succeed
//! when the protection that its comment names was taken out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod common;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use common::bundle::Bundle;
use common::{give_libraries, mount};
use rustix::fs::{CWD, RenameFlags};
use seacow_spec::oci::runtime::{LinuxNamespace, Mount, NamespaceKind, Spec};

const RUNTIME: &str = env!("CARGO_BIN_EXE_seacow-runtime");

fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: "bind".into(),
        source: source.display().to_string(),
        options: vec!["bind".into()],
        ..Mount::default()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Waits for a file that the container makes.
fn await_file(path: &Path) {
    let start = std::time::Instant::now();
    while !path.exists() {
        assert!(start.elapsed().as_secs() < 30, "{} did not come", path.display());
        std::thread::yield_now();
    }
}

/// CVE-2019-5736: a process that executes `/proc/self/exe` in the container executes the binary that
/// entered it; somebody else holds on to that file and writes to it when it is no longer executed.
/// Protection: [`seacow_runtime::seal`], without which the copy on disk ends as `owned`.
#[test]
fn the_binary_that_enters_cannot_be_overwritten() {
    // Holds the first foreign binary it sees, then writes to it until that succeeds.
    let attack = "
        touch /srv/ready
        while :; do
            for p in /proc/[0-9]*; do
                command exec 9<$p/exe || continue
                [ /proc/self/fd/9 -ef /bin/busybox ] || break 2
            done
        done 2>/dev/null
        touch /srv/held
        until echo owned >/proc/self/fd/9; do :; done 2>/dev/null";
    let Some(bundle) = Bundle::new("exe", attack, |_| {}) else { return };
    give_libraries(&bundle.fixture.rootfs());
    let copy = bundle.fixture.path().join("runtime");
    std::fs::copy(RUNTIME, &copy).unwrap();
    let program = copy.to_str().unwrap();
    let before = std::fs::read(&copy).unwrap();
    let started = bundle.call_program(program, &["run", "-d", &bundle.id]);
    assert!(started.status.success(), "{}", text(&started));
    await_file(&bundle.fixture.rootfs().join("srv/ready"));
    let held = bundle.fixture.rootfs().join("srv/held");
    for _ in 0..500 {
        bundle.call_program(program, &["exec", &bundle.id, "/proc/self/exe", "features"]);
        if held.exists() {
            break;
        }
    }
    assert!(held.exists(), "the attack never got hold of the binary");
    // Time for the write: it succeeds within one of these, or never.
    for _ in 0..10 {
        let done = bundle.call_program(program, &["exec", &bundle.id, "true"]);
        assert!(done.status.success(), "{}", text(&done));
    }
    assert!(std::fs::read(&copy).unwrap() == before, "the binary was overwritten from inside");
    // The same by the program of the container itself.
    let mut spec: Spec =
        serde_json::from_slice(&std::fs::read(bundle.fixture.path().join("config.json")).unwrap()).unwrap();
    bundle.ok(&["delete", "-f", &bundle.id]);
    spec.process.as_mut().unwrap().args = vec!["/proc/self/exe".into(), "features".into()];
    bundle.write(&spec);
    let shown = bundle.call_program(program, &["run", &bundle.id]);
    assert!(text(&shown).contains("ociVersionMax"), "{}", text(&shown));
    assert!(std::fs::read(&copy).unwrap() == before);
}

/// CVE-2024-21626: a directory of the host that the runtime has open becomes the working directory.
/// Protections: the directory is made without following magic links (run), `getcwd` after `chdir`
/// (exec), and close-on-exec for what the runtime was given by mistake.
#[test]
fn no_descriptor_of_the_host_is_a_working_directory() {
    let Some(bundle) = Bundle::new("cwd", "ls /proc/self/fd | wc -l; touch /srv/up; exec sleep 1000", |_| {})
    else {
        return;
    };
    let rootfs = bundle.fixture.rootfs();
    symlink("/proc/self/fd/7", rootfs.join("seven")).unwrap();
    // As a careless caller: 7 and 8 are directories of the host.
    let leaky = |words: &[&str]| {
        let mut all = vec!["-c", "exec 7</ 8</etc; \"$@\"", "sh", RUNTIME, "--root"];
        let state = bundle.fixture.path().join("state");
        all.push(state.to_str().unwrap());
        all.extend(words);
        let out = bundle.fixture.path().join("leaky");
        let file = std::fs::File::create(&out).unwrap();
        let status = std::process::Command::new("sh")
            .args(all)
            .current_dir(bundle.fixture.path())
            .stdin(std::process::Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .status()
            .unwrap();
        (status.success(), std::fs::read_to_string(out).unwrap())
    };
    let plain: Spec =
        serde_json::from_slice(&std::fs::read(bundle.fixture.path().join("config.json")).unwrap()).unwrap();
    let with_cwd = |cwd: &str| {
        let mut spec = plain.clone();
        let process = spec.process.as_mut().unwrap();
        process.cwd = cwd.into();
        process.args =
            ["ls", "etc/debian_version", "../../../etc/debian_version"].map(str::to_owned).to_vec();
        bundle.write(&spec);
    };
    let directories: Vec<String> = (3..20)
        .map(|fd| format!("/proc/self/fd/{fd}"))
        .chain(["/seven".into(), "/proc/1/cwd".into()])
        .collect();
    for cwd in &directories {
        with_cwd(cwd);
        let (ok, said) = leaky(&["run", &bundle.id]);
        assert!(!ok && !said.contains("etc/debian_version\n"), "{cwd}: {said}");
    }
    bundle.write(&plain);
    let (ok, said) = leaky(&["run", "-d", &bundle.id]);
    assert!(ok, "{said}");
    await_file(&rootfs.join("srv/up"));
    // Three streams and the directory that ls reads.
    assert_eq!(std::fs::read_to_string(bundle.fixture.path().join("leaky")).unwrap(), "4\n");
    for cwd in &directories {
        let (_, said) = leaky(&["exec", "--cwd", cwd, &bundle.id, "ls", "etc/debian_version"]);
        assert!(!said.contains("etc/debian_version\n"), "{cwd}: {said}");
    }
    let (ok, said) = leaky(&["exec", &bundle.id, "ls", "/proc/self/fd"]);
    assert!(ok && said == "0\n1\n2\n3\n", "{said}");
}

/// CVE-2025-31133: masked paths are covered by what the image says `/dev/null` is.
/// Protection: [`Covers`](../src/mounts/masks.rs) takes the host's, before the root is there.
#[test]
fn masks_do_not_depend_on_the_image() {
    let script =
        "cat /etc/secret; echo x >>/etc/secret; cat /etc/target; ls /etc/hidden; cat /proc/kcore | wc -c";
    let Some(bundle) = Bundle::new("null", script, |spec| {
        spec.mounts = vec![mount("/proc", "proc", "")];
        let linux = spec.linux.as_mut().unwrap();
        linux.masked_paths = vec!["/etc/secret".into(), "/etc/hidden".into(), "/proc/kcore".into()];
    }) else {
        return;
    };
    let etc = bundle.fixture.rootfs().join("etc");
    std::fs::create_dir_all(etc.join("hidden/inside")).unwrap();
    std::fs::write(etc.join("secret"), "secret\n").unwrap();
    std::fs::write(etc.join("target"), "target\n").unwrap();
    let null = bundle.fixture.rootfs().join("dev/null");
    for kind in ["link", "file", "nothing"] {
        match kind {
            "link" => symlink("/etc/target", &null).unwrap(),
            "file" => std::fs::write(&null, "false\n").unwrap(),
            _ => {}
        }
        let output = bundle.call(&["run", &bundle.id]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "target\n0\n", "{kind}: {}", text(&output));
        assert_eq!(std::fs::read_to_string(etc.join("secret")).unwrap(), "secret\n");
        let _ = std::fs::remove_file(&null);
    }
}

/// CVE-2019-16884, CVE-2019-19921, CVE-2023-27561: a volume lands on `/proc` because the image has a
/// link there, and swallows labels or uncovers what is masked; or `/proc` itself is such a link.
/// Protections: the file system of the mount point is looked at, and staged tops are no links.
#[test]
fn volumes_do_not_cover_proc_through_links() {
    let gift = tempfile::tempdir().unwrap();
    for (link, target) in [("to-attr", "/proc/self/attr"), ("to-sys", "/proc/sys"), ("to-hop", "/srv/hop")] {
        let destination = format!("/{link}");
        let made = Bundle::new("proc", "exit 0", |spec| spec.mounts.push(bind(gift.path(), &destination)));
        let Some(bundle) = made else { return };
        symlink(target, bundle.fixture.rootfs().join(link)).unwrap();
        symlink("../proc/1", bundle.fixture.rootfs().join("srv/hop")).unwrap();
        let said = bundle.refused(&["run", &bundle.id]);
        assert!(said.contains("inside /proc"), "{link}: {said}");
    }
    let over = |entry: Mount| Bundle::new("proc-top", "exit 0", move |spec| spec.mounts.push(entry)).unwrap();
    for entry in [bind(gift.path(), "/proc"), bind(gift.path(), "/srv/../proc")] {
        let bundle = over(entry);
        let said = bundle.refused(&["run", &bundle.id]);
        assert!(said.contains("/proc"), "{said}");
    }
    let bundle = Bundle::new("proc-link", "exit 0", |_| {}).unwrap();
    let proc = bundle.fixture.rootfs().join("proc");
    std::fs::remove_dir(&proc).unwrap();
    symlink("srv", &proc).unwrap();
    let said = bundle.refused(&["run", &bundle.id]);
    assert!(said.contains("/proc of the image is a symbolic link"), "{said}");
}

/// CVE-2025-52565: the terminal is bound over what the image says `/dev/console` is. Its source is a
/// descriptor that nobody can exchange; its target must not lead into `/proc`.
/// Protection: the mount point of the console is looked at like a volume's.
#[test]
fn the_console_does_not_cover_proc() {
    let Some(bundle) = Bundle::new("console", "exit 0", |spec| {
        spec.process.as_mut().unwrap().terminal = true;
        spec.mounts = vec![
            mount("/proc", "proc", ""),
            mount("/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"),
        ];
    }) else {
        return;
    };
    symlink("/proc/sys/kernel/core_pattern", bundle.fixture.rootfs().join("dev/console")).unwrap();
    let socket = bundle.fixture.path().join("tty.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let said = bundle.refused(&["create", "--console-socket", socket.to_str().unwrap(), &bundle.id]);
    assert!(said.contains("inside /proc"), "{said}");
}

/// CVE-2021-30465: two containers share a volume; one swaps a directory in it for a link to the
/// host's files while the other is mounted there. Protection: mount points are opened below the root
/// (`RESOLVE_IN_ROOT`) and mounted on by descriptor; without it the mount lands outside and is
/// missing inside.
#[test]
fn mount_points_that_change_under_our_hands() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (volume, gift, outside) = (place("volume"), place("gift"), place("outside"));
    let inner = place("volume/inner");
    let swapped = volume.join("swapped");
    // Climbs out of any root, then down to the host's directory.
    symlink(format!("{}{}", "../".repeat(20), outside.display()), &swapped).unwrap();
    let script = "grep -c /gift /proc/self/mountinfo";
    let Some(bundle) = Bundle::new("swap", script, |spec| {
        spec.mounts.push(bind(&volume, "/vol"));
        spec.mounts.push(bind(&gift, "/vol/inner"));
    }) else {
        return;
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &inner, CWD, &swapped, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let outcomes: Vec<String> = (0..100)
            .map(|_| {
                let output = bundle.call(&["run", &bundle.id]);
                // Refused is fine as well.
                if output.status.success() || output.stderr.is_empty() { text(&output) } else { "1\n".into() }
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(|outcome| outcome == "1\n"), "{outcomes:?}");
    });
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "something was made on the host");
}

/// A container watches whoever enters it, or joins its pid namespace, and reads what it can of the
/// runtime's process: environment, descriptors, memory. Protection: undumpable before it can be seen.
#[test]
fn nothing_of_the_runtime_is_seen_from_inside() {
    let watch = "
        touch /srv/ready
        while :; do
            cat /proc/[0-9]*/environ
            for fd in /proc/[0-9]*/fd/*; do readlink $fd; done
            head -c 1 /proc/[0-9]*/mem
        done >>/srv/loot 2>/dev/null";
    let Some(bundle) = Bundle::new("watch", watch, |_| {}) else { return };
    bundle.ok(&["run", "-d", &bundle.id]);
    await_file(&bundle.fixture.rootfs().join("srv/ready"));
    let secretive = |words: &[&str], over: &Bundle| {
        let (mut command, _) = over.command(RUNTIME, words);
        command.env("SEACOW_SECRET", "of-the-host").status().unwrap()
    };
    for _ in 0..60 {
        assert!(secretive(&["exec", &bundle.id, "true"], &bundle).success());
    }
    let state: serde_json::Value = serde_json::from_str(&bundle.ok(&["state", &bundle.id])).unwrap();
    let namespace = format!("/proc/{}/ns/pid", state["pid"]);
    let guest = Bundle::new("watch-guest", "exit 0", |spec| {
        let kinds = &mut spec.linux.as_mut().unwrap().namespaces;
        kinds.retain(|ns| ns.kind != NamespaceKind::Pid);
        kinds.push(LinuxNamespace { kind: NamespaceKind::Pid, path: namespace });
    })
    .unwrap();
    for _ in 0..30 {
        assert!(secretive(&["run", &guest.id], &guest).success());
    }
    let loot = std::fs::read(bundle.fixture.rootfs().join("srv/loot")).unwrap();
    let loot = String::from_utf8_lossy(&loot);
    assert!(loot.contains("PATH="), "the attack saw nothing at all");
    assert!(!loot.contains("of-the-host"), "the runtime's environment was read from inside");
    let host = bundle.fixture.path().to_str().unwrap();
    assert!(!loot.contains(&format!("{host}/state")), "a descriptor of the runtime was seen from inside");
}

/// A label that cannot be given is an error before anything is made, not a container without it.
#[test]
fn labels_that_the_host_does_not_have_are_refused() {
    let on = |file: &str| Path::new(file).exists();
    let Some(bundle) = Bundle::new("labels", "exit 0", |_| {}) else { return };
    let plain: Spec =
        serde_json::from_slice(&std::fs::read(bundle.fixture.path().join("config.json")).unwrap()).unwrap();
    let refused = |change: &dyn Fn(&mut Spec), field: &str| {
        let mut spec = plain.clone();
        change(&mut spec);
        bundle.write(&spec);
        let said = bundle.refused(&["run", &bundle.id]);
        assert!(said.contains(field) && said.contains("is disabled or not supported"), "{said}");
        assert!(bundle.refused(&["state", &bundle.id]).contains("does not exist"));
    };
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    if on("/sys/fs/selinux/enforce") {
        eprintln!("SKIP refusal of SELinux labels: the host has SELinux");
    } else {
        refused(&|spec| spec.process.as_mut().unwrap().selinux_label = label.into(), "process.selinuxLabel");
        refused(&|spec| spec.linux.as_mut().unwrap().mount_label = label.into(), "linux.mountLabel");
    }
    if on("/sys/module/apparmor/parameters/enabled") {
        eprintln!("SKIP refusal of AppArmor profiles: the host has AppArmor");
    } else {
        refused(
            &|spec| spec.process.as_mut().unwrap().apparmor_profile = "mine".into(),
            "process.apparmorProfile",
        );
        let mut spec = plain.clone();
        spec.process.as_mut().unwrap().apparmor_profile = "unconfined".into();
        bundle.write(&spec);
        bundle.ok(&["run", &bundle.id]);
    }
}

/// The escape by a version 1 cgroup's `release_agent`, and by `core_pattern`: programs that the
/// kernel starts on the host. Protections: the view of the cgroups and `/proc/sys` are read-only, and
/// mounting another view needs a capability. Seen to succeed with `rw` for the cgroups.
#[test]
fn the_kernel_s_helpers_stay_the_host_s() {
    let script = "
        for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release \\
            /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs \\
            /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger; do
            [ -e $f ] && (echo 0 >$f) 2>/dev/null && echo wrote $f
        done
        mkdir /tmp/c
        mount -t cgroup -o memory cgroup /tmp/c 2>/dev/null && echo mounted
        mount -t cgroup2 cgroup /tmp/c 2>/dev/null && echo mounted
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted
        exit 0";
    let Some(bundle) = Bundle::new("helpers", script, |_| {}) else { return };
    assert_eq!(bundle.ok(&["run", &bundle.id]), "");
}
