//! Labels of SELinux, by deeds: needs a host that enforces a policy with labels for containers, and a
//! daemon whose files and pipes containers may use (`cargo xtask vm selinux` has both).

use std::path::{Path, PathBuf};

use seacow_tests::Engine;

/// An engine that labels; `None`, said aloud, where that cannot be.
fn engine() -> Option<Engine> {
    if std::fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1") {
        return Some(Engine::start_with(&["--selinux-enabled"]));
    }
    println!("SKIPPED: needs SELinux, enforcing");
    None
}

fn attribute(path: &Path) -> String {
    let mut buffer = [0; 256];
    let length = rustix::fs::lgetxattr(path, "security.selinux", &mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).trim_end_matches('\0').to_owned()
}

fn level(label: &str) -> String {
    label.splitn(4, ':').nth(3).unwrap_or_default().to_owned()
}

/// What a process of a new container says of itself.
fn process_label(engine: &Engine, options: &[&str]) -> String {
    engine
        .docker(&[&["run", "--rm"], options, &["bb", "cat", "/proc/self/attr/current"]].concat())
        .ok()
        .trim_end_matches('\0')
        .to_owned()
}

/// A directory of the host with a file, that no label of containers is on.
fn directory(engine: &Engine, name: &str) -> PathBuf {
    let dir = PathBuf::from(format!("/var/tmp/{}-{name}", engine.name()));
    std::fs::create_dir_all(dir.join("below")).unwrap();
    std::fs::write(dir.join("below/file"), "text\n").unwrap();
    dir
}

#[test]
fn every_container_has_labels_of_its_own() {
    let Some(engine) = engine() else { return };
    let info = engine.docker(&["info", "--format", "{{.SecurityOptions}}"]).ok();
    assert!(info.contains("name=selinux"), "{info}");
    let mut levels = std::collections::BTreeSet::new();
    // From the pool, guessed, with an empty pool: more than it holds.
    for number in 0..6 {
        let name = format!("box{number}");
        engine.docker(&["run", "-d", "--name", &name, "bb", "sleep", "1000"]).ok();
        let process = engine.inspect(&name, "{{.ProcessLabel}}");
        let mount = engine.inspect(&name, "{{.MountLabel}}");
        assert!(process.starts_with("system_u:system_r:container_t:s0:c"), "{process}");
        assert!(mount.starts_with("system_u:object_r:container_file_t:s0:c"), "{mount}");
        assert_eq!(level(&process), level(&mount));
        assert!(levels.insert(level(&process)), "{process} twice");
        for who in ["/proc/1/attr/current", "/proc/self/attr/current"] {
            let seen = engine.docker(&["exec", &name, "cat", who]).ok();
            assert_eq!(seen.trim_end_matches('\0'), process, "{who}");
        }
        let pid = engine.inspect(&name, "{{.State.Pid}}");
        for file in
            ["etc/passwd", "etc/hosts", "etc/resolv.conf", "dev/shm", "dev/pts", "dev/mqueue", "dev/null"]
        {
            assert_eq!(attribute(Path::new(&format!("/proc/{pid}/root/{file}"))), mount, "{file}");
        }
    }
}

/// What a container does all day is not refused.
#[test]
fn a_confined_container_works() {
    let Some(engine) = engine() else { return };
    let script = "
        echo x >/root/file && cat /etc/hosts /etc/resolv.conf >/dev/null &&
        echo x >/dev/shm/file && echo x >/tmpfs/file && echo x >/volume/file && echo x >/anonymous/file &&
        echo x >/dev/null && ls /proc/self/fd >/dev/null && echo done";
    let options = ["--tmpfs", "/tmpfs", "-v", "named:/volume", "-v", "/anonymous"];
    let run = |more: &[&str]| {
        engine.docker(&[&["run", "--rm"], &options[..], more, &["bb", "sh", "-c", script]].concat()).ok()
    };
    assert_eq!(run(&[]), "done");
    assert_eq!(run(&["-t"]).trim(), "done");
    assert_eq!(run(&["--read-only", "--tmpfs", "/root"]), "done");
    assert_eq!(run(&["--network", "none", "--ipc", "none", "--tmpfs", "/dev/shm"]), "done");
    // Files that one has written are the other's too, by the volume's label.
    engine.docker(&["run", "--rm", "-v", "named:/v", "bb", "cat", "/v/file"]).ok();
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    engine.docker(&["exec", "-t", "box", "sh", "-c", "echo x >/root/other"]).ok();
    let out = engine.exec_root().join("copied");
    engine.docker(&["cp", "box:/root/other", &out.display().to_string()]).ok();
    engine.docker(&["cp", &out.display().to_string(), "box:/root/again"]).ok();
    assert_eq!(engine.docker(&["exec", "box", "cat", "/root/again"]).ok(), "x");
    engine.docker(&["stop", "-t", "20", "box"]).ok();
    engine.docker(&["start", "box"]).ok();
    assert_eq!(engine.docker(&["exec", "box", "cat", "/root/again"]).ok(), "x");
}

