//! Snapshots, rollback and clones of containers, by seacow's own client and the bare API.

use seacow_tests::{Engine, eventually};

fn engine(flags: &[&str]) -> Option<Engine> {
    let engine = Engine::start_with(flags);
    (!engine.skip_on_docker()).then_some(engine)
}

fn write(engine: &Engine, container: &str, script: &str) {
    engine.docker(&["exec", container, "sh", "-c", script]).ok();
}

fn read(engine: &Engine, container: &str, path: &str) -> String {
    engine.docker(&["exec", container, "cat", path]).ok()
}

/// The whole life, with a container that runs and one that does not, by every form of layers.
fn goes_back_and_branches(engine: &Engine) {
    engine.docker(&["run", "-d", "--name", "one", "bb", "tail", "-f", "/dev/null"]).ok();
    write(engine, "one", "echo good > /state; rm /etc/group; mkdir /dir; echo x > /dir/x");
    let before = engine.docker(&["diff", "one"]).ok();
    assert_eq!(engine.seacow(&["snapshot", "one"]).ok(), "1");
    assert_eq!(engine.docker(&["diff", "one"]).ok(), before);
    write(engine, "one", "echo bad > /state; rm -r /dir; echo new > /new");

    // Of what runs now, and of what was.
    let ids = engine.seacow(&["clone", "one", "-n", "2", "--name", "now"]).ok();
    assert_eq!(ids.lines().count(), 2);
    engine.seacow(&["clone", "one", "--name", "then", "--snapshot", "1"]).ok();
    engine.docker(&["start", "now-1", "now-2", "then"]).ok();
    assert_eq!(
        (read(engine, "now-1", "/state"), read(engine, "then", "/state")),
        ("bad".into(), "good".into())
    );
    assert_eq!(read(engine, "then", "/dir/x"), "x");
    write(engine, "now-1", "echo mine > /state");
    assert_eq!(
        (read(engine, "now-2", "/state"), read(engine, "one", "/state")),
        ("bad".into(), "bad".into())
    );
    let address = |name: &str| engine.inspect(name, "{{.NetworkSettings.IPAddress}}");
    assert_ne!(address("now-1"), address("now-2"));
    let hostname = engine.docker(&["exec", "then", "hostname"]).ok();
    assert!(engine.inspect("then", "{{.Id}}").starts_with(&hostname));
    assert_eq!(engine.inspect("then", "{{.Config.Image}}"), "bb");
    assert_eq!(engine.docker(&["logs", "then"]).ok(), "");

    let refused = engine.seacow(&["rollback", "one", "1"]);
    refused.fails(1, "use --force");
    engine.seacow(&["rollback", "--force", "one", "1"]).ok();
    assert_eq!(read(engine, "one", "/state"), "good");
    assert_eq!(engine.docker(&["diff", "one"]).ok(), before);
    engine.docker(&["stop", "-t", "0", "one"]).ok();
    assert_eq!(engine.seacow(&["snapshot", "--name", "stopped", "one"]).ok(), "stopped");
    engine.docker(&["start", "one"]).ok();
    write(engine, "one", "echo worse > /state");
    engine.docker(&["stop", "-t", "0", "one"]).ok();
    engine.seacow(&["rollback", "one", "stopped"]).ok();
    assert_eq!(engine.docker(&["diff", "one"]).ok(), before);

    // What was committed is what is seen, wherever its parts are.
    engine.docker(&["commit", "one", "kept"]).ok();
    let seen = engine.docker(&["run", "--rm", "kept", "sh", "-c", "cat /state /dir/x; ls /etc"]).ok();
    assert!(seen.starts_with("good\nx\n") && !seen.contains("group"), "{seen}");

    // The container's snapshots go with it; clones stay whole.
    engine.docker(&["rm", "-f", "one"]).ok();
    assert_eq!(engine.seacow(&["snapshot", "ls", "-q"]).ok(), "");
    assert_eq!(read(engine, "then", "/dir/x"), "x");
    engine.docker(&["rm", "-f", "now-1", "now-2", "then"]).ok();
    engine.docker(&["rmi", "kept"]).ok();
    let layers = engine.data_root().join("layers");
    eventually("only the image's layer is left", || std::fs::read_dir(&layers).unwrap().count() == 1);
}

