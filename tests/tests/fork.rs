//! Forks of running containers, by seacow's own client, stock clients and the bare API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use seacow_tests::{Engine, eventually, patience};

/// Counts without any process but itself: it waits for a line that does not come.
const COUNTER: &str = "i=0; while :; do read -t 0.05 x; i=$((i+1)); echo $i; done";

fn engine() -> Option<Engine> {
    let engine = Engine::forking();
    (!engine.skip_on_docker()).then_some(engine)
}

fn count(engine: &Engine, name: &str, options: &[&str]) {
    let run = [&["run", "-di", "--name", name], options, &["bb", "sh", "-c", COUNTER]].concat();
    engine.docker(&run).ok();
    counted(engine, name, 3);
}

/// The numbers that it has printed.
fn numbers(engine: &Engine, name: &str) -> Vec<u64> {
    engine.docker(&["logs", name]).ok().lines().map(|line| line.parse().unwrap()).collect()
}

/// Waits until it has printed a number, and checks that none is left out on the way.
fn counted(engine: &Engine, name: &str, to: u64) -> Vec<u64> {
    eventually("it counts", || numbers(engine, name).last().is_some_and(|last| *last >= to));
    let all = numbers(engine, name);
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{name}: {all:?}");
    all
}

/// Waits until it has counted on.
fn goes_on(engine: &Engine, name: &str) {
    let last = numbers(engine, name).last().copied().unwrap_or(0);
    counted(engine, name, last.max(1) + 3);
}

fn exec(engine: &Engine, name: &str, script: &str) -> String {
    engine.docker(&["exec", name, "sh", "-c", script]).ok()
}

/// What exists of containers, apart from those that are kept prepared.
fn directories(engine: &Engine, ids: &[String]) -> Vec<String> {
    let list = |dir: std::path::PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).filter(|id| ids.contains(id)).collect()
    };
    [
        engine.exec_root().join("c"),
        engine.data_root().join("snapshots"),
        engine.data_root().join("containers"),
    ]
    .into_iter()
    .flat_map(list)
    .collect()
}

