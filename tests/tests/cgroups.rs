//! Limits and cgroups, read back from where they count: inside the container, and by what happens
//! to a program that oversteps them. The same questions under version 1 and 2, with and without
//! systemd (`SEACOW_TEST_CGROUP_DRIVER`); what only one of them has is left out on the other, aloud.

use std::path::Path;
use std::process::Command;

use seacow_tests::{Engine, cgroup_driver, eventually, remove_slice};

/// Whether the host has cgroup version 2 alone.
fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Leaves a test out, and says so.
fn skip(needs: &str) {
    println!("SKIPPED: needs {needs}");
}

/// The file of a limit as the container sees it: version 2's name, or version 1's.
fn cat(v2: &str, v1: &str) -> String {
    if is_v2() { format!("cat /sys/fs/cgroup/{v2}") } else { format!("cat /sys/fs/cgroup/{v1}") }
}

/// Where the main process of a container is, in the tree that counts.
fn cgroup_of(engine: &Engine, container: &str) -> String {
    let pid = engine.inspect(container, "{{.State.Pid}}");
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let wanted = if is_v2() { "0::" } else { ":memory:" };
    let line = text.lines().find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("{text}"));
    line.rsplit_once(':').unwrap().1.to_owned()
}

#[test]
fn limits_are_set_and_seen_inside() {
    let engine = Engine::start();
    let script = [
        cat("memory.max", "memory/memory.limit_in_bytes"),
        cat("pids.max", "pids/pids.max"),
        cat("cpu.max", "cpu/cpu.cfs_quota_us"),
        cat("cpu.weight", "cpu/cpu.shares"),
        cat("cpuset.cpus", "cpuset/cpuset.cpus"),
    ]
    .join("; ");
    let flags = ["--memory=64m", "--pids-limit=50", "--cpus=0.5", "--cpu-shares=512", "--cpuset-cpus=0"];
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.extend(["bb", "sh", "-c", &script]);
    let seen = engine.docker(&args).ok();
    let expected: &[&str] = if is_v2() {
        &["67108864", "50", "50000 100000", "20", "0"]
    } else {
        &["67108864", "50", "50000", "512", "0"]
    };
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
}

/// A clone is born in cgroups of its own, with the limits of the container that it was forked from.
#[test]
fn a_fork_is_limited_as_its_source() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let flags = ["--memory=64m", "--pids-limit=50", "--cpus=0.5", "--cpuset-cpus=0", "--network=none"];
    let command = ["bb", "sh", "-c", "i=0; while :; do read -t 0.05 x; i=$((i+1)); echo $i; done"];
    for (name, more) in [("plain", &[][..]), ("shadow", &["--label", "seacow.forkable=true"][..])] {
        engine.docker(&[&["run", "-di", "--name", name], &flags[..], more, &command[..]].concat()).ok();
        eventually("it counts", || engine.docker(&["logs", name]).ok().lines().count() > 2);
        if cgroup_driver() == "systemd" {
            // Which its clones could not be born in.
            engine.seacow(&["fork", name]).fails(1, "systemd makes its cgroups");
            continue;
        }
        let clone = format!("{name}-fork");
        engine.seacow(&["fork", "-q", "--name", &clone, name]).ok();
        let first: u64 = {
            eventually("the clone counts", || engine.docker(&["logs", &clone]).ok().lines().count() > 2);
            engine.docker(&["logs", &clone]).ok().lines().next().unwrap().parse().unwrap()
        };
        assert!(first > 2, "{clone} began anew");
        let id = engine.inspect(&clone, "{{.Id}}");
        assert!(cgroup_of(&engine, &clone).ends_with(&id), "{}", cgroup_of(&engine, &clone));
        assert_ne!(cgroup_of(&engine, &clone), cgroup_of(&engine, name));
        let limits = [
            cat("memory.max", "memory/memory.limit_in_bytes"),
            cat("pids.max", "pids/pids.max"),
            cat("cpu.max", "cpu/cpu.cfs_quota_us"),
            cat("cpuset.cpus", "cpuset/cpuset.cpus"),
        ]
        .join("; ");
        let seen = |name: &str| engine.docker(&["exec", name, "sh", "-c", &limits]).ok();
        assert_eq!(seen(&clone), seen(name));
        assert!(seen(&clone).starts_with("67108864\n50\n50000"), "{}", seen(&clone));
        // Nobody but those who are in it.
        assert_eq!(engine.docker(&["top", &clone]).ok().lines().count(), 2);
        engine.docker(&["rm", "-f", &clone]).ok();
        engine.docker(&["exec", name, "true"]).ok();
    }
}

