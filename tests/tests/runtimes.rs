//! Other OCI runtimes under our shim: `--runtime NAME|PATH`.
//!
//! Every test is taken by `seacow-runtime` as a command, and by each runtime that
//! `SEACOW_TEST_RUNTIMES` names by path (`cargo xtask test` gives Debian's runc there). All other
//! end-to-end tests can be taken by one of them with `SEACOW_TEST_RUNTIME=PATH`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use seacow_tests::{Engine, Terminal, dist, eventually};

/// Runs `test` with each runtime's path and name.
fn each(test: impl Fn(&Engine, &str, &str)) {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let mut runtimes = vec![dist().join("seacow-runtime")];
    match std::env::var_os("SEACOW_TEST_RUNTIMES") {
        Some(list) => runtimes.extend(std::env::split_paths(&list)),
        None => println!("SKIPPED: SEACOW_TEST_RUNTIMES names no other runtime than our own"),
    }
    for runtime in runtimes {
        let name = runtime.file_name().unwrap().to_string_lossy().into_owned();
        println!("---- {name}");
        test(&engine, runtime.to_str().unwrap(), &name);
    }
}

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

/// Whether a process is there and not a zombie.
fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])))
}

/// Whether the container has a cgroup anywhere, or an exec directory.
fn leaves_traces(engine: &Engine, id: &str) -> bool {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    let mut groups = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    groups.any(|at| at.join(engine.name()).join(id).exists())
        || engine.exec_root().join("c").join(id).exists()
}

