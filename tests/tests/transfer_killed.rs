//! The daemon is killed in the middle of a pull or a push: nothing of it is to be seen, and the next try goes on.

use std::path::Path;
use std::time::Instant;

use seacow_tests::{Engine, Gate, Registry, patience};

/// An image with a layer that does not pack.
fn built(engine: &Engine, name: &str) -> String {
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    let file = "FROM bb\nRUN head -c 6000000 /dev/urandom > /data\nCMD [\"ls\", \"/data\"]\n";
    std::fs::write(dir.join("Dockerfile"), file).unwrap();
    engine.docker(&["build", "-q", "-t", name, &dir.display().to_string()]).ok()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until something is so; nobody tells.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < patience(30), "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let id = built(&engine, &format!("{}/made:1", registry.host()));
    engine.docker(&["push", "-q", &format!("{}/made:1", registry.host())]).ok();
    let all = engine.docker(&["images", "-aq"]).ok();
    engine.docker(&[&["rmi", "-f"], &all.lines().collect::<Vec<_>>()[..]].concat()).ok();
    let gate = Gate::start(registry.host());
    let name = format!("{}/made:1", gate.host());
    // The large layer stops after a half, whatever comes before it.
    gate.allow(Some(5_000_000), None);
    let pulling = engine.docker_running(&["pull", &name]);
    let blobs = engine.data_root().join("blobs");
    let half = |name: &String| {
        name.ends_with(".part")
            && std::fs::metadata(blobs.join(name)).is_ok_and(|part| part.len() > 2_000_000)
    };
    until("nothing of the layer is kept", || names(&blobs).iter().any(half));
    engine.kill_daemon();
    drop(pulling);
    gate.allow(None, None);
    engine.restart_daemon();
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), "");
    assert_eq!(names(&engine.data_root().join("layers")), [] as [&str; 0]);
    engine.docker(&["pull", "-q", &name]).ok();
    assert!(gate.was_asked("\r\nrange: bytes="), "it was fetched from its beginning");
    assert_eq!(engine.inspect(&name, "{{.Id}}"), id);
    assert_eq!(engine.docker(&["run", "--rm", &name]).ok(), "/data");
    assert!(!names(&blobs).iter().any(|name| name.ends_with(".part")));
}

#[test]
fn a_killed_push_leaves_no_image_there_and_works_again() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let Some(registry) = Registry::start(&engine) else { return };
    let gate = Gate::start(registry.host());
    let name = format!("{}/made:1", gate.host());
    let id = built(&engine, &name);
    gate.allow(None, Some(3_000_000));
    let pushing = engine.docker_running(&["push", &name]);
    until("nothing is sent", || gate.was_asked("PATCH "));
    let blobs = engine.data_root().join("blobs");
    until("nothing is packed", || names(&blobs).iter().any(|name| name.starts_with("new-")));
    engine.kill_daemon();
    drop(pushing);
    gate.allow(None, None);
    engine.restart_daemon();
    // It listens before it is ready, and answers when it is.
    engine.docker(&["images", "-q"]).ok();
    assert_eq!(names(&blobs), [] as [&str; 0]);
    let nothing = std::process::Command::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &format!("http://{}/v2/made/manifests/1", registry.host()),
        ])
        .output()
        .unwrap();
    assert_eq!(nothing.stdout, b"404");
    engine.docker(&["push", "-q", &name]).ok();
    let all = engine.docker(&["images", "-aq"]).ok();
    engine.docker(&[&["rmi", "-f"], &all.lines().collect::<Vec<_>>()[..]].concat()).ok();
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.inspect(&name, "{{.Id}}"), id);
}
