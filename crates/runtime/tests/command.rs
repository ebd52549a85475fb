//! `seacow-runtime` on a bundle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::path::PathBuf;

use bundle::Bundle;
use seacow_spec::oci::runtime::{Hook, Hooks};

#[test]
fn run_in_the_foreground() {
    let Some(bundle) = Bundle::new("run", "echo out; echo err >&2; id -u; exit 5", |_| {}) else { return };
    let output = bundle.call(&["run", &bundle.id]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n0\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert_eq!(bundle.ok(&["list", "-q"]), "");
    assert!(!bundle.call(&["state", &bundle.id]).status.success());
}

#[test]
fn without_a_process_it_can_be_made_and_not_started() {
    let Some(bundle) = Bundle::new("no-process", "true", |spec| spec.process = None) else { return };
    let id = bundle.id.as_str();
    bundle.ok(&["create", id]);
    assert_eq!(bundle.status(), "created");
    let started = bundle.call(&["start", id]);
    let text = String::from_utf8_lossy(&started.stderr);
    assert!(!started.status.success() && text.contains("no command specified"), "{text}");
    bundle.wait_for("stopped");
    bundle.ok(&["delete", id]);
    // The same at once.
    assert!(!bundle.call(&["run", id]).status.success());
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

#[test]
fn the_whole_life() {
    let Some(bundle) = Bundle::new("life", "exec sleep 60", |_| {}) else { return };
    let id = bundle.id.as_str();
    bundle.ok(&["create", "--pid-file", "pid", id]);
    assert_eq!(bundle.status(), "created");
    assert!(!bundle.call(&["create", id]).status.success(), "the id is taken");
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    bundle.ok(&["start", id]);
    assert_eq!(bundle.status(), "running");
    assert!(!bundle.call(&["start", id]).status.success());
    assert_eq!(bundle.ok(&["ps", "-f", "json", id]).trim(), format!("[{pid}]"));
    assert_eq!(
        bundle.ok(&["exec", "-e", "A=b", "--cwd", "/srv", id, "sh", "-c", "echo $A $(pwd)"]),
        "b /srv\n"
    );
    assert_eq!(bundle.call(&["exec", id, "sh", "-c", "exit 9"]).status.code(), Some(9));
    // Apart from whatever the program could exit with.
    let missing = bundle.call(&["--log", "log", "--log-format", "json", "exec", id, "nosuch"]);
    assert_eq!(missing.status.code(), Some(255));
    let log: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.path().join("log")).unwrap()).unwrap();
    assert_eq!(log["msg"], "exec: \"nosuch\": executable file not found in $PATH");
    bundle.ok(&["pause", id]);
    assert_eq!(bundle.status(), "paused");
    assert!(!bundle.call(&["exec", id, "true"]).status.success());
    bundle.ok(&["resume", id]);
    std::fs::write(bundle.path().join("resources"), r#"{"pids":{"limit":33}}"#).unwrap();
    bundle.ok(&["update", "-r", "resources", id]);
    assert!(!bundle.call(&["delete", id]).status.success(), "it runs");
    bundle.ok(&["kill", id, "KILL"]);
    // Nobody tells us when it has ended; its parent is whoever adopted it.
    while bundle.status() != "stopped" {
        std::thread::yield_now();
    }
    bundle.ok(&["delete", id]);
    assert!(!bundle.call(&["state", id]).status.success());
}

#[test]
fn a_failed_start_says_why_and_leaves_nothing() {
    let Some(bundle) = Bundle::new("bad", "", |spec| {
        spec.process.as_mut().unwrap().args = vec!["nosuch".into()];
    }) else {
        return;
    };
    let output = bundle.call(&["run", &bundle.id]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, "exec: \"nosuch\": executable file not found in $PATH\n");
}

#[test]
fn hooks_see_the_state() {
    let out = tempfile::Builder::new().prefix("seacow-hooks-").tempdir().unwrap();
    let hook = |name: &str| {
        let file: PathBuf = out.path().join(name);
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), format!("cat > {}", file.display())],
            ..Hook::default()
        }
    };
    let hooks = Hooks {
        prestart: vec![hook("prestart")],
        poststart: vec![hook("poststart")],
        poststop: vec![hook("poststop")],
        ..Hooks::default()
    };
    let Some(bundle) = Bundle::new("hooks", "true", |spec| spec.hooks = Some(hooks)) else { return };
    bundle.ok(&["run", &bundle.id]);
    for (name, status) in [("prestart", "created"), ("poststart", "running"), ("poststop", "stopped")] {
        let text = std::fs::read(out.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            (state["id"].as_str(), state["status"].as_str()),
            (Some(bundle.id.as_str()), Some(status))
        );
    }
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let Some(bundle) = Bundle::new("tty", "tty; exec sleep 60", |spec| {
        spec.process.as_mut().unwrap().terminal = true;
    }) else {
        return;
    };
    use std::io::BufRead;
    use std::os::fd::AsFd;
    let refused = bundle.call(&["run", "-d", &bundle.id]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("console socket"));
    let dir = std::fs::File::open(bundle.path()).unwrap();
    let listener = seacow_sys::unix::listen(dir.as_fd(), "console", 1).unwrap();
    bundle.ok(&["run", "-d", "--console-socket", "console", &bundle.id]);
    let connection = seacow_sys::unix::accept(listener.as_fd()).unwrap();
    let mut name = [0; 64];
    let got = seacow_sys::unix::receive(connection.as_fd(), &mut name).unwrap();
    assert_eq!((&name[..got.len], got.fds.len()), (&b"/dev/pts/0"[..], 1));
    let master = std::fs::File::from(got.fds.into_iter().next().unwrap());
    let mut line = String::new();
    std::io::BufReader::new(master).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "/dev/pts/0");
}

