//! Storage drivers, as the stock client sees them.

use seacow_tests::Engine;

fn dockerfile(engine: &Engine, text: &str) -> String {
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Dockerfile"), text).unwrap();
    dir.to_string_lossy().into_owned()
}

/// The founding example and what comes after it, without any overlay.
#[test]
fn containers_are_whole_copies_with_the_driver_copy() {
    let mut engine = Engine::start_with(&["--storage-driver=vfs"]);
    if engine.skip_on_docker() {
        return;
    }
    assert_eq!(engine.docker(&["info", "--format", "{{.Driver}}"]).ok(), "copy");
    let context = dockerfile(&engine, "FROM bb\nRUN echo original > /base && rm /etc/group\nWORKDIR /made\n");
    engine.docker(&["build", "-t", "base", &context]).ok();
    engine.docker(&["run", "-d", "--name", "one", "base", "tail", "-f", "/dev/null"]).ok();
    engine.docker(&["run", "-d", "--name", "two", "--read-only", "base", "tail", "-f", "/dev/null"]).ok();
    assert_eq!(engine.docker(&["exec", "one", "pwd"]).ok(), "/made");
    engine.docker(&["exec", "one", "sh", "-c", "echo changed > /base; rm /etc/passwd; mkdir /new"]).ok();
    let refused = engine.docker(&["exec", "two", "sh", "-c", "echo changed > /base"]);
    assert!(refused.err.contains("Read-only file system"), "{}", refused.err);
    assert_eq!(engine.docker(&["exec", "two", "cat", "/base"]).ok(), "original");
    assert_eq!(engine.docker(&["diff", "one"]).ok(), "C /base\nC /etc\nD /etc/passwd\nA /new");
    assert_eq!(engine.docker(&["diff", "two"]).ok(), "");
    let mounts = engine.docker(&["exec", "one", "cat", "/proc/mounts"]).ok();
    assert!(!mounts.contains("overlay"), "{mounts}");
    engine.kill_daemon();
    engine.restart_daemon();
    assert_eq!(engine.docker(&["exec", "one", "cat", "/base"]).ok(), "changed");
    engine.docker(&["commit", "one", "committed"]).ok();
    let seen = engine.docker(&["run", "--rm", "committed", "sh", "-c", "cat /base; ls /etc /new"]).ok();
    assert!(seen.starts_with("changed") && !seen.contains("passwd"), "{seen}");
    engine.docker(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(engine.docker(&["exec", "one", "cat", "/base"]).ok(), "changed");
    engine.docker(&["rm", "-f", "one", "two"]).ok();
    engine.docker(&["rmi", "committed", "base"]).ok();
    // Kept over a restart without being asked for again.
    assert_eq!(engine.inspect("bb", "{{.GraphDriver.Name}}"), "copy");
}

/// A view of the whole machine is not copied.
#[test]
fn the_host_image_needs_an_overlay() {
    let engine = Engine::empty_with(&["--storage-driver=copy"]);
    if engine.skip_on_docker() {
        return;
    }
    let refused = engine.docker(&["create", "host", "true"]);
    assert!(
        refused.err.contains("--storage-driver") || refused.err.contains("driver overlay"),
        "{}",
        refused.err
    );
}

#[test]
fn info_tells_the_driver_and_what_it_does() {
    let engine = Engine::empty_with(&["--storage-driver=overlay"]);
    assert_eq!(engine.docker(&["info", "--format", "{{.Driver}}"]).ok(), "overlay2");
    let status = engine.docker(&["info", "--format", "{{.DriverStatus}}"]).ok();
    assert!(status.contains("[Backing Filesystem ") && status.contains("[Supports d_type true]"), "{status}");
}
