//! Another daemon takes over from one that was killed: a newer one, from shims of an earlier version.

use seacow_tests::{Engine, OlderShim, eventually};

fn exec_id(engine: &Engine, name: &str) -> String {
    let ids = engine.inspect(name, "{{json .ExecIDs}}");
    ids.trim_matches(['[', ']', '"']).to_owned()
}

#[test]
fn an_upgraded_daemon_takes_over_streams_execs_and_statuses() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let script = "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; exit 23";
    engine.docker(&["run", "-d", "--name", "box", "bb", "sh", "-c", script]).ok();
    let mut exec = engine.docker_running(&["exec", "-i", "box", "sh", "-c", "cat; exit 9"]);
    exec.send("one\n");
    exec.read_until("one\n");
    let id = exec_id(&engine, "box");
    engine.kill_daemon();
    // Nobody is there, and the client's stream goes on.
    exec.send("two\n");
    exec.read_until("two\n");
    engine.upgrade();
    engine.restart_daemon();
    exec.send("three\n");
    exec.read_until("three\n");
    let exec_now = || engine.api("GET", &format!("/v1.45/exec/{id}/json"), "").json();
    assert_eq!(exec_now()["Running"], true);
    // Its client has lost the connection that would have told it the status.
    exec.finish();
    eventually("the exec's status is told by the new daemon", || {
        let exec = exec_now();
        exec["ExitCode"] == 9 && exec["Running"] == false
    });
    // It may end, and take the exec with it, before the exec has.
    let told = engine.docker(&["exec", "box", "touch", "/go"]);
    assert!([0, 137].contains(&told.code), "{told:?}");
    assert_eq!(engine.docker(&["wait", "box"]).ok(), "23");
    assert_eq!(engine.docker(&["logs", "box"]).ok(), "before\nafter");
    assert_eq!(engine.docker(&["run", "--rm", "bb", "echo", "new"]).ok(), "new");
}

#[test]
fn a_newer_daemon_serves_an_older_shim() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let script = "trap 'echo bye; exit 7' TERM; echo up; while read line; do echo got $line; done";
    let id = engine.docker(&["run", "-di", "--name", "box", "bb", "sh", "-c", script]).ok();
    engine.kill_daemon();
    let shim = OlderShim::stand_in(&engine.exec_root().join("c").join(&id));
    engine.restart_daemon();
    assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
    assert_eq!(shim.greeted(), 1, "the daemon was told an older version");
    let mut client = engine.docker_running(&["attach", "box"]);
    client.send("it\n");
    client.read_until("got it\n");
    let done = engine.docker(&["exec", "box", "sh", "-c", "echo in; echo err >&2; exit 4"]);
    done.code(4);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("in\n", "err\n"));
    assert!(engine.docker(&["top", "box"]).ok().contains("read line"));
    engine.docker(&["pause", "box"]).ok();
    engine.docker(&["unpause", "box"]).ok();
    engine.docker(&["update", "--memory", "100m", "--memory-swap", "200m", "box"]).ok();
    engine.seacow(&["fork", "box"]).fails(1, "an older seacow started it, whose shim cannot fork");
    // And the daemon after that.
    engine.kill_daemon();
    engine.restart_daemon();
    let mut client = engine.docker_running(&["attach", "box"]);
    client.send("again\n");
    client.read_until("got again\n");
    assert_eq!(shim.greeted(), 2);
    engine.docker(&["kill", "-s", "TERM", "box"]).ok();
    // A shell that waits for a line looks at its traps after it; one that does not has ended.
    drop(std::io::Write::write_all(client.stdin(), b"last\n"));
    assert_eq!(engine.docker(&["wait", "box"]).ok(), "7");
    assert!(engine.docker(&["logs", "box"]).ok().ends_with("bye"));
    // A new shim, of the daemon's own version.
    engine.docker(&["start", "box"]).ok();
    engine.docker(&["rm", "-f", "box"]).ok();
}
