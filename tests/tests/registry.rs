//! The daemon's own registry: its verbs, and other clients at it. `SEACOW_SKOPEO` names a directory where skopeo is
//! unpacked; `cargo xtask test` gives one.

use std::path::PathBuf;
use std::process::Command;

use seacow_tests::{Engine, sh};

/// A registry at a port that is free; gives `host:port`.
fn start(engine: &Engine, flags: &[&str]) -> String {
    let words = [&["registry", "start", "--listen", "127.0.0.1:0"], flags].concat();
    let said = engine.seacow(&words).ok();
    said.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn off_until_started_and_again_after_the_daemon() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    assert_eq!(engine.seacow(&["registry", "status"]).ok(), "The registry does not run");
    engine.seacow(&["registry", "stop"]).fails(1, "the registry does not run");
    engine.seacow(&["registry", "gc"]).fails(1, "the registry does not run");
    engine.seacow(&["registry", "start", "--listen", "nowhere"]).fails(1, "invalid address");
    engine.seacow(&["registry", "start", "--tls-key", "/x"]).fails(1, "TLS needs a certificate and its key");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let said = engine.seacow(&["registry", "start", "--listen", &host]).ok();
    assert_eq!(said, format!("The registry listens on {host}"));
    engine.seacow(&["registry", "start"]).fails(1, "runs already");
    let name = format!("{host}/some/bb:1");
    engine.docker(&["tag", "bb", &name]).ok();
    let pushed = engine.docker(&["push", &name]).ok();
    assert!(pushed.contains(": Pushed"), "{pushed}");
    let id = engine.inspect(&name, "{{.Id}}");
    engine.docker(&["rmi", &name]).ok();
    engine.kill_daemon();
    engine.restart_daemon();
    let status = engine.seacow(&["registry", "status"]).ok();
    assert!(
        status.contains(&format!("Listens on:   {host}")) && status.contains("Repositories: 1"),
        "{status}"
    );
    engine.docker(&["rmi", "-f", "bb"]).ok();
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.inspect(&name, "{{.Id}}"), id);
    assert_eq!(engine.docker(&["run", "--rm", &name, "echo", "ran"]).ok(), "ran");
    engine.seacow(&["registry", "stop"]).ok();
    engine.docker(&["pull", &name]).fails(1, "connection refused");
    // For good.
    engine.stop_daemon();
    engine.restart_daemon();
    assert_eq!(engine.seacow(&["registry", "status"]).ok(), "The registry does not run");
}

#[test]
fn a_push_to_it_copies_nothing() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let host = start(&engine, &[]);
    let name = format!("{host}/bb:1");
    engine.docker(&["tag", "bb", &name]).ok();
    engine.docker(&["push", "-q", &name]).ok();
    // By extents or by a second name: the file that the engine keeps is the one that the registry has.
    let kept = engine.data_root().join("blobs");
    let list = sh(&kept, "ls");
    assert_eq!(list.lines().count(), 1, "{list}");
    let same = format!(
        "cmp {list} ../registry/blobs/{list} && (test $(stat -c %i {list}) = $(stat -c %i ../registry/blobs/{list}) || \
         filefrag -v {list} | grep -q shared)"
    );
    sh(&kept, &same);
    // The registry's stays when the image goes.
    engine.docker(&["rmi", "-f", "bb", &name]).ok();
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &name, "echo", "ran"]).ok(), "ran");
    engine.seacow(&["registry", "gc", "--grace", "0"]).ok();
    engine.docker(&["rmi", "-f", &name]).ok();
    engine.docker(&["pull", "-q", &name]).ok();
}

#[test]
fn passwords_by_the_stock_client_and_daemon_options() {
    let hash = "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW";
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = std::env::temp_dir().join(format!("seacow-htpasswd-{}", std::process::id()));
    std::fs::write(&file, format!("ann:{hash}\n")).unwrap();
    let flags =
        [format!("--registry-listen=127.0.0.1:{port}"), format!("--registry-htpasswd={}", file.display())];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let engine = Engine::start_with(&flags);
    if engine.skip_on_docker() {
        return;
    }
    let host = format!("127.0.0.1:{port}");
    let name = format!("{host}/bb:1");
    engine.docker(&["tag", "bb", &name]).ok();
    engine.docker(&["push", &name]).fails(1, "no basic auth credentials");
    let login = |password: &[u8]| {
        engine.docker_with_input(&["login", "-u", "ann", "--password-stdin", &host], password)
    };
    login(b"wrong").fails(1, "unauthorized");
    login(b"myPassword").ok();
    engine.docker(&["push", "-q", &name]).ok();
    let inspected = engine.docker(&["manifest", "inspect", "--insecure", &name]).ok();
    assert!(inspected.contains("\"schemaVersion\": 2"), "{inspected}");
    engine.docker(&["rmi", "-f", "bb", &name]).ok();
    engine.docker(&["pull", "-q", &name]).ok();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn skopeo_copies_to_it_and_from_it() {
    let Some(unpacked) = std::env::var_os("SEACOW_SKOPEO").map(PathBuf::from) else {
        println!("SKIPPED: SEACOW_SKOPEO names no directory with skopeo");
        return;
    };
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let host = start(&engine, &[]);
    let name = format!("{host}/bb:1");
    engine.docker(&["tag", "bb", &name]).ok();
    engine.docker(&["push", "-q", &name]).ok();
    let dir = engine.exec_root().join("skopeo");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let skopeo = |words: &[&str]| {
        let mut command = Command::new(unpacked.join("usr/bin/skopeo"));
        let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", unpacked.join(libraries));
        command.current_dir(&dir).args(["--policy", "policy.json", "--tmpdir", "."]).args(words);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    // Out to a directory of OCI's, in again under other names: the same digests.
    let digest = |name: &str| {
        let said = skopeo(&[
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &format!("docker://{name}"),
        ]);
        said.trim().to_owned()
    };
    let from = format!("docker://{name}");
    skopeo(&["copy", "--preserve-digests", "--src-tls-verify=false", &from, "dir:out"]);
    let to = format!("docker://{host}/copied/by-dir:2");
    skopeo(&["copy", "--preserve-digests", "--dest-tls-verify=false", "dir:out", &to]);
    assert_eq!(digest(&format!("{host}/copied/by-dir:2")), digest(&name));
    skopeo(&["copy", "--src-tls-verify=false", &from, "oci:layout:1"]);
    skopeo(&["copy", "--dest-tls-verify=false", "oci:layout:1", &format!("docker://{host}/copied/oci:3")]);
    let tags = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{host}/copied/oci")]);
    assert!(tags.contains("\"3\""), "{tags}");
    engine.docker(&["rmi", "-f", "bb", &name]).ok();
    engine.docker(&["pull", "-q", &format!("{host}/copied/oci:3")]).ok();
    let run = engine.docker(&["run", "--rm", &format!("{host}/copied/oci:3"), "echo", "ran"]);
    assert_eq!(run.ok(), "ran");
    skopeo(&["delete", "--tls-verify=false", &format!("docker://{host}/copied/oci:3")]);
    engine.docker(&["pull", &format!("{host}/copied/oci:3")]).fails(1, "manifest unknown");
}
