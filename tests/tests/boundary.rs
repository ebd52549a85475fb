//! What of the engine is within reach of a container's processes, however they were started.

use std::collections::BTreeSet;

use seacow_tests::{Engine, eventually};

/// What a process may have open: its three streams.
fn assert_only_streams(pid: &str, how: &str) {
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let entry = entry.unwrap();
        let target = std::fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
        let is_stream = ["pipe:[", "/dev/null", "/dev/pts/", "/0", "/1", "/2"]
            .iter()
            .any(|kind| target.starts_with(kind));
        assert!(is_stream, "{how}: process {pid} has {target} open");
        numbers.insert(entry.file_name().into_string().unwrap());
    }
    let expected: BTreeSet<String> = ["0", "1", "2"].map(str::to_owned).into();
    assert_eq!(numbers, expected, "{how}: process {pid}");
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd, std::path::Path::new("/"), "{how}");
}

/// The processes of a container as the host sees them, but for the engine's own process 1 (`--init`),
/// which opens files for itself.
fn processes(engine: &Engine, name: &str) -> Vec<String> {
    let table = engine.docker(&["top", name, "-eo", "pid,args"]).ok();
    let programs = table.lines().skip(1).filter_map(|line| line.trim().split_once(' '));
    let sleeping = programs.filter(|(_, args)| args.trim().starts_with("sleep"));
    sleeping.map(|(pid, _)| pid.to_owned()).collect()
}

/// Descriptors of the shim, the daemon, its logs and sockets, in every way there is to start a
/// process. Seen from the host, where nothing is hidden.
#[test]
fn processes_have_their_streams_and_nothing_else() {
    let engine = Engine::start();
    let ways: [(&str, &[&str]); 6] = [
        ("detached", &[]),
        ("stdin", &["-i"]),
        ("terminal", &["-it"]),
        ("init", &["--init"]),
        ("network", &["--network", "none"]),
        ("volumes", &["-v", "named:/v", "--tmpfs", "/t", "-v", "/etc:/host-etc:ro"]),
    ];
    for (name, options) in ways {
        engine.docker(&[&["run", "-d", "--name", name], options, &["bb", "sleep", "1000"]].concat()).ok();
        engine.docker(&["exec", "-d", name, "sleep", "1001"]).ok();
        engine.docker(&["exec", "-d", "-t", name, "sleep", "1002"]).ok();
        engine.docker(&["exec", "-d", "--privileged", "-u", "user", name, "sleep", "1003"]).ok();
        let held = engine.docker_running(&["exec", "-i", name, "sleep", "1004"]);
        let attached = engine.docker_running(&["attach", "--no-stdin", "--sig-proxy=false", name]);
        eventually("all processes run their programs", || processes(&engine, name).len() == 5);
        for pid in processes(&engine, name) {
            assert_only_streams(&pid, name);
        }
        held.signal("KILL");
        attached.signal("KILL");
        engine.docker(&["rm", "-f", name]).ok();
    }
}

/// A container looks at every process that it can see, at those that enter it while they do, and,
/// with the host's pid namespace, at shim and daemon: descriptors, directories, programs,
/// environment. Protections: processes that enter are undumpable, and hold what they need
/// close-on-exec; those of the engine have rights that a container lacks.
#[test]
fn nothing_of_the_engine_is_seen_by_looking_around() {
    let engine = Engine::start();
    let look = "
        touch /tmp/ready
        while [ ! -e /tmp/enough ]; do
            for p in /proc/[0-9]*; do
                for l in $p/fd/* $p/cwd $p/root $p/exe; do echo $(readlink $l); done
                tr '\\0' ' ' <$p/environ
            done
        done >>/tmp/loot 2>/dev/null";
    for (name, options) in [("inside", &[][..]), ("host", &["--pid", "host"][..])] {
        let run = [&["run", "-d", "--name", name], options, &["bb", "sh", "-c", look]].concat();
        engine.docker(&run).ok();
        eventually("the attack runs", || engine.docker(&["exec", name, "ls", "/tmp/ready"]).code == 0);
        for _ in 0..8 {
            // Long enough to be looked at.
            engine.docker(&["exec", name, "sleep", "0.1"]).ok();
            engine.docker(&["exec", "-t", name, "sleep", "0.1"]).ok();
            let joined = format!("container:{name}");
            engine.docker(&["run", "--rm", "--pid", &joined, "bb", "sleep", "0.1"]).ok();
        }
        // What is open, is seen: this one opens something itself, and stays until it was.
        let shown = engine.docker_running(&["exec", name, "sh", "-c", "exec 7</etc/group; sleep 1000"]);
        eventually("what is open is seen", || {
            engine.docker(&["exec", name, "grep", "-q", "/etc/group", "/tmp/loot"]).code == 0
        });
        drop(shown);
        engine.docker(&["exec", name, "touch", "/tmp/enough"]).ok();
        engine.docker(&["wait", name]).ok();
        let loot = engine.exec_root().join(format!("loot-{name}"));
        engine.docker(&["cp", &format!("{name}:/tmp/loot"), &loot.display().to_string()]).ok();
        let loot = String::from_utf8_lossy(&std::fs::read(&loot).unwrap()).into_owned();
        assert!(loot.contains("/bin/busybox"), "the attack sees nothing");
        for secret in [
            engine.data_root().display().to_string(),
            engine.exec_root().display().to_string(),
            "memfd:".to_owned(),
            "seacow".to_owned(),
            "anon_inode".to_owned(),
            "socket:".to_owned(),
        ] {
            let seen: Vec<&str> = loot.lines().filter(|line| line.contains(&secret)).take(3).collect();
            assert!(seen.is_empty(), "{name}: {secret} was seen: {seen:?}");
        }
    }
}