#[test]
fn files_of_the_host_are_out_of_reach_until_they_are_labelled() {
    let Some(engine) = engine() else { return };
    let dir = directory(&engine, "bind");
    let source = dir.display().to_string();
    let read = |name: &str, mode: &str| {
        engine.docker(&["rm", "-f", name]);
        engine
            .docker(&[
                "run",
                "-d",
                "--name",
                name,
                "-v",
                &format!("{source}:/d{mode}"),
                "bb",
                "sleep",
                "1000",
            ])
            .ok();
        engine.docker(&["exec", name, "cat", "/d/below/file"])
    };
    read("one", "").fails(1, "Permission denied");
    // For this one alone.
    assert_eq!(read("one", ":Z").ok(), "text");
    assert_eq!(attribute(&dir.join("below/file")), engine.inspect("one", "{{.MountLabel}}"));
    read("two", "").fails(1, "Permission denied");
    assert_eq!(read("two", ":ro,Z").ok(), "text");
    engine.docker(&["exec", "one", "cat", "/d/below/file"]).fails(1, "Permission denied");
    // For all.
    assert_eq!(read("three", ":z").ok(), "text");
    assert_eq!(read("two", "").ok(), "text");
    assert_eq!(attribute(&dir), "system_u:object_r:container_file_t:s0");
    std::fs::remove_dir_all(dir).unwrap();
    // The system's own directories are not labelled, and nothing is left of the attempt.
    for (path, said) in [("/etc", "/etc"), ("/usr/bin", "/usr/bin"), ("/var/../tmp", "/tmp")] {
        let bind = format!("{path}:/d:Z");
        engine
            .docker(&["run", "--rm", "-v", &bind, "bb", "true"])
            .fails(125, &format!("SELinux relabeling of {said} is not allowed"));
    }
}

#[test]
fn labels_of_one_s_choice() {
    let Some(engine) = engine() else { return };
    let with = |option: &str| process_label(&engine, &["--security-opt", option]);
    assert_eq!(with("label=level:s0:c7,c9"), "system_u:system_r:container_t:s0:c7,c9");
    assert_eq!(with("label=type:spc_t").split(':').nth(2), Some("spc_t"));
    // No label of ours: what the policy makes of a program of a container that the daemon executes.
    let unconfined = with("label=disable");
    let daemon = std::fs::read_to_string("/proc/self/attr/current").unwrap();
    assert!(
        unconfined.contains(":spc_t:") || unconfined == daemon.trim_end_matches('\0'),
        "{unconfined}, the daemon: {daemon}"
    );
    assert_eq!(process_label(&engine, &["--privileged"]), unconfined);
    assert_eq!(process_label(&engine, &["--pid", "host"]), unconfined);
    engine
        .docker(&["run", "--rm", "--security-opt", "label=nonsense", "bb", "true"])
        .fails(125, "Bad label option \"nonsense\"");
    engine.docker(&["run", "--rm", "--security-opt", "label=type:nonsense_t", "bb", "true"]).code(125);
    // Whoever is to touch another's processes is labelled as the other.
    engine.docker(&["run", "-d", "--name", "box", "--ipc", "shareable", "bb", "sleep", "1000"]).ok();
    let label = engine.inspect("box", "{{.ProcessLabel}}");
    for mode in ["--pid", "--ipc"] {
        assert_eq!(process_label(&engine, &[mode, "container:box"]), label, "{mode}");
    }
    engine.docker(&["run", "-d", "--name", "two", "--ipc", "shareable", "bb", "sleep", "1000"]).ok();
    engine
        .docker(&["run", "--rm", "--pid", "container:box", "--ipc", "container:two", "bb", "true"])
        .fails(125, "SELinux labels aren't the same");
}

#[test]
fn labels_outlive_the_daemon() {
    let Some(mut engine) = engine() else { return };
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    let label = engine.inspect("box", "{{.ProcessLabel}}");
    engine.kill_daemon();
    engine.restart_daemon();
    assert_eq!(engine.inspect("box", "{{.ProcessLabel}}"), label);
    engine.docker(&["restart", "-t", "0", "box"]).ok();
    let seen = engine.docker(&["exec", "box", "cat", "/proc/1/attr/current"]).ok();
    assert_eq!(seen.trim_end_matches('\0'), label);
}