#[test]
fn no_limit_is_set_that_nobody_asked_for() {
    let engine = Engine::start();
    let script =
        [cat("memory.max", "memory/memory.limit_in_bytes"), cat("pids.max", "pids/pids.max")].join("; ");
    let seen = engine.docker(&["run", "--rm", "bb", "sh", "-c", &script]).ok();
    let memory = if is_v2() { "max" } else { "9223372036854771712" };
    assert_eq!(seen.lines().collect::<Vec<_>>(), [memory, "max"]);
}

#[test]
fn too_much_memory_is_death_by_the_kernel_and_seen_as_that() {
    let engine = Engine::start();
    // tail keeps the one endless line in memory.
    let args = [
        "run",
        "--name",
        "box",
        "--memory=16m",
        "--memory-swap=16m",
        "bb",
        "sh",
        "-c",
        "tail /dev/zero; exit 7",
    ];
    let run = engine.docker(&args);
    // The shell outlives its child, or is killed with it: the kernel chooses.
    assert!([7, 137].contains(&run.code), "{run:?}");
    // Several times: systemd removes the cgroup with its counters at the same moment.
    for name in ["one", "two", "three", "four"] {
        let args = ["run", "--name", name, "--memory=16m", "--memory-swap=16m", "bb", "tail", "/dev/zero"];
        assert_eq!(engine.docker(&args).code, 137);
        assert_eq!(engine.inspect(name, "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137", "{name}");
    }
    let fine = ["run", "--name", "fine", "--memory=16m", "bb", "true"];
    engine.docker(&fine).ok();
    assert_eq!(engine.inspect("fine", "{{.State.OOMKilled}}"), "false");
}

/// Options of the other version of cgroups do not stop whoever has them in a file.
#[test]
fn what_this_version_cannot_limit_is_dropped_with_a_warning() {
    let engine = Engine::start();
    let made = engine.docker(&[
        "create",
        "--name",
        "box",
        "--memory=64m",
        "--memory-swappiness=10",
        "--oom-kill-disable",
        "bb",
        "true",
    ]);
    made.code(0);
    let shown = engine.inspect("box", "{{.HostConfig.MemorySwappiness}} {{.HostConfig.OomKillDisable}}");
    if is_v2() {
        for warning in [
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
            "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        ] {
            assert!(made.err.contains(warning), "{made:?}");
        }
        assert_eq!(shown, "<nil> <nil>");
    } else {
        assert!(!made.err.contains("discarded"), "{made:?}");
        assert_eq!(shown, "10 true");
    }
    engine.docker(&["start", "-a", "box"]).ok();
    let weighs = ["module/bfq", "fs/cgroup/io.cost.qos", "fs/cgroup/blkio/blkio.weight"];
    let has_weights = weighs.iter().any(|file| Path::new("/sys").join(file).exists());
    let weighty = engine.docker(&["run", "--rm", "--blkio-weight=500", "bb", "true"]);
    let warning = "Block I/O weight or the cgroup is not mounted. Weight discarded.";
    assert_eq!((weighty.code, weighty.err.contains(warning)), (0, !has_weights), "{weighty:?}");
}

#[test]
fn a_limit_of_kernel_memory_is_an_old_client_s_wish() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let body = r#"{"Image":"bb","Cmd":["true"],"HostConfig":{"KernelMemory":67108864}}"#;
    let warnings = |version: &str| {
        let made = engine.api("POST", &format!("/{version}/containers/create"), body);
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["Warnings"].to_string()
    };
    assert!(warnings("v1.41").contains("kernel memory limit capabilities"), "{}", warnings("v1.41"));
    assert!(!warnings("v1.42").contains("kernel memory"), "{}", warnings("v1.42"));
}

