//! The daemon is started when none listens on seacow's own socket. Every test has a mount
//! namespace of its own with an empty `/run/seacow`, so no real daemon is met or disturbed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Whether mount namespaces can be made here; says so loudly if not.
fn namespaces(test: &str) -> bool {
    let able = Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|o| o.status.success());
    if !able {
        eprintln!("SKIPPED {test}: needs root (a mount namespace of its own)");
    }
    able
}

/// Runs the client in its own view of /run/seacow; `daemon` is the script it finds as seacowd.
fn seacow(dir: &Path, daemon: &str, args: &str) -> Output {
    let script = dir.join("daemon");
    std::fs::write(&script, daemon).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let line = format!(
        "mount -t tmpfs seacow-test /run && mkdir /run/seacow && {} {args}",
        env!("CARGO_BIN_EXE_seacow")
    );
    Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &line])
        .env("SEACOW_DAEMON", script)
        .env("SEACOW_CONFIG", dir)
        .env_remove("SEACOW_HOST")
        .env_remove("SEACOW_CONTEXT")
        .env_remove("DOCKER_HOST")
        .output()
        .unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A script that becomes [`play_daemon`].
fn fake() -> String {
    let program = std::env::current_exe().unwrap();
    format!("#!/bin/sh\nexec {} --exact play_daemon --ignored --nocapture\n", program.display())
}

/// Not a test: the daemon that the tests start. It answers for a short while and ends by itself.
#[test]
#[ignore = "run by the other tests as their daemon"]
fn play_daemon() {
    let listener = UnixListener::bind("/run/seacow/seacow.sock").unwrap();
    listener.set_nonblocking(true).unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let mut request = [0; 4096];
        if stream.read(&mut request).unwrap() == 0 {
            continue;
        }
        let body =
            "{\"Version\":\"9.9\",\"ApiVersion\":\"1.51\",\"Platform\":{\"Name\":\"a test's daemon\"}}";
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

#[test]
fn a_daemon_is_started_and_waited_for() {
    if !namespaces("a_daemon_is_started_and_waited_for") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // It takes its time before it listens.
    let slow = fake().replace("exec", "sleep 0.3\nexec");
    let output = seacow(dir.path(), &slow, "daemon status");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text,
        "a test's daemon 9.9 (API 1.51) answers at unix:///run/seacow/seacow.sock\n",
        "{}",
        err(&output)
    );
}

#[test]
fn the_daemon_outlives_the_client_in_a_session_of_its_own() {
    if !namespaces("the_daemon_outlives_the_client_in_a_session_of_its_own") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let daemon =
        fake().replace("exec", &format!("ps -o sid= -p $$ > {}; echo $$ >> {0}\nexec", session.display()));
    let output = seacow(dir.path(), &daemon, "ps -q");
    assert!(output.status.code() == Some(0) || err(&output).contains("answer"), "{}", err(&output));
    let text = std::fs::read_to_string(session).unwrap();
    let ids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(ids.len(), 2, "{text:?}");
    assert_eq!(ids[0], ids[1], "the daemon leads its session");
}

#[test]
fn a_daemon_that_dies_is_explained_by_its_log() {
    if !namespaces("a_daemon_that_dies_is_explained_by_its_log") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = seacow(dir.path(), "#!/bin/sh\necho the disk is on fire >&2\nexit 3\n", "ps");
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.contains("ended at once (exit status: 3)") && text.contains("  the disk is on fire"),
        "{text}"
    );
    let output = seacow(dir.path(), "#!/bin/sh\nexit 3\n", "run bb");
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn other_sockets_are_never_started_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_seacow"))
        .args(["-H", "unix:///nonexistent/seacow.sock", "ps"])
        .env("SEACOW_DAEMON", "/bin/false")
        .output()
        .unwrap();
    let text = err(&output);
    assert!(
        text.starts_with("Cannot connect to the seacow daemon at unix:///nonexistent/seacow.sock."),
        "{text}"
    );
}

/// A DOCKER_HOST that is no seacow's is not driven, and that is said.
#[test]
fn another_engine_s_docker_host_is_left_alone() {
    if !namespaces("another_engine_s_docker_host_is_left_alone") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let daemon = dir.path().join("daemon");
    std::fs::write(&daemon, fake()).unwrap();
    std::fs::set_permissions(&daemon, PermissionsExt::from_mode(0o755)).unwrap();
    let line = "mount -t tmpfs seacow-test /run && mkdir /run/seacow && ";
    let output = Command::new("unshare")
        .args([
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            &format!("{line} {} daemon status", env!("CARGO_BIN_EXE_seacow")),
        ])
        .env("SEACOW_DAEMON", &daemon)
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("SEACOW_CONFIG", dir.path())
        .env_remove("SEACOW_HOST")
        .output()
        .unwrap();
    let text = err(&output);
    assert!(text.contains("DOCKER_HOST=unix:///nonexistent/docker.sock is not a seacow; using unix:///run/seacow/seacow.sock"), "{text}");
    assert!(output.status.success());
}
