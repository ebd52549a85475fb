//! Containers with a shadow: like others to every client.

use seacow_tests::{Engine, eventually};

#[test]
fn a_forkable_container_is_like_others() {
    let engine = Engine::start();
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done";
    // Its entry point executes on, whose pid on the host changes with it.
    let entry = format!("exec sh -c \"{script}\"");
    let run = ["run", "-d", "--name", "box", "--label", "seacow.forkable=true", "bb", "sh", "-c", &entry];
    engine.docker(&run).ok();
    eventually("its first line", || engine.docker(&["logs", "box"]).ok() == "up");
    let command = || {
        let pid = engine.inspect("box", "{{.State.Pid}}");
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
    };
    eventually("inspect tells the last of its programs", || command().contains("trap"));
    let top = engine.docker(&["top", "box"]).ok();
    assert_eq!(top.matches("echo up").count(), 1, "{top}");
    let inside = engine.docker(&["exec", "box", "sh", "-c", "cat /proc/1/cmdline; echo $PPID"]).ok();
    assert!(inside.contains("echo up") && inside.ends_with('0'), "{inside}");
    engine.docker(&["pause", "box"]).ok();
    engine.docker(&["unpause", "box"]).ok();
    engine.docker(&["stop", "-t", "10", "box"]).ok();
    assert_eq!(engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 9");
    engine.docker(&["start", "box"]).ok();
    engine.docker(&["kill", "box"]).ok();
    eventually("killed", || engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    engine.docker(&["rm", "box"]).ok();
    // Of what it may use of memory no more than others.
    let hungry = ["run", "--rm", "--label", "seacow.forkable=true", "-m", "16m", "bb", "tail", "/dev/zero"];
    engine.docker(&hungry).fails(137, "");
}

#[test]
fn what_cannot_be_started_says_so() {
    let engine = Engine::start();
    let forkable = |rest: &[&str]| {
        let mut all = vec!["run", "--rm", "--label", "seacow.forkable=true"];
        all.extend(rest);
        engine.docker(&all)
    };
    forkable(&["bb", "/nosuch"]).fails(127, "/nosuch");
    forkable(&["bb", "sh", "-c", "exit 5"]).fails(5, "");
    assert_eq!(forkable(&["--user", "1000:1000", "bb", "id", "-u"]).ok(), "1000");
    assert_eq!(forkable(&["--read-only", "bb", "sh", "-c", "touch /x || echo no 2>/dev/null"]).ok(), "no");
}
