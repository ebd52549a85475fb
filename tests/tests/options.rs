//! Options of `docker run` that change what the process is surrounded by, as dockerd has them.

use seacow_tests::{Engine, Terminal, eventually};

fn host_namespace(engine: &Engine, kind: &str) -> String {
    let path = format!("/proc/{}/ns/{kind}", engine.daemon_pid());
    std::fs::read_link(path).unwrap().to_string_lossy().into_owned()
}

#[test]
fn an_init_passes_signals_on_and_reaps() {
    let engine = Engine::start();
    let run = |args: &[&str]| engine.docker(&[&["run", "--rm", "--init"], args].concat());
    let done = run(&["bb", "sh", "-c", "cat /proc/1/comm; echo $$; exit 7"]);
    done.code(7);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[0], "docker-init");
    assert_ne!(lines[1], "1");
    run(&["bb", "sh", "-c", "kill -9 $$"]).code(137);
    run(&["bb", "nosuchcmd"]).code(127);
    assert_eq!(run(&["-u", "user", "--read-only", "bb", "id", "-u"]).ok(), "1000");
    // An orphan that ends is not left behind as a zombie.
    let script =
        "sh -c 'sleep 0.2 &'; sleep 0.6; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    assert_eq!(run(&["bb", "sh", "-c", script]).ok(), "0");
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done";
    engine.docker(&["run", "-d", "--init", "--name", "box", "bb", "sh", "-c", script]).ok();
    eventually("the program runs", || engine.docker(&["logs", "box"]).ok() == "up");
    engine.docker(&["stop", "box"]).ok();
    assert_eq!(engine.inspect("box", "{{.State.ExitCode}} {{.HostConfig.Init}}"), "9 true");
    assert_eq!(engine.inspect("box", "{{.Path}}"), "sh");
}

#[test]
fn an_init_on_a_terminal() {
    let engine = Engine::start();
    let args = ["run", "-it", "--rm", "--init", "bb", "sh"];
    let terminal = Terminal::run(engine.name(), &engine.docker_command(&args));
    terminal.shows("/ #");
    // ^C is a signal only when the shell has gone over to what it was told.
    terminal.type_text("echo r''eady; sleep 1000");
    terminal.press("Enter");
    terminal.shows("ready");
    terminal.press("C-c");
    // With the signal the kernel throws away what was typed and not read.
    terminal.shows("^C\n/ #");
    terminal.type_text("exit 5");
    terminal.press("Enter");
    terminal.shows("[exit 5]");
}

#[test]
fn the_ipc_namespace_of_another_container() {
    let engine = Engine::start();
    let run = |args: &[&str]| engine.docker(&[&["run", "--rm"], args].concat());
    let sleep = ["bb", "sleep", "1000"];
    engine.docker(&[&["run", "-d", "--name", "donor", "--ipc", "shareable"], &sleep[..]].concat()).ok();
    engine.docker(&[&["run", "-d", "--name", "closed", "--ipc", "private"], &sleep[..]].concat()).ok();
    engine.docker(&["exec", "donor", "sh", "-c", "echo shared > /dev/shm/x"]).ok();
    let of_donor = engine.docker(&["exec", "donor", "readlink", "/proc/self/ns/ipc"]).ok();
    let script = "readlink /proc/self/ns/ipc; cat /dev/shm/x; echo back > /dev/shm/y";
    let out = run(&["--ipc", "container:donor", "bb", "sh", "-c", script]).ok();
    assert_eq!(out, format!("{of_donor}\nshared"));
    assert_eq!(engine.docker(&["exec", "donor", "cat", "/dev/shm/y"]).ok(), "back");
    run(&["--ipc", "container:closed", "bb", "true"])
        .fails(125, "non-shareable IPC (hint: use IpcMode:shareable for the donor container)");
    run(&["--ipc", "container:nobody", "bb", "true"]).fails(125, "No such container: nobody");
    engine.docker(&["stop", "-t", "0", "donor"]).ok();
    run(&["--ipc", "container:donor", "bb", "true"]).fails(125, "is not running");
    assert_eq!(
        run(&["--ipc", "host", "bb", "readlink", "/proc/self/ns/ipc"]).ok(),
        host_namespace(&engine, "ipc")
    );
    assert_eq!(run(&["--ipc", "none", "bb", "sh", "-c", "grep -c ' /dev/shm ' /proc/mounts"]).out, "0\n");
}