#[test]
fn overlays_go_back_and_branch() {
    let Some(engine) = engine(&["--storage-driver=overlay"]) else { return };
    goes_back_and_branches(&engine);
}

#[test]
fn copies_go_back_and_branch() {
    let Some(engine) = engine(&["--storage-driver=copy"]) else { return };
    goes_back_and_branches(&engine);
}

#[test]
fn snapshots_have_names_and_refusals() {
    let Some(engine) = engine(&[]) else { return };
    engine.docker(&["create", "--name", "one", "bb", "true"]).ok();
    assert_eq!(engine.seacow(&["snapshot", "one"]).ok(), "1");
    assert_eq!(engine.seacow(&["snapshot", "create", "--name", "a", "one"]).ok(), "a");
    engine.seacow(&["snapshot", "--name", "a", "one"]).fails(1, "already in use");
    engine.seacow(&["snapshot", "--name", "/", "one"]).fails(1, "Invalid snapshot name");
    engine.seacow(&["snapshot", "nosuch"]).fails(1, "No such container: nosuch");
    engine.seacow(&["rollback", "one", "nosuch"]).fails(1, "No such snapshot: nosuch");
    engine.seacow(&["clone", "one", "-n", "0"]).fails(1, "cloned 1 to");
    engine.seacow(&["clone", "one", "--name", "one"]).fails(1, "already in use");
    // Two names, of which the second is taken: none is made.
    engine.docker(&["create", "--name", "c-2", "bb", "true"]).ok();
    engine.seacow(&["clone", "one", "-n", "2", "--name", "c"]).fails(1, "already in use");
    assert_eq!(engine.docker(&["ps", "-aq", "--filter", "name=c-1"]).ok(), "");
    let listed = engine.seacow(&["snapshot", "ls", "one"]).ok();
    assert!(listed.contains("CONTAINER") && listed.lines().count() == 3, "{listed}");
    engine.seacow(&["snapshot", "rm", "one", "1", "a"]).ok();
    assert_eq!(engine.seacow(&["snapshot", "ls"]).ok().lines().count(), 1);
    engine.seacow(&["snapshot", "rm", "one", "a"]).fails(1, "No such snapshot");
    let help = engine.seacow(&["snapshot", "--help"]).ok();
    assert!(help.contains("snapshot CONTAINER"), "{help}");
    let missing = engine.api("DELETE", "/containers/one/snapshots", "");
    assert_eq!(missing.status, 400);
    assert_eq!(engine.api("GET", "/v1.50/containers/nosuch/snapshots", "").status, 404);
    assert_eq!(engine.api("POST", "/containers/one/rollback?snapshot=x", "").status, 404);
}

/// A clone's anonymous volume is a copy, a named one is the same.
#[test]
fn clones_share_what_has_a_name() {
    let Some(engine) = engine(&[]) else { return };
    let run =
        ["run", "-d", "--name", "one", "-v", "named:/named", "-v", "/own", "bb", "tail", "-f", "/dev/null"];
    engine.docker(&run).ok();
    write(&engine, "one", "echo n > /named/f; echo o > /own/f");
    engine.seacow(&["clone", "--name", "two", "one"]).ok();
    engine.docker(&["start", "two"]).ok();
    assert_eq!((read(&engine, "two", "/named/f"), read(&engine, "two", "/own/f")), ("n".into(), "o".into()));
    write(&engine, "two", "echo changed > /named/f; echo changed > /own/f");
    assert_eq!(
        (read(&engine, "one", "/named/f"), read(&engine, "one", "/own/f")),
        ("changed".into(), "o".into())
    );
    engine.docker(&["rm", "-fv", "two"]).ok();
    assert_eq!(read(&engine, "one", "/own/f"), "o");
    eventually("its own volume is gone", || engine.docker(&["volume", "ls", "-q"]).ok().lines().count() == 2);
}