#[test]
fn clones_go_on_with_everything_of_their_own() {
    let Some(mut engine) = engine() else { return };
    let settings = ["--sysctl", "kernel.shmmax=1000000", "--sysctl", "net.ipv4.conf.eth0.forwarding=0"];
    count(&engine, "src", &[&["-l", "tier=db", "-m", "64m", "-h", "given"], &settings[..]].concat());
    exec(&engine, "src", "echo before > /file; rm /etc/group");
    let before = *numbers(&engine, "src").last().unwrap();
    assert_eq!(engine.seacow(&["fork", "--dry-run", "src"]).ok(), "src can be forked");
    let done = engine.seacow(&["fork", "-n", "3", "--name", "c", "src"]);
    let table = done.ok();
    assert!(done.err.contains("source paused"), "{}", done.err);
    assert!(table.starts_with("NAME") && table.lines().count() == 4, "{table}");
    goes_on(&engine, "src");
    let address = |name: &str| engine.inspect(name, "{{.NetworkSettings.IPAddress}}");
    let id = |name: &str| engine.inspect(name, "{{.Id}}");
    for name in ["c-1", "c-2", "c-3"] {
        // From where the source was, into a log of its own.
        let first = counted(&engine, name, before + 5)[0];
        assert!(first > before, "{name} began with {first}, its source had {before}");
        assert_eq!(exec(&engine, name, "cat /file; ls /etc/group 2>&1 | wc -l"), "before\n1");
        assert_ne!(address(name), address("src"));
        assert!(exec(&engine, name, "ip addr").contains(&address(name)));
        assert_eq!(engine.inspect(name, "{{index .Config.Labels \"seacow.fork.source\"}}"), id("src"));
        assert_eq!(engine.inspect(name, "{{index .Config.Labels \"tier\"}}"), "db");
        assert_eq!(engine.inspect(name, "{{.HostConfig.Memory}}"), (64 << 20).to_string());
        let settings = "cd /proc/sys; cat kernel/shmmax net/ipv4/conf/eth0/forwarding net/ipv4/ip_unprivileged_port_start";
        assert_eq!(exec(&engine, name, settings), "1000000\n0\n0");
        assert!(engine.docker(&["top", name]).ok().contains("read -t"));
        assert_eq!(engine.inspect(name, "{{.State.Status}} {{.Config.Image}}"), "running bb");
    }
    assert_eq!(exec(&engine, "c-1", "hostname"), "given");
    // Files and life apart.
    exec(&engine, "c-1", "echo mine > /file");
    assert_eq!(exec(&engine, "c-2", "cat /file"), "before");
    assert_eq!(exec(&engine, "src", "cat /file"), "before");
    engine.docker(&["pause", "c-1"]).ok();
    engine.seacow(&["fork", "c-1"]).fails(1, "is paused");
    engine.docker(&["unpause", "c-1"]).ok();
    goes_on(&engine, "c-1");
    engine.docker(&["kill", "c-3"]).ok();
    assert_eq!(engine.docker(&["wait", "c-3"]).ok(), "137");
    // Started again it begins anew, from its files.
    engine.docker(&["start", "c-3"]).ok();
    assert_eq!(exec(&engine, "c-3", "cat /file"), "before");
    // A fork of a fork, after the source has gone.
    engine.docker(&["rm", "-f", "src"]).ok();
    engine.seacow(&["fork", "--name", "grandchild", "c-1"]).ok();
    goes_on(&engine, "grandchild");
    assert_eq!(exec(&engine, "grandchild", "cat /file"), "mine");
    assert_eq!(engine.inspect("grandchild", "{{index .Config.Labels \"seacow.fork.generation\"}}"), "2");
    // A killed daemon leaves them all, and the next one forks them.
    engine.kill_daemon();
    engine.restart_daemon();
    for name in ["c-1", "c-2", "grandchild"] {
        goes_on(&engine, name);
        engine.seacow(&["fork", "-q", name]).ok();
    }
    assert_eq!(engine.docker(&["stop", "-t", "0", "c-2"]).ok(), "c-2");
    assert_eq!(engine.inspect("c-2", "{{.State.ExitCode}}"), "137");
    let ids: Vec<String> =
        engine.docker(&["ps", "-aq", "--no-trunc"]).ok().lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 7);
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    engine.docker(&[&["rm", "-f"], &all[..]].concat()).ok();
    eventually("nothing is left of them", || directories(&engine, &ids).is_empty());
}