#[test]
fn output_input_and_exit_statuses() {
    each(|engine, runtime, _| {
        let run = |args: &[&str]| {
            let mut all = vec!["run", "--rm", "--runtime", runtime];
            all.extend(args);
            engine.docker(&all)
        };
        let done = run(&["bb", "sh", "-c", "echo out; echo err >&2; exit 7"]);
        done.code(7);
        assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
        run(&["bb", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code(137);
        run(&["bb", "nosuchcmd"]).fails(127, "nosuchcmd");
        run(&["bb", "/etc/passwd"]).fails(126, "ermission denied");
        // runc says it so since 1.2.
        let directory = run(&["bb", "/etc"]);
        let words =
            if directory.err.contains("is a directory") { "is a directory" } else { "ermission denied" };
        directory.fails(126, words);
        run(&["-u", "nobodyhere", "bb", "true"])
            .fails(125, "unable to find user nobodyhere: no matching entries in passwd file");
        let args = ["run", "-i", "--rm", "--runtime", runtime, "bb", "wc", "-c"];
        assert_eq!(engine.docker_with_input(&args, &[b'x'; 100_000]).ok().trim(), "100000");
        assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    });
}

#[test]
fn what_the_process_finds() {
    each(|engine, runtime, _| {
        let sh = |args: &[&str], script: &str| {
            let mut all = vec!["run", "--rm", "--runtime", runtime];
            all.extend(args);
            all.extend(["bb", "sh", "-c", script]);
            engine.docker(&all).ok()
        };
        assert_eq!(
            sh(&["-u", "user"], "id -u; id -g; id -G; echo $HOME"),
            "1000\n1000\n1000 2000\n/home/user"
        );
        assert_eq!(sh(&["-w", "/made/for/me"], "pwd; echo $$"), "/made/for/me\n1");
        assert_eq!(sh(&["--hostname", "manatee"], "hostname; grep -c manatee /etc/hosts"), "manatee\n1");
        assert_eq!(sh(&["--read-only"], "touch /x 2>/dev/null || echo no"), "no");
        assert_eq!(sh(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"), "100\n200");
        assert_eq!(
            sh(&["--sysctl", "net.ipv4.ip_default_ttl=42"], "cat /proc/sys/net/ipv4/ip_default_ttl"),
            "42"
        );
        assert_eq!(sh(&["-v", "/tmp:/t:ro"], "touch /t/x 2>/dev/null || echo no"), "no");
        // Docker's profile and masks hold.
        assert_eq!(sh(&[], "unshare -m true 2>/dev/null || echo no; head -c1 /proc/kcore | wc -c"), "no\n0");
        assert_eq!(sh(&[], "grep Seccomp: /proc/self/status | tr -d '\\t'"), "Seccomp:2");
        assert_eq!(
            sh(
                &["--privileged"],
                "grep Seccomp: /proc/self/status | tr -d '\\t'; test -e /dev/kmsg && echo dev"
            ),
            "Seccomp:0\ndev"
        );
        assert_eq!(
            sh(
                &["--memory", "64m"],
                "cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true"
            ),
            "67108864"
        );
        assert_eq!(sh(&["--device", "/dev/null:/dev/nothing"], "echo x > /dev/nothing && echo ok"), "ok");
    });
}

#[test]
fn networks() {
    each(|engine, runtime, _| {
        engine.docker(&["run", "-d", "--name", "one", "--runtime", runtime, "bb", "sleep", "1000"]).ok();
        let address = engine.inspect("one", "{{.NetworkSettings.IPAddress}}");
        let inside = engine.docker(&["exec", "one", "ip", "-4", "-o", "address", "show", "eth0"]).ok();
        assert!(inside.contains(&address), "{inside}");
        engine.docker(&["run", "--rm", "bb", "ping", "-c1", "-w5", &address]).ok();
        let joined = ["run", "--rm", "--runtime", runtime, "--network", "container:one", "bb"];
        let ip = engine.docker(&[&joined[..], &["ip", "-4", "-o", "address", "show", "eth0"]].concat()).ok();
        assert!(ip.contains(&address), "{ip}");
        let none = ["run", "--rm", "--runtime", runtime, "--network", "none", "bb", "ip", "-o", "link"];
        assert_eq!(engine.docker(&none).ok().lines().filter(|line| line.contains("LOWER_UP")).count(), 1);
        let host = ["run", "--rm", "--runtime", runtime, "--network", "host", "bb"];
        let ns = engine.docker(&[&host[..], &["readlink", "/proc/self/ns/net"]].concat()).ok();
        assert_eq!(std::fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy(), ns);
        engine.docker(&["rm", "-f", "one"]).ok();
    });
}

#[test]
fn more_processes() {
    each(|engine, runtime, _| {
        engine.docker(&["run", "-d", "--name", "box", "--runtime", runtime, "bb", "sleep", "1000"]).ok();
        let exec = |args: &[&str]| engine.docker(&[&["exec"], args].concat());
        let done = exec(&[
            "-e",
            "A=b",
            "-w",
            "/tmp",
            "-u",
            "user",
            "box",
            "sh",
            "-c",
            "echo $A; pwd; id -u; exit 5",
        ]);
        done.code(5);
        assert_eq!(done.out, "b\n/tmp\n1000\n");
        let input = ["exec", "-i", "box", "sh", "-c", "cat; echo done >&2"];
        let done = engine.docker_with_input(&input, b"to and fro");
        assert_eq!((done.ok().as_str(), done.err.as_str()), ("to and fro", "done\n"));
        let missing = exec(&["box", "nosuchcmd"]);
        missing.code(126);
        assert!(missing.out.contains("nosuchcmd"), "{}", missing.out);
        exec(&["-d", "box", "sh", "-c", "sleep 1000; true"]).ok();
        eventually("the detached exec is seen", || {
            engine.docker(&["top", "box"]).ok().matches("sleep 1000").count() == 3
        });
        engine.docker(&["rm", "-f", "box"]).ok();
    });
}

#[test]
fn terminals() {
    each(|engine, runtime, name| {
        let args = ["run", "-it", "--rm", "--name", "box", "--runtime", runtime, "bb", "sh"];
        let terminal = Terminal::run(&format!("{}-{name}", engine.name()), &engine.docker_command(&args));
        terminal.shows("/ #");
        terminal.type_text("stty size; tty");
        terminal.press("Enter");
        terminal.shows("24 80");
        terminal.shows("/dev/pts/0");
        let exec = ["exec", "-it", "box", "sh"];
        let second = Terminal::run(&format!("{}-{name}-exec", engine.name()), &engine.docker_command(&exec));
        second.shows("/ #");
        second.type_text("stty size");
        second.press("Enter");
        second.shows("24 80");
        second.type_text("exit 4");
        second.press("Enter");
        second.shows("[exit 4]");
        terminal.type_text("exit 5");
        terminal.press("Enter");
        terminal.shows("[exit 5]");
    });
}

#[test]
fn the_rest_of_life() {
    each(|engine, runtime, _| {
        let script = "trap 'echo bye; exit 3' TERM; while :; do echo tick; sleep 0.05; done";
        let run = |name: &str| {
            engine.docker(&["run", "-d", "--name", name, "--runtime", runtime, "bb", "sh", "-c", script]).ok()
        };
        let (id, _twin) = (run("box"), run("twin"));
        assert_eq!(engine.inspect("box", "{{.HostConfig.Runtime}}"), runtime);
        engine.docker(&["pause", "box"]).ok();
        assert_eq!(engine.inspect("box", "{{.State.Status}}"), "paused");
        let ticks = |name: &str| engine.docker(&["logs", name]).ok().lines().count();
        // What was on its way to the log comes; then only its twin goes on.
        let (before, of_twin) = (ticks("box"), ticks("twin"));
        eventually("its twin goes on", || ticks("twin") > of_twin + 5);
        assert!(ticks("box") <= before + 1, "it goes on although paused");
        engine.docker(&["rm", "-f", "twin"]).ok();
        engine.docker(&["unpause", "box"]).ok();
        eventually("it goes on", || ticks("box") > before + 1);
        engine.docker(&["update", "--memory", "100m", "--memory-swap", "200m", "box"]).ok();
        let limit =
            "cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
        assert_eq!(engine.docker(&["exec", "box", "sh", "-c", limit]).ok(), "104857600");
        engine.docker(&["stop", "box"]).ok();
        assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "3");
        assert!(engine.docker(&["logs", "box"]).ok().ends_with("bye"));
        eventually("all traces are gone", || !leaves_traces(engine, &id));
        engine.docker(&["start", "box"]).ok();
        engine.docker(&["kill", "-s", "KILL", "box"]).ok();
        assert_eq!(engine.docker(&["wait", "box"]).ok(), "137");
        engine.docker(&["restart", "box"]).ok();
        engine.docker(&["pause", "box"]).ok();
        engine.docker(&["rm", "-f", "box"]).ok();
        eventually("all traces are gone", || !leaves_traces(engine, &id));
        let hog = "tail -c 200000000 /dev/zero";
        engine
            .docker(&["run", "--name", "hog", "--runtime", runtime, "--memory", "32m", "bb", "sh", "-c", hog])
            .code(137);
        assert_eq!(engine.inspect("hog", "{{.State.OOMKilled}}"), "true");
        engine.docker(&["rm", "hog"]).ok();
    });
}

#[test]
fn orphans_of_the_host_s_pid_namespace_are_ended_and_reaped() {
    each(|engine, runtime, _| {
        let script = "(sleep 1000 & sleep 1001 & exec sleep 0.1) & echo up; sleep 0.5; true";
        let args =
            ["run", "-d", "--name", "box", "--pid", "host", "--runtime", runtime, "bb", "sh", "-c", script];
        let id = engine.docker(&args).ok();
        assert_eq!(engine.docker(&["wait", "box"]).ok(), "0");
        eventually("all traces are gone", || !leaves_traces(engine, &id));
        engine.docker(&["rm", "box"]).ok();
    });
}

#[test]
fn a_killed_daemon_and_a_killed_shim() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let mut runtimes = vec![dist().join("seacow-runtime")];
    runtimes.extend(std::env::var_os("SEACOW_TEST_RUNTIMES").iter().flat_map(std::env::split_paths));
    for runtime in runtimes {
        let runtime = runtime.to_str().unwrap();
        let script = "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; exit 23";
        engine.docker(&["run", "-d", "--name", "ends", "--runtime", runtime, "bb", "sh", "-c", script]).ok();
        let id = engine
            .docker(&[
                "run",
                "-d",
                "--name",
                "dies",
                "--runtime",
                runtime,
                "bb",
                "sh",
                "-c",
                "sleep 1000 & sleep 1000",
            ])
            .ok();
        engine.kill_daemon();
        engine.restart_daemon();
        // It may end, and take the exec with it, before the exec has.
        let told = engine.docker(&["exec", "ends", "touch", "/go"]);
        assert!([0, 137].contains(&told.code), "{told:?}");
        assert_eq!(engine.docker(&["wait", "ends"]).ok(), "23");
        assert_eq!(engine.docker(&["logs", "ends"]).ok(), "before\nafter");

        let init = pid_of(&engine, "dies");
        kill(parent_of(init));
        assert_eq!(engine.docker(&["wait", "dies"]).ok(), "137");
        assert!(engine.inspect("dies", "{{.State.Error}}").contains("shim"), "it is said why");
        eventually("init is gone", || !lives(init));
        eventually("all traces are gone", || !leaves_traces(&engine, &id));
        assert_eq!(engine.docker(&["start", "dies"]).code, 0);
        engine.docker(&["rm", "-f", "dies", "ends"]).ok();
    }
}

#[test]
fn a_pause_that_hangs_stands_in_nobody_s_way() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    // Goes with the engine.
    let (runtime, begun) = (engine.exec_root().join("runtime"), engine.exec_root().join("begun"));
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" pause \"*) touch {}; exec sleep 1000;; esac\nexec {} \"$@\"\n",
        begun.display(),
        dist().join("seacow-runtime").display()
    );
    std::fs::write(&runtime, script).unwrap();
    std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).unwrap();
    let runtime = runtime.to_str().unwrap();
    let id = engine.docker(&["run", "-d", "--name", "box", "--runtime", runtime, "bb", "sleep", "1000"]).ok();
    std::thread::scope(|scope| {
        let pause = scope.spawn(|| engine.docker(&["pause", "box"]));
        eventually("the runtime was asked", || begun.exists());
        assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
        let refused = engine.docker(&["exec", "box", "true"]);
        refused.code(126);
        assert!(refused.out.contains("is being paused"), "{}", refused.out);
        assert!(!pause.is_finished());
        engine.docker(&["kill", "box"]).ok();
        let paused = pause.join().unwrap();
        paused.code(1);
        // Whichever the shim hears of first: the signal, or what came of it.
        let told = ["is being killed", "is not running"].iter().any(|why| paused.err.contains(why));
        assert!(told, "{}", paused.err);
    });
    assert_eq!(engine.docker(&["wait", "box"]).ok(), "137");
    eventually("all traces are gone", || !leaves_traces(&engine, &id));
    engine.docker(&["rm", "box"]).ok();
}