#[test]
fn more_processes_than_allowed_cannot_be_made() {
    let engine = Engine::start();
    let script = "i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); done; echo all";
    let run = engine.docker(&["run", "--rm", "--pids-limit=8", "bb", "sh", "-c", script]);
    assert!(!run.out.contains("all") && run.err.contains("fork"), "{run:?}");
    engine.docker(&["run", "--rm", "--pids-limit=40", "bb", "sh", "-c", "sleep 0 & echo one"]).ok();
}

#[test]
fn a_running_container_gets_other_limits() {
    let engine = Engine::start();
    engine
        .docker(&["run", "-d", "--name", "box", "--memory=64m", "--memory-swap=64m", "bb", "sleep", "600"])
        .ok();
    let memory = cat("memory.max", "memory/memory.limit_in_bytes");
    let cpu = cat("cpu.max", "cpu/cpu.cfs_quota_us");
    let pids = cat("pids.max", "pids/pids.max");
    let seen = |script: &str| engine.docker(&["exec", "box", "sh", "-c", script]).ok();
    assert_eq!(seen(&memory), "67108864");
    engine
        .docker(&["update", "--memory=32m", "--memory-swap=32m", "--pids-limit=30", "--cpus=0.25", "box"])
        .ok();
    assert_eq!(seen(&memory), "33554432");
    assert_eq!(seen(&pids), "30");
    assert!(seen(&cpu).starts_with("25000"), "{}", seen(&cpu));
    if cgroup_driver() == "systemd" {
        // systemd knows them: it does not undo them when it looks at its units again.
        assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
        assert_eq!((seen(&memory), seen(&pids)), ("33554432".into(), "30".into()));
        assert!(seen(&cpu).starts_with("25000"), "{}", seen(&cpu));
    }
}

#[test]
fn devices_are_those_that_were_allowed() {
    let engine = Engine::start();
    // 1:1 is /dev/mem, 1:11 the kernel's log; making a node is allowed, opening it is not.
    let script = "mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg > /tmp/x; echo $?; head -c1 /dev/zero | wc -c";
    let denied = engine.docker(&["run", "--rm", "bb", "sh", "-c", script]);
    assert_eq!(denied.out.trim(), "1\n1", "{denied:?}");
    assert!(denied.err.contains("not permitted"), "{denied:?}");
    // Read allowed, write not.
    let script = "mknod /tmp/n c 1 11; : < /tmp/n && echo read; (: > /tmp/n) || echo no write";
    let rule =
        ["run", "--rm", "--device-cgroup-rule", "c 1:11 r", "--cap-add=SYSLOG", "bb", "sh", "-c", script];
    let half = engine.docker(&rule);
    assert_eq!(half.out.trim(), "read\nno write", "{half:?}");
    // Everything to the privileged.
    let all = engine.docker(&["run", "--rm", "--privileged", "bb", "sh", "-c", ": > /dev/kmsg && echo open"]);
    assert_eq!(all.out.trim(), "open", "{all:?}");
    if cgroup_driver() == "systemd" {
        engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "600"]).ok();
        assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
        let still = "mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg";
        let after = engine.docker(&["exec", "box", "sh", "-c", still]);
        assert!(after.err.contains("not permitted"), "{after:?}");
    }
}

#[test]
fn a_container_sees_its_own_cgroup_as_the_root() {
    let engine = Engine::start();
    let own = engine.docker(&["run", "--rm", "bb", "cat", "/proc/self/cgroup"]).ok();
    assert!(own.lines().all(|line| line.ends_with(":/")), "{own}");
    let host = engine.docker(&["run", "--rm", "--cgroupns=host", "bb", "cat", "/proc/self/cgroup"]).ok();
    assert!(host.lines().any(|line| line.len() > 64), "no name of a container in it: {host}");
    // An exec lands in the same one.
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "600"]).ok();
    let inside = engine.docker(&["exec", "box", "cat", "/proc/self/cgroup"]).ok();
    assert!(inside.lines().all(|line| line.ends_with(":/")), "{inside}");
    // And cannot write limits: the view is read-only.
    let write = cat("memory.max", "memory/memory.limit_in_bytes").replace("cat", "echo 1 >");
    assert_ne!(engine.docker(&["exec", "box", "sh", "-c", &write]).code, 0);
}