#[test]
fn what_cannot_be_forked_is_told_and_left_alone() {
    let Some(engine) = engine() else { return };
    let cases: [(&str, &[&str], &str); 7] = [
        ("volume", &["-v", "data:/data"], "volume data on /data is writable"),
        ("bind", &["-v", "/tmp:/host"], "bind /tmp on /host is writable"),
        ("host-network", &["--network", "host"], "it has the host's network"),
        ("terminal", &["-t"], "it has a terminal"),
        ("privileged", &["--privileged"], "CAP_SYS_ADMIN"),
        ("pids", &["--pid", "host"], "it shares a pid namespace (host)"),
        ("tmpfs", &["--tmpfs", "/run"], "the tmpfs /run is not empty (x)"),
    ];
    for (name, options, reason) in cases {
        engine
            .docker(&[&["run", "-di", "--name", name], options, &["bb", "sh", "-c", COUNTER]].concat())
            .ok();
        if name == "tmpfs" {
            engine.seacow(&["fork", "--dry-run", name]).ok();
            exec(&engine, name, "touch /run/x");
        }
        engine.seacow(&["fork", "--dry-run", name]).fails(1, reason);
        engine.seacow(&["fork", name]).fails(1, reason);
        let answer = engine.api("POST", &format!("/v1.45/containers/{name}/fork"), "");
        assert_eq!(answer.status, 501, "{name}");
        assert!(answer.json()["message"].as_str().unwrap().contains(reason), "{name}");
    }
    // What is only read is shared.
    count(&engine, "reader", &["-v", "data:/data:ro", "--tmpfs", "/run", "--network", "none"]);
    engine.seacow(&["fork", "--name", "reader-2", "reader"]).ok();
    goes_on(&engine, "reader-2");
    assert_eq!(
        exec(&engine, "reader-2", "touch /data/x 2>/dev/null || echo no; touch /run/x && echo yes"),
        "no\nyes"
    );
    assert!(!exec(&engine, "reader-2", "ip link").contains("eth0"));
    // A further process, by whomever.
    let mut further = engine.docker_running(&["exec", "-i", "reader", "sh", "-c", "echo up; cat"]);
    further.read_until("up\n");
    engine.seacow(&["fork", "reader"]).fails(1, "further processes run in the container");
    further.finish();
    // Nobody is made, and no name taken, when one of them cannot be.
    eventually("the exec's end", || engine.seacow(&["fork", "--dry-run", "reader"]).code == 0);
    engine.docker(&["create", "--name", "n-2", "bb", "true"]).ok();
    engine.seacow(&["fork", "-n", "3", "--name", "n", "reader"]).fails(1, "already in use");
    engine.docker(&["inspect", "n-1"]).fails(1, "No such object");
    engine.seacow(&["fork", "-n", "0", "reader"]).fails(1, "is forked 1 to");
    engine.docker(&["stop", "-t", "0", "reader"]).ok();
    engine.seacow(&["fork", "reader"]).fails(1, "is not running");
    engine.seacow(&["fork", "nobody"]).fails(1, "No such container");
    goes_on(&engine, "reader-2");
}

/// Whenever the daemon is killed, the source goes on; a clone is there and runs, or there is none.
#[test]
fn a_daemon_killed_in_a_fork_harms_nobody() {
    let Some(mut engine) = engine() else { return };
    count(&engine, "src", &[]);
    for step in 0..12 {
        let mut fork = engine.seacow_command(&["fork", "-n", "4", "-q", "src"]);
        let mut client =
            fork.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        // Not to wait for something, but to be somewhere else in the fork each time.
        std::thread::sleep(Duration::from_millis(step * 9));
        engine.kill_daemon();
        client.wait().unwrap();
        engine.restart_daemon();
        goes_on(&engine, "src");
        let clones = engine.docker(&["ps", "-q", "--filter", "label=seacow.fork.source"]).ok();
        let all = engine.docker(&["ps", "-aq", "--filter", "label=seacow.fork.source"]).ok();
        assert_eq!(clones, all, "step {step}: a clone that does not run");
        for clone in clones.lines() {
            goes_on(&engine, clone);
            engine.docker(&["rm", "-f", clone]).ok();
        }
    }
    // Nothing of them is left, and the source can be forked.
    engine.seacow(&["fork", "--name", "last", "src"]).ok();
    goes_on(&engine, "last");
    let known = engine.docker(&["ps", "-aq", "--no-trunc"]).ok();
    let snapshots = std::fs::read_dir(engine.data_root().join("snapshots")).unwrap().flatten();
    let orphans = snapshots
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|id| !known.contains(id) && !engine.exec_root().join("c").join(id).exists());
    assert_eq!(orphans.collect::<Vec<_>>(), Vec::<String>::new());
    // Nor does one run that nobody knows.
    let parent = engine.cgroup_parent();
    let trees = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
    let places = trees.map(|tree| Path::new(tree).join(parent.trim_start_matches('/')));
    let cgroups = places.iter().find(|place| place.is_dir()).expect("the containers have cgroups");
    let unknown = std::fs::read_dir(cgroups)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|id| {
            id.len() == 64 && !known.contains(id) && !engine.exec_root().join("c").join(id).exists()
        });
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Asks an HTTP server.
fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect((address, 8080)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.rsplit("\r\n").next()?.to_owned())
}

const SERVER: &str = "
import asyncio, socket, threading, sys
hits = 0
data = {i: [i, str(i)] for i in range(20000)}
beats = [0]
def beat():
    import time
    while True:
        beats[0] += 1
        time.sleep(0.01)
