//! What scripts written for runc rely on: words, texts, exit codes, documents.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use bundle::Bundle;

fn call(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seacow-runtime")).args(words).stdin(Stdio::null()).output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_verb_explains_itself() {
    let (general, _) = texts(&call(&["--help"]));
    let mut lines = general.lines();
    assert_eq!(lines.next(), Some("NAME:"));
    assert_eq!(lines.next(), Some("   seacow-runtime - Open Container Initiative runtime"));
    for verb in [
        "checkpoint",
        "create",
        "delete",
        "events",
        "exec",
        "features",
        "kill",
        "list",
        "pause",
        "ps",
        "restore",
        "resume",
        "run",
        "spec",
        "start",
        "state",
        "update",
    ] {
        assert!(general.contains(&format!("   {verb} ")), "{verb}");
        for help in [&[verb, "--help"][..], &[verb, "-h"], &["help", verb]] {
            let output = call(help);
            let (out, _) = texts(&output);
            assert!(output.status.success(), "{help:?}");
            let second = out.lines().nth(1).unwrap_or_default().to_owned();
            assert!(second.starts_with(&format!("   seacow-runtime {verb} - ")), "{second}");
        }
    }
    let update = texts(&call(&["update", "-h"])).0;
    for flag in ["--memory-swap", "--cpu-rt-runtime", "--cpuset-mems", "--pids-limit", "--resources", "-r"] {
        assert!(update.contains(flag), "{flag}");
    }
}

#[test]
fn a_link_is_called_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("runc");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_seacow-runtime"), &link).unwrap();
    let output = Command::new(&link).arg("--version").output().unwrap();
    let (out, _) = texts(&output);
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("runc version "), "{out}");
    assert!(lines[1].starts_with("commit: ") && lines[2].starts_with("spec: "), "{out}");
}

#[test]
fn wrong_words() {
    for (words, status, text) in [
        (&["foo"][..], 3, "No help topic for 'foo'"),
        (&["foo", "-h"], 3, "No help topic for 'foo'"),
        (&["create"], 1, "\"create\" requires exactly 1 argument(s)"),
        (&["start", "a", "b"], 1, "requires exactly 1"),
        (&["state", "--nosuch", "a"], 1, "flag provided but not defined: -nosuch"),
        (&["list", "-f", "xml"], 1, "invalid format option"),
        (&["--log-format", "xml", "list"], 1, "invalid log-format"),
        (&["--log", "/nosuch/dir/log", "list"], 1, "/nosuch/dir/log"),
        (&["state", "a/b"], 1, "invalid container id"),
        (&["state", ".."], 1, "invalid container id"),
        (&["--root", "/nosuch", "state", "a"], 1, "does not exist"),
        (&["--root", "/nosuch", "delete", "a"], 1, "does not exist"),
        (&["--root", "/nosuch", "exec", "a", "true"], 255, "does not exist"),
        (&["--root", "/nosuch", "exec", "a"], 255, "command"),
        (&["--root", "/nosuch", "kill", "a"], 1, "does not exist"),
    ] {
        let output = call(words);
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {err}");
        assert!(err.contains(text), "{words:?}: {err}");
        assert_eq!(out, "", "{words:?}");
    }
    assert!(call(&["--root", "/nosuch", "delete", "--force", "a"]).status.success());
    assert_eq!(texts(&call(&["--root", "/nosuch", "list", "-f", "json"])).0, "[]\n");
}

#[test]
fn a_spec_can_be_run_and_is_not_overwritten() {
    let Some(bundle) = Bundle::new("spec", "true", |_| {}) else { return };
    let config = bundle.path().join("config.json");
    std::fs::remove_file(&config).unwrap();
    bundle.ok(&["spec"]);
    assert!(texts(&bundle.call(&["spec"])).1.contains("exists"));
    let text = std::fs::read_to_string(&config).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(spec["process"]["args"], serde_json::json!(["sh"]));
    spec["process"]["args"] = serde_json::json!(["echo", "hello"]);
    spec["process"]["terminal"] = false.into();
    std::fs::write(&config, spec.to_string()).unwrap();
    assert_eq!(bundle.ok(&["run", &bundle.id]), "hello\n");
    std::fs::remove_file(&config).unwrap();
    bundle.ok(&["spec", "--rootless"]);
    let spec: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    let kinds: Vec<_> =
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].clone()).collect();
    assert!(kinds.contains(&"user".into()) && !kinds.contains(&"network".into()));
    assert_eq!(spec["linux"]["uidMappings"][0]["size"], 1);
}

