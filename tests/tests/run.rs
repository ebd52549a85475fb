//! `docker run`: what the process finds, what comes out, how it ends.

use seacow_tests::{Engine, Running, eventually};

#[test]
fn output_and_exit_status_are_the_program_s() {
    let engine = Engine::start();
    let done = engine.docker(&["run", "--rm", "bb", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    done.code(7);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    engine.docker(&["run", "--rm", "bb", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code(137);
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_program_that_cannot_be_run() {
    let engine = Engine::start();
    engine
        .docker(&["run", "--rm", "bb", "nosuchcmd"])
        .fails(127, "\"nosuchcmd\": executable file not found in $PATH");
    engine.docker(&["run", "--rm", "bb", "/no/such"]).fails(127, "no such file or directory");
    engine.docker(&["run", "--rm", "bb", "/etc/passwd"]).fails(126, "permission denied");
    engine.docker(&["run", "--rm", "bb", "/etc"]).fails(126, "");
    // Without --rm the container stays, created, with the status in it.
    engine.docker(&["run", "--name", "bad", "bb", "nosuchcmd"]).code(127);
    assert_eq!(engine.inspect("bad", "{{.State.Status}} {{.State.ExitCode}}"), "created 127");
}

#[test]
fn wrong_wishes_are_refused() {
    let engine = Engine::start();
    engine
        .docker(&["run", "--rm", "--user", "nobodyhere", "bb", "true"])
        .fails(125, "unable to find user nobodyhere: no matching entries in passwd file");
    engine.docker(&["run", "--rm", "-v", "relative/x:/y:badmode", "bb", "true"]).code(125);
    engine
        .docker(&["run", "--rm", "--mount", "type=bind,source=/no/such/dir,target=/x", "bb", "true"])
        .fails(125, "bind source path does not exist: /no/such/dir");
    engine.docker(&["run", "--rm", "-v", "/tmp:/", "bb", "true"]).fails(125, "destination can't be '/'");
    engine.docker(&["run", "-d", "--name", "one", "bb", "sleep", "1000"]).ok();
    engine
        .docker(&["run", "-d", "--name", "one", "bb", "sleep", "1000"])
        .fails(125, "Conflict. The container name \"/one\" is already in use by container");
    engine
        .docker(&["run", "--rm", "--name", "a/b", "bb", "true"])
        .fails(125, "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    engine
        .docker(&["run", "--rm", "-w", "relative", "bb", "true"])
        .fails(125, "is invalid, it needs to be an absolute path");
    engine.docker(&["create", "nosuchimage:1"]).code(1);
}

#[test]
fn environment_directory_user_and_names() {
    let engine = Engine::start();
    let sh = |args: &[&str], script: &str| {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        all.extend(["bb", "sh", "-c", script]);
        engine.docker(&all).ok()
    };
    assert_eq!(sh(&["-e", "A=b c"], "echo $A"), "b c");
    assert_eq!(sh(&[], "echo $PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_eq!(sh(&["-w", "/made/for/me"], "pwd"), "/made/for/me");
    assert_eq!(sh(&["-u", "user"], "id -u; id -g; id -G; echo $HOME"), "1000\n1000\n1000 2000\n/home/user");
    assert_eq!(sh(&["-u", "1234:5678"], "id -u; id -g"), "1234\n5678");
    assert_eq!(sh(&[], "id -u; echo $HOME"), "0\n/root");
    assert_eq!(
        sh(&["--hostname", "manatee"], "hostname; echo $HOSTNAME; grep -c manatee /etc/hosts"),
        "manatee\nmanatee\n1"
    );
    assert_eq!(sh(&["--entrypoint", "/bin/echo"], "hi"), "sh -c hi");
    assert_eq!(sh(&["--add-host", "friend:10.1.2.3"], "grep friend /etc/hosts"), "10.1.2.3\tfriend");
    assert_eq!(
        sh(&["--dns", "10.9.8.7", "--dns-search", "sea"], "cat /etc/resolv.conf | grep -v '^#' | sort"),
        "nameserver 10.9.8.7\nsearch sea"
    );
    assert_eq!(sh(&["--read-only"], "touch /x 2>/dev/null || echo no"), "no");
    assert_eq!(sh(&["--tmpfs", "/scratch:size=1m"], "df -k /scratch | tail -1 | awk '{print $2}'"), "1024");
    assert_eq!(sh(&["--shm-size", "2m"], "df -k /dev/shm | tail -1 | awk '{print $2}'"), "2048");
    assert_eq!(sh(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"), "100\n200");
    assert_eq!(
        sh(&["--sysctl", "net.ipv4.ip_default_ttl=42"], "cat /proc/sys/net/ipv4/ip_default_ttl"),
        "42"
    );
}

#[test]
fn process_1_of_namespaces_of_its_own() {
    let engine = Engine::start();
    let script = "echo $$; ps | wc -l; ls /proc/1/ns | wc -l";
    let out = engine.docker(&["run", "--rm", "bb", "sh", "-c", script]).ok();
    assert!(out.starts_with("1\n"), "{out}");
    let host = |kind: &str| {
        std::fs::read_link(format!("/proc/{}/ns/{kind}", engine.daemon_pid()))
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    let inside = engine
        .docker(&[
            "run",
            "--rm",
            "bb",
            "sh",
            "-c",
            "for n in pid mnt uts ipc net; do readlink /proc/self/ns/$n; done",
        ])
        .ok();
    for (kind, inside) in ["pid", "mnt", "uts", "ipc", "net"].iter().zip(inside.lines()) {
        assert_ne!(host(kind), inside, "{kind} is shared with the host");
    }
    let shared = engine
        .docker(&[
            "run",
            "--rm",
            "--network",
            "host",
            "--pid",
            "host",
            "bb",
            "sh",
            "-c",
            "readlink /proc/self/ns/net; readlink /proc/self/ns/pid",
        ])
        .ok();
    assert_eq!(shared, format!("{}\n{}", host("net"), host("pid")));
}

#[test]
fn standard_input_to_its_end() {
    let engine = Engine::start();
    let done = engine.docker_with_input(&["run", "--rm", "-i", "bb", "cat"], b"to and fro\n");
    assert_eq!(done.ok(), "to and fro");
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let path = engine.exec_root().join("data");
    std::fs::write(&path, &data).unwrap();
    let local = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
    let local = String::from_utf8(local.stdout).unwrap();
    let inside = engine.docker_with_input(&["run", "--rm", "-i", "bb", "sha256sum"], &data).ok();
    assert_eq!(inside.split(' ').next(), local.split(' ').next());
    // Without -i there is none.
    assert_eq!(engine.docker(&["run", "--rm", "bb", "cat"]).ok(), "");
}

#[test]
fn large_output_arrives_whole() {
    let engine = Engine::start();
    let done = engine.docker(&["run", "--rm", "bb", "sh", "-c", "seq 1 200000"]);
    let out = done.ok();
    assert_eq!(out.lines().count(), 200_000);
    assert!(out.ends_with("\n200000"));
}

#[test]
fn a_detached_container_runs_on() {
    let engine = Engine::start();
    let id = engine.docker(&["run", "-d", "--name", "web", "bb", "sh", "-c", "echo up; sleep 1000"]).ok();
    assert_eq!(id.len(), 64);
    assert_eq!(engine.inspect("web", "{{.State.Running}} {{.Id}}"), format!("true {id}"));
    eventually("log", || engine.docker(&["logs", "web"]).out == "up\n");
    engine.docker(&["rm", "web"]).fails(1, "emov");
    engine.docker(&["rm", "-f", "web"]).ok();
    engine.docker(&["inspect", "web"]).fails(1, "No such object: web");
}

#[test]
fn whoever_asks_three_times_means_the_client() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let program = "trap 'echo asked' INT; echo ready; while :; do sleep 0.05; done";
    for mut client in [
        Running::spawn(
            &mut engine.seacow_command(&["run", "--rm", "--name", "ours", "bb", "sh", "-c", program]),
        ),
        engine.docker_running(&["run", "--rm", "--name", "stock", "bb", "sh", "-c", program]),
    ] {
        client.read_until("ready");
        for _ in 0..2 {
            client.signal("INT");
            client.read_until("asked");
        }
        client.signal("INT");
        client.finish().fails(1, "got 3 SIGTERM/SIGINTs, forcefully exiting");
    }
    // What runs on is not ours to end.
    engine.docker(&["rm", "-f", "ours", "stock"]).ok();
}

#[test]
fn signals_go_through_the_client() {
    let engine = Engine::start();
    let script = "trap 'echo got; exit 42' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = engine.docker_running(&["run", "--rm", "bb", "sh", "-c", script]);
    running.read_until("ready\n");
    running.signal("TERM");
    running.read_until("got\n");
    running.finish().code(42);
}

#[test]
fn bind_mounts_and_named_volumes() {
    let engine = Engine::start();
    let dir = engine.exec_root().join("bind");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("in"), "from outside").unwrap();
    let bind = format!("{}:/b", dir.display());
    assert_eq!(
        engine.docker(&["run", "--rm", "-v", &bind, "bb", "sh", "-c", "cat /b/in; echo back > /b/out"]).ok(),
        "from outside"
    );
    assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), "back\n");
    let read_only = format!("{bind}:ro");
    engine
        .docker(&["run", "--rm", "-v", &read_only, "bb", "touch", "/b/x"])
        .fails(1, "Read-only file system");

    engine.docker(&["run", "--rm", "-v", "data:/d", "bb", "sh", "-c", "echo stays > /d/f"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "-v", "data:/d", "bb", "cat", "/d/f"]).ok(), "stays");
    // A new volume starts with what the image has at that place.
    assert_eq!(
        engine.docker(&["run", "--rm", "-v", "etc:/etc", "bb", "grep", "-c", "user", "/etc/passwd"]).ok(),
        "1"
    );
    assert!(engine.docker(&["volume", "ls", "-q"]).ok().contains("data"));
    engine.docker(&["volume", "rm", "data", "etc"]).ok();
    engine.docker(&["volume", "inspect", "data"]).fails(1, "no such volume");
}

#[test]
fn networks_none_bridge_and_host() {
    let engine = Engine::start();
    let links = |network: &str| {
        engine
            .docker(&[
                "run",
                "--rm",
                "--network",
                network,
                "bb",
                "sh",
                "-c",
                "ls /sys/class/net | sort | tr '\\n' ' '",
            ])
            .ok()
    };
    assert_eq!(links("none").trim(), "lo");
    assert!(links("bridge").contains("eth0"));
    let addresses = engine.docker(&["run", "--rm", "bb", "cat", "/proc/net/if_inet6"]).ok();
    assert!(!addresses.contains("eth0"), "IPv6 that nobody asked for: {addresses}");
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "server",
            "bb",
            "sh",
            "-c",
            "while :; do echo hello | nc -l -p 80; done",
        ])
        .ok();
    let ip = engine.inspect("server", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let gateway = engine.inspect("server", "{{.NetworkSettings.Networks.bridge.Gateway}}");
    assert!(ip.parse::<std::net::Ipv4Addr>().is_ok(), "{ip}");
    eventually("containers reach each other", || {
        engine.docker(&["run", "--rm", "bb", "sh", "-c", &format!("nc -w 1 {ip} 80 </dev/null")]).out
            == "hello\n"
    });
    engine.docker(&["run", "--rm", "bb", "ping", "-c", "1", "-w", "3", &gateway]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", "bb", "ip", "route"]).ok(), "");
}

#[test]
fn limits_are_the_kernel_s() {
    let engine = Engine::start();
    let cgroup = |controller: &str, file: &str| format!("cat /sys/fs/cgroup/{controller}/{file}");
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let out = engine
            .docker(&[
                "run",
                "--rm",
                "-m",
                "64m",
                "--cpus",
                "0.5",
                "--pids-limit",
                "50",
                "bb",
                "sh",
                "-c",
                "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max",
            ])
            .ok();
        assert_eq!(out, "67108864\n50000 100000\n50");
    } else {
        let script = [
            cgroup("memory", "memory.limit_in_bytes"),
            cgroup("cpu", "cpu.cfs_quota_us"),
            cgroup("pids", "pids.max"),
        ]
        .join("; ");
        let out = engine
            .docker(&[
                "run",
                "--rm",
                "-m",
                "64m",
                "--cpus",
                "0.5",
                "--pids-limit",
                "50",
                "bb",
                "sh",
                "-c",
                &script,
            ])
            .ok();
        assert_eq!(out, "67108864\n50000\n50");
    }
    let eater = "a=x; while :; do a=$a$a; done";
    let done = engine.docker(&[
        "run",
        "--name",
        "eater",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "bb",
        "sh",
        "-c",
        eater,
    ]);
    assert!(matches!(done.code, 137 | 2), "{done:?}");
    if done.code == 137 {
        assert_eq!(engine.inspect("eater", "{{.State.OOMKilled}}"), "true");
    }
    let bomb = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait";
    let done = engine.docker(&["run", "--rm", "--pids-limit", "10", "bb", "sh", "-c", bomb]);
    assert!(done.err.contains("can't fork"), "{done:?}");
}
