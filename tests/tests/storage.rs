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

/// Whether a store file can be made here; says so if not.
fn has_mkfs() -> bool {
    let found =
        ["/sbin/mkfs.xfs", "/usr/sbin/mkfs.xfs"].iter().any(|path| std::path::Path::new(path).exists());
    if !found {
        println!("SKIPPED: mkfs.xfs is not installed (package xfsprogs)");
    }
    found
}

/// `seacow storage …` on an engine's data root.
fn storage(engine: &Engine, verb: &[&str]) -> std::process::Output {
    let dist = seacow_tests::dist();
    std::process::Command::new(dist.join("seacow"))
        .arg("storage")
        .args(verb)
        .arg(format!("--data-root={}", engine.data_root().display()))
        .env("SEACOW_DAEMON", dist.join("seacowd"))
        .env("DOCKER_CONFIG", engine.exec_root().join("config"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_mounted(engine: &Engine) -> bool {
    let place = engine.data_root().join("store").display().to_string();
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| line.contains(&place))
}

/// Names of loop devices on the engine's store file.
fn devices(engine: &Engine) -> Vec<String> {
    let file = engine.data_root().join("store.xfs").display().to_string();
    let blocks = std::fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    blocks
        .filter(|path| {
            std::fs::read_to_string(path.join("loop/backing_file")).is_ok_and(|f| f.trim() == file)
        })
        .map(|path| path.display().to_string())
        .collect()
}

/// Looks again until it is so, for ten seconds.
fn until(what: &str, so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed().as_secs() < 10, "not within ten seconds: {what}");
        std::thread::yield_now();
    }
}

fn until_no_device(engine: &Engine) {
    until("the loop device is gone", || devices(engine).is_empty());
}

/// Everything there is moves into a store file while the daemon is stopped; containers, volumes and
/// images go on from there, over a kill -9 of the daemon and its orderly end.
#[test]
fn a_store_file_takes_over_what_is_there_and_survives_the_daemon() {
    if !has_mkfs() {
        return;
    }
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    if engine.docker(&["info", "--format", "{{.Driver}}"]).ok() == "reflink" {
        println!("SKIPPED: /var/lib shares extents by itself");
        return;
    }
    let refused = storage(&engine, &["init", "--size=2g"]);
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("in use"),
        "{}",
        text(&refused.stderr)
    );
    engine.docker(&["volume", "create", "vol"]).ok();
    let write = "echo kept > /vol/file; echo mine > /own; rm /etc/group";
    engine.docker(&["run", "--name", "first", "-v", "vol:/vol", "bb", "sh", "-c", write]).ok();
    engine.docker(&["create", "--name", "later", "-v", "vol:/vol", "bb", "tail", "-f", "/dev/null"]).ok();
    let (diff, image) = (engine.docker(&["diff", "first"]).ok(), engine.inspect("bb", "{{.Id}}"));
    engine.stop_daemon();

    let done = storage(&engine, &["init", "--size=2g"]);
    let (out, progress) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{progress}");
    assert!(progress.contains("%") && progress.contains("volumes/vol"), "{progress}");
    assert!(out.contains("store.xfs") && out.contains("Size:       2048 MiB"), "{out}");
    assert!(!is_mounted(&engine));
    until_no_device(&engine);

    engine.restart_daemon();
    assert_eq!(engine.docker(&["info", "--format", "{{.Driver}}"]).ok(), "reflink");
    let status = engine.docker(&["info", "--format", "{{.DriverStatus}}"]).ok();
    assert!(status.contains("Store File") && status.contains("[Backing Filesystem xfs]"), "{status}");
    assert_eq!(engine.inspect("bb", "{{.Id}}"), image);
    assert_eq!(engine.docker(&["diff", "first"]).ok(), diff);
    engine.docker(&["start", "later"]).ok();
    assert_eq!(engine.docker(&["exec", "later", "cat", "/vol/file"]).ok(), "kept");
    assert!(engine.docker(&["logs", "first"]).ok().is_empty());

    engine.kill_daemon();
    assert!(is_mounted(&engine));
    let refused = storage(&engine, &["init"]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    engine.restart_daemon();
    engine.docker(&["exec", "later", "sh", "-c", "echo more >> /vol/file"]).ok();
    assert_eq!(engine.docker(&["exec", "later", "cat", "/vol/file"]).ok(), "kept\nmore");
    assert_eq!(devices(&engine).len(), 1);

    // A container that runs keeps it; the last one's end does not.
    engine.stop_daemon();
    assert!(is_mounted(&engine));
    engine.restart_daemon();
    engine.docker(&["rm", "-f", "later"]).ok();
    engine.stop_daemon();
    assert!(!is_mounted(&engine));
    until_no_device(&engine);
    let status = text(&storage(&engine, &["status"]).stdout);
    assert!(status.contains("not mounted"), "{status}");
}

/// The daemon's own option; and a file that lost its end is not begun anew.
#[test]
fn a_daemon_makes_its_store_file_and_refuses_half_of_one() {
    if !has_mkfs() {
        return;
    }
    let mut engine = Engine::start_with(&["--storage-init=1g"]);
    if engine.skip_on_docker() {
        return;
    }
    if !engine.data_root().join("store.xfs").exists() {
        println!("SKIPPED: /var/lib shares extents by itself");
        return;
    }
    assert_eq!(engine.docker(&["info", "--format", "{{.Driver}}"]).ok(), "reflink");
    assert_eq!(engine.docker(&["run", "--rm", "bb", "echo", "hello"]).ok(), "hello");
    engine.stop_daemon();
    until_no_device(&engine);
    let file = std::fs::File::options().write(true).open(engine.data_root().join("store.xfs")).unwrap();
    file.set_len(1000 << 20).unwrap();
    // It listens before it looks, and ends when it has seen.
    engine.restart_daemon();
    until("the file is refused", || engine.log().contains("cut short"));
    engine.kill_daemon();
    file.set_len(1 << 30).unwrap();
    engine.restart_daemon();
    assert_eq!(engine.docker(&["run", "--rm", "bb", "echo", "again"]).ok(), "again");
}

/// Unused images go, longest unused first; what containers use stays, whatever it takes.
#[test]
fn images_keep_their_budget() {
    let mut engine = Engine::start_with(&["--storage-budget=24m"]);
    if engine.skip_on_docker() {
        return;
    }
    let build = |engine: &Engine, name: &str| {
        let text = format!(
            "FROM bb\nRUN dd if=/dev/zero of=/big bs=1M count=6 2>/dev/null && echo {name} > /name\n"
        );
        let context = dockerfile(engine, &text);
        engine.docker(&["build", "-q", "-t", name, &context]).ok();
    };
    let names = |engine: &Engine| engine.docker(&["images", "--format", "{{.Repository}}"]).ok();
    for name in ["one", "two", "three"] {
        build(&engine, name);
    }
    engine.docker(&["create", "--name", "user", "one", "true"]).ok();
    engine.docker(&["run", "--rm", "two", "true"]).ok();
    // Known beyond the daemon's end.
    engine.stop_daemon();
    engine.restart_daemon();
    // A container uses the oldest, another was used since: the one in between goes.
    build(&engine, "four");
    until("the budget is kept", || !names(&engine).lines().any(|name| name == "three"));
    let left = names(&engine);
    for name in ["one", "two", "four", "bb"] {
        assert!(left.lines().any(|left| left == name), "{name} is not in {left}");
    }
    assert!(engine.log().contains("evicted"), "{}", engine.log());
}
