//! kill -9 is an input.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use seacow_tests::{Engine, eventually, slowness};

fn pid_of(engine: &Engine, name: &str) -> i32 {
    engine.inspect(name, "{{.State.Pid}}").parse().unwrap()
}

fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn kill(pid: i32) {
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn containers_outlive_the_daemon() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let script = "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; exit 23";
    engine.docker(&["run", "-d", "--name", "ends", "bb", "sh", "-c", script]).ok();
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "stays",
            "bb",
            "sh",
            "-c",
            "trap 'exit 7' TERM; i=0; while :; do echo $((i=i+1)); sleep 0.05; done",
        ])
        .ok();
    // Goes with the engine.
    let word = engine.exec_root().join("word");
    std::fs::create_dir(&word).unwrap();
    let (bind, script) = (format!("{}:/w", word.display()), "while [ ! -e /w/end ]; do sleep 0.05; done");
    let then = format!("{script}; echo lonely; exit 5");
    engine.docker(&["run", "-d", "--name", "meanwhile", "-v", &bind, "bb", "sh", "-c", &then]).ok();
    let meanwhile = pid_of(&engine, "meanwhile");
    engine.docker(&["run", "-d", "--rm", "--name", "fleeting", "-v", &bind, "bb", "sh", "-c", script]).ok();
    let fleeting = pid_of(&engine, "fleeting");
    engine.docker(&["create", "--name", "never", "bb", "echo", "now"]).ok();
    let pid = pid_of(&engine, "stays");
    engine.kill_daemon();
    std::fs::write(word.join("end"), "").unwrap();
    let is_over = |pid: i32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("both ended without a daemon", || is_over(meanwhile) && is_over(fleeting));
    engine.restart_daemon();

    assert_eq!(pid_of(&engine, "stays"), pid);
    // It may end, and take the exec with it, before the exec has.
    let told = engine.docker(&["exec", "ends", "touch", "/go"]);
    assert!([0, 137].contains(&told.code), "{told:?}");
    assert_eq!(engine.docker(&["wait", "ends"]).ok(), "23");
    assert_eq!(engine.docker(&["logs", "ends"]).ok(), "before\nafter");
    assert_eq!(engine.docker(&["wait", "meanwhile"]).ok(), "5");
    assert_eq!(engine.docker(&["logs", "meanwhile"]).ok(), "lonely");
    eventually("--rm is kept as a promise", || engine.docker(&["inspect", "fleeting"]).code == 1);
    assert_eq!(engine.docker(&["start", "-a", "never"]).ok(), "now");
    let out = engine.docker(&["logs", "stays"]).ok();
    let numbers: Vec<u32> = out.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line was lost");
    engine.docker(&["stop", "stays"]).ok();
    assert_eq!(engine.inspect("stays", "{{.State.ExitCode}}"), "7");
    engine.docker(&["start", "stays"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "bb", "echo", "new"]).ok(), "new");
}

#[test]
fn images_volumes_and_names_are_there_after_a_restart() {
    let mut engine = Engine::start();
    engine.docker(&["tag", "bb", "other:1"]).ok();
    engine.docker(&["volume", "create", "data"]).ok();
    engine
        .docker(&[
            "create",
            "--name",
            "box",
            "--label",
            "a=b",
            "-v",
            "data:/d",
            "bb",
            "sh",
            "-c",
            "echo x > /d/f",
        ])
        .ok();
    engine.stop_daemon();
    engine.restart_daemon();
    assert_eq!(engine.docker(&["images", "-q", "other:1"]).ok().len(), 12);
    assert_eq!(engine.inspect("box", "{{.Name}} {{.Config.Labels.a}} {{.State.Status}}"), "/box b created");
    engine.docker(&["start", "-a", "box"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "-v", "data:/d", "bb", "cat", "/d/f"]).ok(), "x");
    engine.docker(&["create", "--name", "box", "bb", "true"]).fails(1, "is already in use");
}

#[test]
fn a_killed_shim_ends_its_container_with_137_and_leaves_nothing() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    for daemon_alive in [true, false] {
        engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
        let pid = pid_of(&engine, "box");
        let shim = parent_of(pid);
        let comm = std::fs::read_to_string(format!("/proc/{shim}/comm")).unwrap();
        assert_eq!(comm.trim(), "seacow-shim");
        if !daemon_alive {
            engine.kill_daemon();
        }
        kill(shim);
        if !daemon_alive {
            engine.restart_daemon();
        }
        eventually("137", || engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
        // Dead at once; who collects it is its foster parent.
        eventually("the process is dead", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
        assert_ne!(engine.inspect("box", "{{.State.Error}}"), "");
        engine.docker(&["start", "box"]).ok();
        engine.docker(&["rm", "-f", "box"]).ok();
    }
}

#[test]
fn a_build_that_was_killed_leaves_nothing_half_made() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Dockerfile"), "FROM bb\nRUN echo 1 > /one\nRUN sleep 30\n").unwrap();
    let mut building = engine.docker_running(&["build", "-t", "half", &dir.display().to_string()]);
    building.read_until("Step 3/3");
    building.read_until("Running in");
    engine.kill_daemon();
    drop(building);
    engine.restart_daemon();
    engine.docker(&["inspect", "half"]).fails(1, "No such object");
    eventually("the step's container is gone", || engine.docker(&["ps", "-aq"]).ok().is_empty());
    std::fs::write(dir.join("Dockerfile"), "FROM bb\nRUN echo 1 > /one\nRUN cat /one > /two\n").unwrap();
    engine.docker(&["build", "-t", "whole", &dir.display().to_string()]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "whole", "cat", "/two"]).ok(), "1");
}