#[test]
fn parents_of_the_user_s_choice() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let id = |name: &str| engine.inspect(name, "{{.Id}}");
    engine.docker(&["run", "-d", "--name", "plain", "bb", "sleep", "600"]).ok();
    if cgroup_driver() == "systemd" {
        let own = format!("seacowtest{}-deep.slice", std::process::id());
        let top = format!("seacowtest{}.slice", std::process::id());
        engine.docker(&["run", "-d", "--name", "own", "--cgroup-parent", &own, "bb", "sleep", "600"]).ok();
        assert_eq!(cgroup_of(&engine, "own"), format!("/{top}/{own}/seacow-{}.scope", id("own")));
        let plain = format!("/{}/seacow-{}.scope", engine.cgroup_parent(), id("plain"));
        assert_eq!(cgroup_of(&engine, "plain"), plain);
        let wrong = engine.docker(&["run", "--rm", "--cgroup-parent", "/x", "bb", "true"]);
        assert!(wrong.err.contains("should be a valid slice named as \"xxx.slice\""), "{wrong:?}");
        engine.docker(&["rm", "-f", "own"]).ok();
        // With all below it.
        remove_slice(&top);
    } else {
        let own = format!("{}-own/deep", engine.cgroup_parent());
        engine.docker(&["run", "-d", "--name", "own", "--cgroup-parent", &own, "bb", "sleep", "600"]).ok();
        assert_eq!(cgroup_of(&engine, "own"), format!("{own}/{}", id("own")));
        assert_eq!(cgroup_of(&engine, "plain"), format!("{}/{}", engine.cgroup_parent(), id("plain")));
        engine.docker(&["rm", "-f", "own"]).ok();
        // What the user named is the user's to remove.
        remove_cgroup(&own);
        remove_cgroup(&format!("{}-own", engine.cgroup_parent()));
    }
}

/// Removes a cgroup from every hierarchy.
fn remove_cgroup(path: &str) {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).unwrap().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([top.to_owned()]) {
        let dir = hierarchy.join(path.trim_start_matches('/'));
        eventually("the cgroup can be removed", || {
            !dir.join("cgroup.procs").exists() || std::fs::remove_dir(&dir).is_ok()
        });
    }
}

#[test]
fn the_driver_is_told() {
    let engine = Engine::start();
    let version = if is_v2() { "2" } else { "1" };
    let told = engine.docker(&["info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}"]).ok();
    assert_eq!(told, format!("{} {version}", cgroup_driver()));
}

#[test]
fn systemd_that_is_not_there_is_missed_aloud() {
    if Path::new("/run/systemd/system").exists() {
        return skip("a host without systemd");
    }
    let engine = Engine::with_cgroup_driver("systemd");
    if engine.skip_on_docker() {
        return;
    }
    let run = engine.docker(&["run", "--rm", "bb", "true"]);
    assert_eq!(run.code, 125, "{run:?}");
    assert!(run.err.contains("systemd does not run on this host"), "{run:?}");
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_scope_lives_as_long_as_its_container() {
    if cgroup_driver() != "systemd" {
        return skip("the systemd driver");
    }
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "box", "--memory=64m", "bb", "sleep", "600"]).ok();
    let unit = format!("seacow-{}.scope", engine.inspect("box", "{{.Id}}"));
    let show = |property: &str| {
        let output = Command::new("systemctl").args(["show", "-P", property, &unit]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!((show("ActiveState"), show("Delegate")), ("active".into(), "yes".into()));
    assert_eq!((show("MemoryMax"), show("TasksMax")), ("67108864".into(), "infinity".into()));
    assert_eq!(show("Slice"), engine.cgroup_parent());
    // Death by the kernel would leave a failed unit behind.
    let args = ["run", "--name", "dies", "--memory=16m", "--memory-swap=16m", "bb", "tail", "/dev/zero"];
    assert_eq!(engine.docker(&args).code, 137);
    let killed = format!("seacow-{}.scope", engine.inspect("dies", "{{.Id}}"));
    engine.docker(&["rm", "-f", "box", "dies"]).ok();
    for unit in [&unit, &killed] {
        eventually("systemd has forgotten it", || {
            let output = Command::new("systemctl").args(["show", "-P", "LoadState", unit]).output().unwrap();
            // Of a unit that it does not know systemd says the same.
            output.stdout.starts_with(b"not-found")
        });
    }
}