/// A runtime that is ours, but hangs in a verb for as long as a file is there.
struct Hanging {
    runtime: String,
    dir: PathBuf,
}

impl Hanging {
    fn new(engine: &Engine) -> Self {
        // Goes with the engine.
        let dir = engine.exec_root().join("hanging");
        std::fs::create_dir(&dir).unwrap();
        let runtime = dir.join("runtime");
        let script = format!(
            "#!/bin/sh
for verb in kill resume update delete; do
    case \" $* \" in *\" $verb \"*)
        if [ -e {dir}/hang-$verb ]; then touch {dir}/hung-$verb; fi
        while [ -e {dir}/hang-$verb ]; do sleep 0.05; done;;
    esac
done
exec {ours} \"$@\"
",
            dir = dir.display(),
            ours = dist().join("seacow-runtime").display()
        );
        std::fs::write(&runtime, script).unwrap();
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).unwrap();
        Self { runtime: runtime.to_str().unwrap().to_owned(), dir }
    }

    fn begin(&self, verb: &str) {
        // None is left of the last time.
        drop(std::fs::remove_file(self.dir.join(format!("hung-{verb}"))));
        std::fs::write(self.dir.join(format!("hang-{verb}")), "").unwrap();
    }

    fn end(&self, verb: &str) {
        std::fs::remove_file(self.dir.join(format!("hang-{verb}"))).unwrap();
    }

    fn await_call(&self, verb: &str) {
        eventually("the runtime was asked", || self.dir.join(format!("hung-{verb}")).exists());
    }
}

