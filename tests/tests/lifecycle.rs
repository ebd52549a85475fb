//! create, start, stop, kill, pause, rename, wait, top, ps, inspect, rm, events.

use seacow_tests::{Engine, eventually};

#[test]
fn states_follow_each_other() {
    let engine = Engine::start();
    engine
        .docker(&[
            "create",
            "--name",
            "box",
            "bb",
            "sh",
            "-c",
            "trap 'exit 9' TERM; while :; do sleep 0.05; done",
        ])
        .ok();
    let state = || engine.inspect("box", "{{.State.Status}}");
    assert_eq!(state(), "created");
    engine.docker(&["start", "box"]).ok();
    assert_eq!(state(), "running");
    engine.docker(&["start", "box"]).ok();
    engine.docker(&["pause", "box"]).ok();
    assert_eq!(state(), "paused");
    engine.docker(&["pause", "box"]).fails(1, "is already paused");
    engine.docker(&["exec", "box", "true"]).fails(1, "is paused, unpause the container before exec");
    engine.docker(&["unpause", "box"]).ok();
    assert_eq!(state(), "running");
    eventually("the trap is set", || {
        engine.docker(&["stop", "-t", "5", "box"]).ok();
        true
    });
    assert_eq!(engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 9");
    engine.docker(&["stop", "box"]).ok();
    engine.docker(&["kill", "box"]).fails(1, "is not running");
    engine.docker(&["restart", "box"]).ok();
    assert_eq!(state(), "running");
    engine.docker(&["kill", "-s", "KILL", "box"]).ok();
    eventually("killed", || engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    engine.docker(&["rm", "box"]).ok();
    engine.docker(&["start", "box"]).fails(1, "No such container: box");
}

#[test]
fn stop_kills_what_does_not_listen() {
    let engine = Engine::start();
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "deaf",
            "bb",
            "sh",
            "-c",
            "trap '' TERM; while :; do sleep 0.1; done",
        ])
        .ok();
    let start = std::time::Instant::now();
    engine.docker(&["stop", "-t", "1", "deaf"]).ok();
    assert!(start.elapsed().as_millis() >= 900);
    assert_eq!(engine.inspect("deaf", "{{.State.ExitCode}}"), "137");
}

#[test]
fn the_stop_signal_is_the_image_s_or_the_user_s() {
    let engine = Engine::start();
    let script = "trap 'exit 3' USR1; touch /ready; while :; do sleep 0.05; done";
    engine.docker(&["run", "-d", "--name", "box", "--stop-signal", "USR1", "bb", "sh", "-c", script]).ok();
    eventually("the trap is set", || engine.docker(&["exec", "box", "ls", "/ready"]).code == 0);
    engine.docker(&["stop", "box"]).ok();
    assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "3");
    engine.docker(&["kill", "-s", "NOSUCH", "box"]).code(1);
}

#[test]
fn wait_gives_the_status() {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "box", "bb", "sh", "-c", "sleep 0.3; exit 4"]).ok();
    assert_eq!(engine.docker(&["wait", "box"]).ok(), "4");
    assert_eq!(engine.docker(&["wait", "box"]).ok(), "4");
    engine.docker(&["wait", "nosuch"]).fails(1, "No such container: nosuch");
}

#[test]
fn names_change_and_ids_shorten() {
    let engine = Engine::start();
    let id = engine.docker(&["create", "--name", "old", "bb", "true"]).ok();
    engine.docker(&["rename", "old", "new"]).ok();
    assert_eq!(engine.inspect("new", "{{.Name}}"), "/new");
    assert_eq!(engine.inspect(&id[..6], "{{.Name}}"), "/new");
    engine.docker(&["create", "--name", "other", "bb", "true"]).ok();
    engine.docker(&["rename", "other", "new"]).fails(1, "is already in use by container");
    engine.docker(&["rename", "other", "old"]).ok();
}