/// Cycles of create, start, exec, stop, rm; the whole number is the bar, and a smaller one
/// can be asked for while developing.
fn cycles() -> u32 {
    std::env::var("SEACOW_STRESS").ok().and_then(|n| n.parse().ok()).unwrap_or(500)
}

#[test]
fn hundreds_of_lives_while_the_daemon_is_killed_at_random() {
    const AT_ONCE: u32 = 8;
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let engine = RwLock::new(engine);
    let next = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    let kills = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= cycles() {
                            break;
                        }
                        life(&engine, n);
                    }
                })
            })
            .collect();
        let killer = scope.spawn(|| {
            let mut seed = std::process::id();
            while !done.load(Ordering::Relaxed) {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let pause = std::time::Duration::from_millis(u64::from(200 + seed % 1300));
                std::thread::sleep(pause * slowness());
                let pid = engine.read().unwrap().daemon_pid();
                // Without the lock: requests are under way at that moment, which is the point.
                let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
                let mut engine = engine.write().unwrap();
                engine.kill_daemon();
                engine.restart_daemon();
                kills.fetch_add(1, Ordering::Relaxed);
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        killer.join().unwrap();
    });
    let engine = engine.into_inner().unwrap();
    println!("{} lives, {} kills of the daemon", cycles(), kills.load(Ordering::Relaxed));
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "", "containers were left over");
    // Prepared containers have directories there as well, which nothing describes yet.
    let snapshots = || {
        let entries = std::fs::read_dir(engine.data_root().join("snapshots")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().join("parent").is_symlink()).count()
    };
    eventually("deferred teardown", || snapshots() == 0);
}

/// One life. A command that the dying daemon cut off is repeated; what it did or did not do before
/// is accepted, but never a wrong answer.
fn life(engine: &RwLock<Engine>, n: u32) {
    let name = format!("life{n}");
    let code = n % 200 + 1;
    let insist = |args: &[&str], also_fine: &[&str]| -> String {
        for _ in 0..50 {
            let done = engine.read().unwrap().docker(args);
            if done.code == 0 || also_fine.iter().any(|words| done.err.contains(words)) {
                return done.out.trim().to_owned();
            }
            let cut_off = ["EOF", "connect", "reset", "broken pipe", "daemon running", "unexpected"];
            assert!(cut_off.iter().any(|words| done.err.contains(words)), "{done:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{args:?} never succeeded");
    };
    let script = format!("trap 'exit {code}' TERM; touch /ready; while :; do sleep 0.02; done");
    insist(&["create", "--name", &name, "bb", "sh", "-c", &script], &["is already in use"]);
    insist(&["start", &name], &[]);
    for _ in 0..500 {
        let done = engine.read().unwrap().docker(&["exec", &name, "ls", "/ready"]);
        if done.code == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    insist(&["stop", "-t", "20", &name], &[]);
    let got = insist(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &name], &[]);
    assert_eq!(got, format!("exited {code}"), "{name}");
    insist(&["rm", &name], &["No such container", "is already in progress"]);
}

/// What a power cut right after a create leaves on most disks: the record, without the files or with half of
/// them.
#[test]
fn a_container_without_files_gets_them_again() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let mut ids = Vec::new();
    for name in ["lost", "half", "whole"] {
        let command =
            ["create", "--name", name, "bb", "sh", "-c", "cat /mark; echo $0 > /mark; ls /etc/group"];
        ids.push(engine.docker(&command).ok());
    }
    engine.docker(&["start", "-a", "whole"]).ok();
    engine.stop_daemon();
    let files = |id: &str| engine.data_root().join("snapshots").join(id);
    std::fs::remove_dir_all(files(&ids[0])).unwrap();
    std::fs::remove_dir_all(engine.data_root().join("containers").join(&ids[0])).unwrap();
    std::fs::remove_file(files(&ids[1]).join("parent")).unwrap();
    engine.restart_daemon();
    for name in ["lost", "half"] {
        assert_eq!(engine.docker(&["diff", name]).ok(), "");
        let out = engine.docker(&["start", "-a", name]);
        assert!(out.out.contains("/etc/group"), "{} {}", out.out, out.err);
        assert_eq!(engine.docker(&["diff", name]).ok(), "A /mark");
    }
    // Nobody else's are touched.
    assert_eq!(engine.docker(&["diff", "whole"]).ok(), "A /mark");
    assert_eq!(engine.log().matches("they were made anew").count(), 2, "{}", engine.log());
    engine.docker(&["rm", "lost", "half", "whole"]).ok();
}