#[test]
fn debug_tells_the_steps_where_the_log_is() {
    let Some(bundle) = Bundle::new("debug", "true", |_| {}) else { return };
    let output = bundle.call(&["--debug", "run", &bundle.id]);
    let (_, err) = texts(&output);
    assert!(err.contains("level=debug") && err.contains("child process in init()"), "{err}");
    let output = bundle.call(&["--debug", "--log", "log", "--log-format", "json", "run", &bundle.id]);
    assert_eq!(texts(&output).1, "");
    let log = std::fs::read_to_string(bundle.path().join("log")).unwrap();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "debug");
    }
    assert!(log.contains("closing the pipe to signal completion"));
}

#[test]
fn states_and_lists() {
    let Some(bundle) = Bundle::new("states", "exec sleep 60", |spec| {
        spec.annotations.insert("org.seacow.test".into(), "1".into());
    }) else {
        return;
    };
    let id = bundle.id.as_str();
    bundle.ok(&["run", "-d", id]);
    let state: serde_json::Value = serde_json::from_str(&bundle.ok(&["state", id])).unwrap();
    assert_eq!((&state["id"], &state["status"]), (&id.into(), &"running".into()));
    assert_eq!(state["annotations"]["org.seacow.test"], "1");
    assert_eq!(state["owner"], "root");
    assert!(state["pid"].as_i64().unwrap() > 1);
    let json = bundle.ok(&["list", "--format", "json"]);
    assert!(json.starts_with("[{\"ociVersion\":\"") && json.contains(&format!("\"id\":\"{id}\",\"pid\":")));
    let table = bundle.ok(&["list"]);
    assert!(table.starts_with("ID "), "{table}");
    assert!(table.lines().nth(1).unwrap().contains("running"));
    let ps = bundle.ok(&["ps", id]);
    assert!(ps.lines().next().unwrap().contains("UID") && ps.contains("sleep 60"), "{ps}");
    assert!(bundle.ok(&["ps", id, "-e", "-x"]).contains("COMMAND"));
    assert!(!bundle.call(&["ps", id, "--nosuch"]).status.success());
    bundle.ok(&["kill", id, "KILL"]);
    bundle.wait_for("stopped");
    assert!(texts(&bundle.call(&["kill", id])).1.contains("container not running"));
    bundle.ok(&["kill", "-a", id, "0"]);
    assert_eq!(bundle.ok(&["ps", id]).lines().count(), 1);
    assert!(texts(&bundle.call(&["exec", id, "true"])).1.contains("stopped container"));
    assert!(texts(&bundle.call(&["events", id])).1.contains("not running"));
    assert!(texts(&bundle.call(&["update", "--pids-limit", "5", id])).1.contains("not running"));
}

#[test]
fn limits_are_updated_by_flags() {
    let Some(bundle) = Bundle::new("update", "exec sleep 60", |_| {}) else { return };
    let id = bundle.id.as_str();
    bundle.ok(&["run", "-d", id]);
    bundle.ok(&["update", id, "--pids-limit", "33", "--memory", "50M", "--cpu-share", "200"]);
    let stats: serde_json::Value = serde_json::from_str(&bundle.ok(&["events", "--stats", id])).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&"stats".into(), &id.into()));
    assert_eq!(stats["data"]["pids"]["limit"], 33);
    assert_eq!(stats["data"]["pids"]["current"], 1);
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 50 << 20);
    bundle.ok(&["update", "--memory", "-1", id]);
    let stats: serde_json::Value = serde_json::from_str(&bundle.ok(&["events", "--stats", id])).unwrap();
    assert!(stats["data"]["memory"]["usage"]["limit"].as_u64().unwrap() > 1 << 50);
    for (flag, value) in [("--memory", "many"), ("--cpu-quota", "x"), ("--pids-limit", "1.5")] {
        assert!(!bundle.call(&["update", flag, value, id]).status.success(), "{flag}");
    }
    let refused = bundle.call(&["update", "--l3-cache-schema", "L3:0=f", id]);
    assert!(texts(&refused).1.contains("is not implemented"));
}