#[test]
fn lists_and_their_filters() {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "up", "--label", "a=b", "bb", "sleep", "1000"]).ok();
    engine.docker(&["run", "--name", "down", "bb", "sh", "-c", "exit 3"]).code(3);
    let names = |args: &[&str]| {
        let mut all = vec!["ps", "--format", "{{.Names}}"];
        all.extend(args);
        let mut names: Vec<String> = engine.docker(&all).ok().lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&[]), "up");
    assert_eq!(names(&["-a"]), "down up");
    assert_eq!(names(&["-a", "-f", "status=exited"]), "down");
    assert_eq!(names(&["-a", "-f", "label=a=b"]), "up");
    assert_eq!(names(&["-a", "-f", "label=a"]), "up");
    assert_eq!(names(&["-a", "-f", "name=ow"]), "down");
    assert_eq!(names(&["-a", "-f", "exited=3"]), "down");
    assert_eq!(names(&["-a", "-f", "ancestor=bb"]), "down up");
    assert_eq!(names(&["-n", "1"]), "down");
    let table = engine.docker(&["ps", "-a"]).ok();
    assert!(
        table.contains("Exited (3)") && table.contains("Up ") && table.contains("\"sleep 1000\""),
        "{table}"
    );
    engine.docker(&["ps", "-f", "nope=1"]).fails(1, "nvalid filter 'nope'");
}

#[test]
fn top_shows_the_container_s_processes() {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    let table = engine.docker(&["top", "box"]).ok();
    assert!(table.starts_with("UID") && table.contains("sleep 1000"), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    let table = engine.docker(&["top", "box", "-o", "pid,comm"]).ok();
    assert!(table.lines().nth(1).unwrap().contains("sleep"), "{table}");
}

#[test]
fn events_in_docker_s_order() {
    let engine = Engine::start();
    engine.docker(&["run", "--rm", "--name", "eve", "bb", "true"]).ok();
    let until = engine.docker(&["run", "--rm", "bb", "date", "+%s"]).ok();
    // The list ends by itself when that time has come.
    let until = (until.parse::<u64>().unwrap() + 1).to_string();
    let events = engine
        .docker(&[
            "events",
            "--since",
            "0",
            "--until",
            &until,
            "--filter",
            "container=eve",
            "--format",
            "{{.Type}} {{.Action}}",
        ])
        .ok();
    let containers: Vec<_> = events.lines().filter(|line| line.starts_with("container")).collect();
    assert_eq!(
        containers,
        ["container create", "container attach", "container start", "container die", "container destroy"],
        "{events}"
    );
}

#[test]
fn pruning_takes_what_is_stopped() {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "up", "bb", "sleep", "1000"]).ok();
    let id = engine.docker(&["create", "--name", "never", "bb", "true"]).ok();
    let out = engine.docker(&["container", "prune", "-f"]).ok();
    assert!(out.contains(&id), "{out}");
    assert_eq!(engine.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "up");
}

#[test]
fn attach_and_start_attached() {
    let engine = Engine::start();
    engine
        .docker(&[
            "create",
            "--name",
            "box",
            "-i",
            "bb",
            "sh",
            "-c",
            "echo first; read x; echo got $x; exit 6",
        ])
        .ok();
    let done = engine.docker_with_input(&["start", "-a", "-i", "box"], b"word\n");
    done.code(6);
    assert_eq!(done.out, "first\ngot word\n");
    let script = "while [ ! -e /go ]; do sleep 0.05; done; echo late; exit 2";
    engine.docker(&["run", "-d", "--name", "dee", "bb", "sh", "-c", script]).ok();
    std::thread::scope(|scope| {
        let attached = scope.spawn(|| engine.docker(&["attach", "dee"]));
        let told = ["events", "--since", "1", "--until", "0s", "--filter", "event=attach"];
        let told = [&told[..], &["--filter", "container=dee"]].concat();
        eventually("the client is attached", || !engine.docker(&told).ok().is_empty());
        // It may end, and take the exec with it, before the exec has.
        let told = engine.docker(&["exec", "dee", "touch", "/go"]);
        assert!([0, 137].contains(&told.code), "{told:?}");
        let done = attached.join().unwrap();
        done.code(2);
        assert_eq!(done.out, "late\n");
    });
}

#[test]
fn the_first_byte_is_never_lost() {
    let engine = Engine::start();
    for _ in 0..50 {
        assert_eq!(engine.docker(&["run", "--rm", "--network", "none", "bb", "echo", "x"]).ok(), "x");
    }
}