#[test]
fn a_created_container_with_a_terminal_lets_go_of_the_callers_streams() {
    let Some(bundle) = Bundle::new("letgo", "exec sleep 60", |spec| {
        spec.process.as_mut().unwrap().terminal = true;
    }) else {
        return;
    };
    use std::os::fd::AsFd;
    let dir = std::fs::File::open(bundle.path()).unwrap();
    let _listener = seacow_sys::unix::listen(dir.as_fd(), "console", 1).unwrap();
    // Ends only when nobody has the other end of the pipe any more.
    let creating = bundle.spawn(&["create", "--console-socket", "console", &bundle.id]);
    assert!(creating.wait_with_output().unwrap().status.success());
    assert_eq!(bundle.status(), "created");
}

#[test]
fn what_is_missing_is_said() {
    let Some(bundle) = Bundle::new("missing", "true", |_| {}) else { return };
    for words in [&["checkpoint", "x"][..], &["restore", "x"]] {
        let output = bundle.call(words);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("is not implemented"), "{words:?}");
    }
    let features: serde_json::Value = serde_json::from_str(&bundle.ok(&["features"])).unwrap();
    let linux = &features["linux"];
    for part in ["seccomp", "apparmor", "selinux", "netDevices"] {
        assert_eq!(linux[part]["enabled"], true, "{part}");
    }
    assert_eq!(linux["intelRdt"]["enabled"], false);
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    let has = |list: &serde_json::Value, word: &str| list.as_array().unwrap().iter().any(|w| w == word);
    assert!(has(&linux["namespaces"], "user") && has(&linux["namespaces"], "time"));
    assert!(has(&features["hooks"], "startContainer") && has(&features["mountOptions"], "rro"));
    assert!(has(&linux["memoryPolicy"]["modes"], "MPOL_INTERLEAVE"));
}

#[test]
fn output_of_a_terminal_in_the_foreground_has_plain_line_ends() {
    let Some(bundle) = Bundle::new("plain", "echo one; echo two", |spec| {
        spec.process.as_mut().unwrap().terminal = true;
    }) else {
        return;
    };
    assert_eq!(bundle.ok(&["run", &bundle.id]), "one\ntwo\n");
}