#[test]
fn events_come_until_the_container_ends() {
    let Some(bundle) = Bundle::new("events", "read x", |_| {}) else { return };
    let id = bundle.id.as_str();
    bundle.ok(&["create", id]);
    let mut events = bundle.spawn(&["events", "--interval", "20ms", id]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(events.stdout.take().unwrap()));
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{id}\",\"data\":{{")), "{line}");
    }
    bundle.ok(&["delete", "-f", id]);
    for line in lines {
        line.unwrap();
    }
    assert!(events.wait().unwrap().success());
}

#[test]
fn an_exec_waits_for_the_end_of_the_pause_when_asked_to() {
    let Some(bundle) = Bundle::new("ignore", "exec sleep 60", |_| {}) else { return };
    let id = bundle.id.as_str();
    bundle.ok(&["run", "-d", id]);
    bundle.ok(&["pause", id]);
    let refused = bundle.call(&["exec", id, "true"]);
    assert_eq!(refused.status.code(), Some(255));
    assert!(texts(&refused).1.contains("cannot exec in a paused container"));
    let waiting = bundle.spawn(&["exec", "--ignore-paused", id, "echo", "ok"]);
    bundle.ok(&["resume", id]);
    assert_eq!(texts(&waiting.wait_with_output().unwrap()).0, "ok\n");
    bundle.ok(&["pause", id]);
    bundle.ok(&["kill", id, "KILL"]);
    bundle.wait_for("stopped");
}

#[test]
fn two_containers_may_share_a_cgroup() {
    let Some(first) = Bundle::new("share1", "exec sleep 60", |_| {}) else { return };
    let path = format!("/{}", first.id);
    let Some(second) =
        Bundle::new("share2", "exec sleep 60", |spec| spec.linux.as_mut().unwrap().cgroups_path = path)
    else {
        return;
    };
    first.ok(&["run", "-d", &first.id]);
    let output = second.call(&["run", "-d", &second.id]);
    assert!(output.status.success());
    assert!(texts(&output).1.contains("cgroup is not empty"));
    second.ok(&["delete", "-f", &second.id]);
    assert_eq!(first.status(), "running", "the other's end is not its end");
}