/// A call that hangs delays who asked for it and nobody else: the same shim serves an exec, streams and
/// kills meanwhile.
#[test]
fn a_call_that_hangs_stands_in_nobody_s_way() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let hanging = Hanging::new(&engine);
    let run = ["run", "-d", "--name", "box", "--runtime", &hanging.runtime, "bb", "sleep", "1000"];
    let id = engine.docker(&run).ok();
    let served = || assert_eq!(engine.docker(&["exec", "box", "echo", "served"]).ok(), "served");
    let calls: [(&str, &[&str]); 2] = [
        ("update", &["update", "--memory", "100m", "--memory-swap", "200m", "box"]),
        ("kill", &["kill", "-s", "USR1", "box"]),
    ];
    for (verb, command) in calls {
        hanging.begin(verb);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| engine.docker(command));
            hanging.await_call(verb);
            served();
            assert!(!asked.is_finished(), "{verb}");
            hanging.end(verb);
            asked.join().unwrap().ok();
        });
        served();
    }
    engine.docker(&["pause", "box"]).ok();
    hanging.begin("resume");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| engine.docker(&["unpause", "box"]));
        hanging.await_call("resume");
        assert!(engine.docker(&["top", "box"]).ok().contains("sleep 1000"));
        assert!(!asked.is_finished());
        hanging.end("resume");
        asked.join().unwrap().ok();
    });
    assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
    served();
    hanging.begin("delete");
    engine.docker(&["rm", "-f", "box"]).ok();
    hanging.await_call("delete");
    hanging.end("delete");
    eventually("all traces are gone", || !leaves_traces(&engine, &id));
}