threading.Thread(target=beat, daemon=True).start()
async def answer(reader, writer):
    global hits
    await reader.readline()
    hits += 1
    assert all(data[i][1] == str(i) for i in range(0, 20000, 97))
    writer.write(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d %s' % (hits, b'alive' if beats[0] else b'dead'))
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, sys.argv[1], 8080)
    print('up', flush=True)
    await server.serve_forever()
asyncio.run(main())
";

/// CPython with a thread and an asyncio server, confined, not as root: it listens to its own address in
/// every clone.
#[test]
fn servers_listen_to_their_own_address() {
    let Some(engine) = engine() else { return };
    if !std::path::Path::new("/usr/bin/python3").exists() {
        eprintln!("SKIP: needs python3");
        return;
    }
    for (name, bound) in [("any", "0.0.0.0"), ("own", "$(hostname -i)")] {
        let server = format!("exec python3 -c \"$0\" {bound}");
        engine
            .docker(&["run", "-d", "--name", name, "-u", "1000:1000", "host", "sh", "-c", &server, SERVER])
            .ok();
        eventually("the server is up", || engine.docker(&["logs", name]).ok().contains("up"));
        let address = |name: &str| engine.inspect(name, "{{.NetworkSettings.IPAddress}}");
        assert_eq!(get(&address(name)).as_deref(), Some("1 alive"));
        // Its connection has gone.
        eventually("it can be forked", || engine.seacow(&["fork", "--dry-run", name]).code == 0);
        engine.seacow(&["fork", "-n", "2", "--name", &format!("{name}-c"), name]).ok();
        for clone in [format!("{name}-c-1"), format!("{name}-c-2")] {
            let began = Instant::now();
            let first = loop {
                match get(&address(&clone)) {
                    Some(answer) => break answer,
                    None => assert!(began.elapsed() < patience(20), "{clone} does not answer"),
                }
            };
            assert_eq!(first, "2 alive", "{clone}");
            assert_eq!(get(&address(&clone)).as_deref(), Some("3 alive"));
        }
        assert_eq!(get(&address(name)).as_deref(), Some("2 alive"));
        // The ledger tells what they share.
        let ledger = engine.api("GET", "/system/cow", "").json();
        let entries = ledger["Containers"].as_array().unwrap();
        let clone = entries.iter().find(|entry| entry["Name"] == format!("{name}-c-1").as_str()).unwrap();
        let bytes = |key: &str| clone["Memory"][key].as_u64().unwrap();
        assert_eq!(bytes("OwnBytes") + bytes("SharedBytes"), bytes("ResidentBytes"), "{clone}");
        assert!(bytes("OwnBytes") < bytes("SharedBytes") / 2, "{clone}");
        assert!(engine.seacow(&["cow", &format!("{name}-c-2")]).ok().contains("Memory of what runs"));
        assert_eq!(engine.docker(&["exec", &format!("{name}-c-1"), "id", "-u"]).ok(), "1000");
        assert!(engine.docker(&["top", &format!("{name}-c-1"), "-o", "pid,uid,cmd"]).ok().contains("1000"));
    }
}

#[test]
fn a_hundred_clones_and_nothing_left_of_them() {
    let Some(engine) = engine() else { return };
    count(&engine, "src", &["--network", "none"]);
    for round in 0..2 {
        let name = format!("r{round}");
        engine.seacow(&["fork", "-q", "-n", "100", "--name", &name, "src"]).ok();
        for number in [1, 50, 100] {
            goes_on(&engine, &format!("{name}-{number}"));
        }
    }
    let ids: Vec<String> = engine
        .docker(&["ps", "-q", "--no-trunc", "--filter", "label=seacow.fork.source"])
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(ids.len(), 200);
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    engine.docker(&[&["rm", "-f"], &all[..]].concat()).ok();
    eventually("nothing is left of them", || directories(&engine, &ids).is_empty());
    goes_on(&engine, "src");
}