#[test]
fn descriptors_are_handed_on_only_when_they_are_there() {
    let Some(bundle) = Bundle::new("fds", "exec sleep 60", |_| {}) else { return };
    let output = bundle.call(&["run", "--preserve-fds", "9", &bundle.id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("preserve descriptor"), "{:?}", texts(&output));
    assert!(!bundle.call(&["state", &bundle.id]).status.success(), "nothing was made");
}

#[test]
fn an_exec_runs_in_a_cgroup_below() {
    let Some(bundle) = Bundle::new("sub", "exec sleep 60", |_| {}) else { return };
    let id = bundle.id.as_str();
    bundle.ok(&["run", "-d", id]);
    for (flag, text) in [
        ("..", "cgroup path .. is not a sub cgroup path"),
        ("nonexistent", "/nonexistent/cgroup.procs: no such file"),
        ("whaaat:/", "unknown controller whaaat"),
    ] {
        let refused = bundle.call(&["exec", "--cgroup", flag, id, "true"]);
        assert_eq!(refused.status.code(), Some(255));
        assert!(texts(&refused).1.contains(text), "{flag}: {:?}", texts(&refused));
    }
    let top = PathBuf::from("/sys/fs/cgroup");
    let (dir, flag) = if top.join("memory").is_dir() {
        (top.join("memory").join(id).join("below"), "memory:below")
    } else {
        (top.join(id).join("below"), "below")
    };
    std::fs::create_dir(&dir).unwrap();
    let seen = bundle.ok(&["exec", "--cgroup", flag, id, "cat", "/proc/self/cgroup"]);
    assert!(seen.contains("/below\n"), "{seen}");
    let seen = bundle.ok(&["exec", "--cgroup", "/", id, "cat", "/proc/self/cgroup"]);
    assert!(!seen.contains("below"), "{seen}");
    bundle.ok(&["delete", "-f", id]);
    assert!(!dir.exists());
}

#[test]
fn without_pivot_root_there_is_no_bare_proc() {
    // In a user namespace of its own a process may mount a /proc, unless one with masks is all it sees.
    let script = "unshare -mrpf sh -c 'mount -t proc none /proc' && echo mounted || echo refused; pwd";
    let Some(bundle) = Bundle::new("nopivot", script, |spec| {
        let capabilities = spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
        capabilities.bounding.push("CAP_SETFCAP".into());
        capabilities.permitted.push("CAP_SETFCAP".into());
    }) else {
        return;
    };
    let output = bundle.call(&["run", "--no-pivot", &bundle.id]);
    assert_eq!(texts(&output).0, "refused\n/\n", "{:?}", texts(&output));
}

#[test]
fn cgroups_below_an_empty_cpuset_and_limits_taken_back() {
    let Some(bundle) = Bundle::new("pod", "exec sleep 60", |_| {}) else { return };
    let top = PathBuf::from("/sys/fs/cgroup/cpuset");
    if !top.is_dir() {
        eprintln!("SKIP cgroups_below_an_empty_cpuset_and_limits_taken_back: cgroup version 2");
        return;
    }
    // A parent that somebody else made admits nobody until its cpuset is filled.
    let id = bundle.id.as_str();
    let pod = format!("{id}-pod");
    std::fs::create_dir(top.join(&pod)).unwrap();
    let config = bundle.path().join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spec["linux"]["cgroupsPath"] = format!("/{pod}/{id}").into();
    spec["linux"]["resources"] = serde_json::json!({ "memory": { "limit": 33_554_432, "swap": 67_108_864 } });
    std::fs::write(&config, spec.to_string()).unwrap();
    bundle.ok(&["run", "-d", id]);
    bundle.ok(&["update", "--memory", "-1", id]);
    bundle.ok(&["delete", "-f", id]);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(&pod));
    }
    assert!(!top.join(&pod).exists());
}

#[test]
fn a_read_only_dev_has_its_devices() {
    let script = "echo x > /dev/null && touch /dev/new 2>&1; tty";
    let Some(bundle) = Bundle::new("rodev", script, |spec| {
        for mount in spec.mounts.iter_mut().filter(|m| m.destination == "/dev") {
            mount.options.push("ro".into());
        }
    }) else {
        return;
    };
    let (out, _) = texts(&bundle.call(&["run", &bundle.id]));
    assert!(out.contains("Read-only file system"), "{out}");
}

#[test]
fn a_kill_for_memory_is_told() {
    let script = "x=$(head -c 60000000 /dev/urandom); exec sleep 60";
    let Some(bundle) = Bundle::new("oom", "exec sleep 60", |spec| {
        let memory = serde_json::json!({ "memory": { "limit": 16_777_216, "swap": 16_777_216 } });
        spec.linux.as_mut().unwrap().resources = Some(serde_json::from_value(memory).unwrap());
    }) else {
        return;
    };
    let id = bundle.id.as_str();
    bundle.ok(&["run", "-d", id]);
    let mut events = bundle.spawn(&["events", "--interval", "20ms", id]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(events.stdout.take().unwrap()));
    // Statistics come when the watch is there.
    assert!(lines.next().unwrap().unwrap().contains("stats"));
    let killed = bundle.call(&["exec", id, "sh", "-c", script]);
    assert!(!killed.status.success());
    let told = format!("{{\"type\":\"oom\",\"id\":\"{id}\"}}");
    assert!(lines.by_ref().any(|line| line.unwrap() == told));
    bundle.ok(&["delete", "-f", id]);
    drop(lines);
    let _ = events.wait();
}