#[test]
fn namespaces_that_are_shared() {
    let engine = Engine::start();
    let run = |args: &[&str]| engine.docker(&[&["run", "--rm"], args].concat());
    assert_eq!(
        run(&["--uts", "host", "bb", "readlink", "/proc/self/ns/uts"]).ok(),
        host_namespace(&engine, "uts")
    );
    run(&["--uts", "host", "--hostname", "x", "bb", "true"]).fails(125, "UTS mode");
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    let of_box = engine.docker(&["exec", "box", "readlink", "/proc/self/ns/pid"]).ok();
    assert_eq!(run(&["--pid", "container:box", "bb", "readlink", "/proc/self/ns/pid"]).ok(), of_box);
    assert!(run(&["--pid", "container:box", "bb", "ps"]).ok().contains("sleep 1000"));
    run(&["--pid", "container:nobody", "bb", "true"]).fails(125, "No such container: nobody");
    let cgroups = ["--cgroupns", "host", "bb", "readlink", "/proc/self/ns/cgroup"];
    assert_eq!(run(&cgroups).ok(), host_namespace(&engine, "cgroup"));
    let own = ["--cgroupns", "private", "bb", "readlink", "/proc/self/ns/cgroup"];
    assert_ne!(run(&own).ok(), host_namespace(&engine, "cgroup"));
}

#[test]
fn devices_and_their_rules() {
    let engine = Engine::start();
    let sh = |args: &[&str], script: &str| {
        engine.docker(&[&["run", "--rm"], args, &["bb", "sh", "-c", script]].concat())
    };
    assert_eq!(sh(&["--device", "/dev/zero:/dev/naught:r"], "head -c 3 /dev/naught | wc -c").ok(), "3");
    sh(&["--device", "/dev/fuse:/dev/fuse:r"], "echo x > /dev/fuse").fails(1, "Operation not permitted");
    sh(&[], "mknod /k c 10 229 && : < /k").fails(1, "Operation not permitted");
    sh(&["--device-cgroup-rule", "c 10:229 rwm"], "mknod /k c 10 229 && : < /k").ok();
    let missing = sh(&["--device", "/dev/nosuch"], "true");
    assert!(
        missing.code != 0 && missing.err.contains("\"/dev/nosuch\": no such file or directory"),
        "{missing:?}"
    );
    sh(&["--device-cgroup-rule", "nonsense"], "true").fails(125, "nonsense");
}

#[test]
fn limits_of_the_process() {
    let engine = Engine::start();
    let sh = |args: &[&str], script: &str| {
        engine.docker(&[&["run", "--rm"], args, &["bb", "sh", "-c", script]].concat())
    };
    assert_eq!(sh(&["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj").ok(), "321");
    sh(&["--oom-score-adj", "1001"], "true").fails(125, "range for oom score adj is [-1000, 1000]");
    assert_eq!(sh(&["--ulimit", "core=0:0", "--ulimit", "nofile=64"], "ulimit -c; ulimit -n").ok(), "0\n64");
    sh(&["--ulimit", "nosuch=1"], "true").code(125);
    assert_eq!(sh(&["--sysctl", "kernel.shmmax=1000000"], "cat /proc/sys/kernel/shmmax").ok(), "1000000");
    sh(&["--sysctl", "kernel.panic=1"], "true").code(125);
}

#[test]
fn security_options() {
    let engine = Engine::start();
    let sh = |args: &[&str], script: &str| {
        engine.docker(&[&["run", "--rm"], args, &["bb", "sh", "-c", script]].concat())
    };
    let status = |name: &str| format!("awk '/^{name}:/ {{print $2}}' /proc/self/status");
    assert_eq!(sh(&[], &status("Seccomp")).ok(), "2");
    assert_eq!(sh(&["--security-opt", "seccomp=unconfined"], &status("Seccomp")).ok(), "0");
    assert_eq!(sh(&["--security-opt", "no-new-privileges"], &status("NoNewPrivs")).ok(), "1");
    assert_eq!(sh(&["--security-opt", "no-new-privileges=false"], &status("NoNewPrivs")).ok(), "0");
    let masked = "head -c 1 /proc/kcore | wc -c; test -w /proc/sys/kernel/hostname; echo $?";
    assert_eq!(sh(&[], masked).ok().lines().next(), Some("0"));
    let open = sh(&["--security-opt", "systempaths=unconfined"], "grep -c ' /proc/' /proc/mounts");
    assert_eq!(open.out, "0\n");
    assert_eq!(sh(&["--security-opt", "label=disable"], "echo fine").ok(), "fine");
    assert_eq!(sh(&["--security-opt", "apparmor=unconfined"], "echo fine").ok(), "fine");
    sh(&["--security-opt", "nonsense=x"], "true").code(125);
}