#[test]
fn names_that_are_no_runtime() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    for bad in ["nosuchruntime", "/no/such/runtime", "/etc/passwd", "io.containerd.nosuch.v9"] {
        engine
            .docker(&["run", "--rm", "--runtime", bad, "bb", "true"])
            .fails(125, &format!("unknown or invalid runtime name: {bad}"));
    }
    // A program that is no runtime.
    engine
        .docker(&["run", "--rm", "--runtime", "/bin/false", "bb", "true"])
        .fails(125, "/bin/false create ended");
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn configured_runtimes() {
    let ours = dist().join("seacow-runtime");
    let add = format!("--add-runtime=mine={}", ours.display());
    let engine = Engine::start_with(&[&add, "--default-runtime=mine"]);
    if engine.skip_on_docker() {
        return;
    }
    assert_eq!(engine.docker(&["info", "--format", "{{.DefaultRuntime}}"]).ok(), "mine");
    let listed = engine.docker(&["info", "--format", "{{json .Runtimes}}"]).ok();
    assert!(listed.contains(&format!("\"mine\":{{\"path\":{:?}}}", ours.to_str().unwrap())), "{listed}");
    assert!(listed.contains("\"seacow\""), "{listed}");
    engine.docker(&["run", "-d", "--name", "one", "bb", "sleep", "1000"]).ok();
    engine.docker(&["run", "-d", "--name", "two", "--runtime", "seacow", "bb", "sleep", "1000"]).ok();
    assert_eq!(engine.inspect("one", "{{.HostConfig.Runtime}}"), "mine");
    assert_eq!(engine.inspect("two", "{{.HostConfig.Runtime}}"), "seacow");
    let bundle = |name: &str| {
        let id = engine.inspect(name, "{{.Id}}");
        engine.exec_root().join("c").join(id).join("oci/bundle/config.json").exists()
    };
    assert!(bundle("one") && !bundle("two"), "each is made by the runtime that it names");
}
