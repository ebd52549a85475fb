//! Containers with a shadow: like others to every client.

use seacow_tests::{Engine, eventually};

#[test]
fn a_forkable_container_is_like_others() {
    let engine = Engine::forking();
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
    let engine = Engine::forking();
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

#[test]
fn forks_of_it_and_of_its_forks_copy_nothing() {
    let engine = Engine::forking();
    if engine.skip_on_docker() {
        return;
    }
    let counter = "i=0; while :; do read -t 0.05 x; i=$((i+1)); echo $i; done";
    let run = ["run", "-di", "--name", "src", "--forkable", "bb", "sh", "-c", counter];
    engine.seacow(&run).ok();
    let numbers = |name: &str| -> Vec<u64> {
        let text = engine.docker(&["logs", name]).ok();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let counted = |name: &str, more: usize| {
        let had = numbers(name).len();
        eventually("it counts on", || numbers(name).len() >= had + more);
        let all = numbers(name);
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{name}: {all:?}");
    };
    counted("src", 3);
    for (source, name) in [("src", "child"), ("child", "grandchild"), ("src", "second")] {
        let answer = engine.api("POST", &format!("/containers/{source}/fork?name={name}"), "").body;
        assert!(answer.contains("\"CopiedBytes\":0"), "{source}: {answer}");
        counted(name, 3);
        counted(source, 3);
        let top = engine.docker(&["top", source]).ok();
        assert_eq!(top.lines().count(), 2, "{top}");
    }
    engine.docker(&["rm", "-f", "src", "child"]).ok();
    counted("grandchild", 3);
    counted("second", 3);
}