/// What is shared and owned after a snapshot, and that no byte is counted twice.
#[test]
fn the_ledger_knows_snapshots() {
    let Some(engine) = engine(&["--storage-driver=overlay"]) else { return };
    engine.docker(&["run", "-d", "--name", "one", "bb", "tail", "-f", "/dev/null"]).ok();
    write(&engine, "one", "dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null");
    engine.docker(&["stop", "-t", "0", "one"]).ok();
    let size = engine.docker(&["ps", "-as", "--format", "{{.Size}}"]).ok();
    engine.seacow(&["snapshot", "one"]).ok();
    assert_eq!(engine.docker(&["ps", "-as", "--format", "{{.Size}}"]).ok(), size);
    let own = |name: &str| -> u64 {
        let rows = engine.seacow(&["cow", "--format", "{{.Name}} {{.OwnBytes}}"]).ok();
        let row = rows.lines().find_map(|row| row.strip_prefix(&format!("{name} "))).map(str::to_owned);
        row.unwrap_or_else(|| panic!("no {name} in {rows}")).parse().unwrap()
    };
    assert!(own("one") < 1 << 20, "{}", own("one"));
    assert!((8 << 20..9 << 20).contains(&own("one@1")), "{}", own("one@1"));
    engine.seacow(&["clone", "one", "-n", "3"]).ok();
    let shared = engine.seacow(&["cow", "--format", "{{.Name}}: {{.SharedWith}}"]).ok();
    let row = shared.lines().find(|row| row.starts_with("one@1:")).unwrap();
    // The image, the container and its clones.
    assert_eq!(row.split(',').count(), 5, "{row}");
}

/// A daemon that is killed while a container is frozen for a snapshot leaves none frozen, and no half
/// of anything.
#[test]
fn a_killed_daemon_leaves_nothing_frozen_and_nothing_half() {
    let Some(mut engine) = engine(&[]) else { return };
    engine.docker(&["run", "-d", "--name", "one", "bb", "tail", "-f", "/dev/null"]).ok();
    write(&engine, "one", "for i in $(seq 400); do echo $i > /f$i; done");
    for round in 0..12u64 {
        let mut taking = engine
            .seacow_command(&["snapshot", "one"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The moment is what is tried: nothing is waited for.
        std::thread::sleep(std::time::Duration::from_millis(3 + round * 9));
        engine.kill_daemon();
        taking.wait().unwrap();
        engine.restart_daemon();
        assert_eq!(engine.inspect("one", "{{.State.Status}}"), "running", "round {round}");
        assert_eq!(read(&engine, "one", "/f400"), "400");
    }
    let names = engine.seacow(&["snapshot", "ls", "-q", "one"]).ok();
    for name in names.lines() {
        let id = engine.seacow(&["clone", "one", "--snapshot", name]).ok();
        engine.docker(&["start", &id]).ok();
        assert_eq!(read(&engine, &id, "/f400"), "400");
        engine.docker(&["rm", "-f", &id]).ok();
    }
    // The image's, and one for each.
    let layers = engine.data_root().join("layers");
    let count = names.lines().count() + 1;
    eventually("no layer of half a snapshot", || std::fs::read_dir(&layers).unwrap().count() == count);
    assert!(std::fs::read_dir(engine.data_root().join("drafts")).unwrap().next().is_none());
}

/// Many at the same time on one container, with verbs between.
#[test]
fn snapshots_of_one_container_take_turns() {
    let Some(engine) = engine(&[]) else { return };
    engine.docker(&["run", "-d", "--name", "one", "bb", "tail", "-f", "/dev/null"]).ok();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..4 {
                    write(engine, "one", &format!("echo {round} > /w{n}"));
                    engine.seacow(&["snapshot", "--name", &format!("s{n}-{round}"), "one"]).ok();
                    let id = engine.seacow(&["clone", "one"]).ok();
                    engine.docker(&["rm", "-f", &id]).ok();
                }
            });
        }
    });
    assert_eq!(engine.seacow(&["snapshot", "ls", "-q", "one"]).ok().lines().count(), 16);
    for n in 0..4 {
        let id = engine.seacow(&["clone", "one", "--snapshot", &format!("s{n}-3")]).ok();
        engine.docker(&["start", &id]).ok();
        assert_eq!(read(&engine, &id, &format!("/w{n}")), "3");
        engine.docker(&["rm", "-f", &id]).ok();
    }
    assert_eq!(engine.inspect("one", "{{.State.Status}}"), "running");
}
