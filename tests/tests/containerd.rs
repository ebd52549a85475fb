//! Our runtime under containerd, by its own client. `SEACOW_CONTAINERD` names a directory with Debian's
//! containerd unpacked; `cargo xtask runtimes` gives one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use seacow_tests::{Done, busybox_tar, dist, eventually};

/// A daemon of the test's own, with an unpacked root file system. Everything goes when it is dropped.
struct Containerd {
    programs: PathBuf,
    here: PathBuf,
    daemon: Child,
}

impl Containerd {
    fn start(name: &str) -> Option<Self> {
        let Some(peer) = std::env::var_os("SEACOW_CONTAINERD").map(PathBuf::from) else {
            println!("SKIPPED: SEACOW_CONTAINERD names no directory with containerd");
            return None;
        };
        let programs = peer.join("usr/bin");
        // Short: paths of sockets are.
        let here = PathBuf::from(format!("/run/seacow-t{}-{name}", std::process::id()));
        std::fs::create_dir_all(here.join("rootfs")).unwrap();
        let unpack =
            Command::new("tar").arg("-xf").arg(busybox_tar()).arg("-C").arg(here.join("rootfs")).status();
        assert!(unpack.unwrap().success());
        let config = here.join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/sock\"\n",
            here.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(here.join("log")).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let daemon = Command::new(programs.join("containerd"))
            .arg("--config")
            .arg(config)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Self { programs, here, daemon };
        eventually("containerd answers", || containerd.ctr(&["version"]).code == 0);
        Some(containerd)
    }

    fn ctr(&self, args: &[&str]) -> Done {
        let mut command = Command::new(self.programs.join("ctr"));
        command.arg("--address").arg(self.here.join("sock")).args(["--namespace", &namespace()]);
        command.args(args).stdin(Stdio::null());
        let output = command.output().unwrap();
        Done {
            command: format!("ctr {args:?}"),
            code: output.status.code().unwrap(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `ctr run` with our runtime.
    fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Done {
        let runtime = dist().join("seacow-runtime");
        let (runtime, rootfs) = (runtime.to_str().unwrap(), self.here.join("rootfs"));
        let ours = ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary", runtime, "--rootfs"];
        self.ctr(&[&ours[..], options, &[rootfs.to_str().unwrap(), id], command].concat())
    }

    fn status(&self, id: &str) -> String {
        let listed = self.ctr(&["task", "ls"]).ok();
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or_default().to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in self.ctr(&["task", "ls", "-q"]).out.split_whitespace() {
            self.ctr(&["task", "rm", "-f", id]);
        }
        // Tasks' cgroups are below one of the namespace's name, which stays.
        for parent in cgroup_parents() {
            drop(std::fs::remove_dir(parent));
        }
        drop(self.daemon.kill());
        drop(self.daemon.wait());
        if let Err(error) = std::fs::remove_dir_all(&self.here) {
            eprintln!("remove {}: {error}", self.here.display());
        }
    }
}

/// Containerd's, not the kernel's: nothing else is in it.
fn namespace() -> String {
    format!("seacow-t{}", std::process::id())
}

/// Where tasks' cgroups are, in every hierarchy.
fn cgroup_parents() -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|at| at.join(namespace())).collect()
}

fn has_cgroup(id: &str) -> bool {
    cgroup_parents().iter().any(|parent| parent.join(id).exists())
}

fn memory_limit(id: &str) -> String {
    let files = ["memory.limit_in_bytes", "memory.max"];
    let all = cgroup_parents().into_iter().flat_map(|parent| files.map(|file| parent.join(id).join(file)));
    all.map(std::fs::read_to_string).find_map(Result::ok).unwrap().trim().to_owned()
}

#[test]
fn the_life_of_a_task() {
    let Some(containerd) = Containerd::start("life") else { return };
    let name = |what: &str| format!("seacow-{}-{what}", std::process::id());
    // In the foreground.
    let once = containerd.run(&["--rm"], &name("once"), &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    once.code(7);
    assert_eq!((once.out.as_str(), once.err.as_str()), ("out\n", "err\n"));
    containerd.run(&["--rm"], &name("none"), &["nosuchcmd"]).fails(1, "nosuchcmd");
    // Ours looks for the program at the start, when the task is there already; ctr leaves it then.
    containerd.ctr(&["task", "rm", "-f", &name("none")]);
    assert_eq!(containerd.ctr(&["task", "ls", "-q"]).ok(), "");

    let id = name("box");
    let id = id.as_str();
    let script = "trap 'exit 9' TERM; while :; do sleep 0.1; done";
    containerd.run(&["-d", "--memory-limit", "67108864"], id, &["sh", "-c", script]).ok();
    assert_eq!(containerd.status(id), "RUNNING");
    let exec = |more: &[&str], command: &[&str]| {
        containerd.ctr(&[&["task", "exec", "--exec-id", "one"][..], more, &[id], command].concat())
    };
    let done = exec(&[], &["sh", "-c", "echo in; exit 3"]);
    done.code(3);
    assert_eq!(done.out, "in\n");
    assert_eq!(
        exec(&["--cwd", "/tmp", "--user", "1000:1000"], &["sh", "-c", "pwd; id -u"]).ok(),
        "/tmp\n1000"
    );
    assert_eq!(memory_limit(id), "67108864");
    assert!(containerd.ctr(&["task", "ps", id]).ok().lines().count() >= 2);
    assert!(containerd.ctr(&["task", "metrics", id]).ok().contains("memory"));

    containerd.ctr(&["task", "pause", id]).ok();
    assert_eq!(containerd.status(id), "PAUSED");
    containerd.ctr(&["task", "resume", id]).ok();
    assert_eq!(containerd.status(id), "RUNNING");

    // What it cannot do it says, and the task goes on.
    containerd.ctr(&["task", "checkpoint", id]).fails(1, "the command checkpoint is not implemented");
    assert_eq!(containerd.status(id), "RUNNING");

    containerd.ctr(&["task", "kill", id]).ok();
    eventually("the task has ended", || containerd.status(id) == "STOPPED");
    let deleted = containerd.ctr(&["task", "delete", id]);
    assert!(deleted.err.contains("exit code 9"), "{deleted:?}");
    containerd.ctr(&["container", "delete", id]).ok();
    assert!(!has_cgroup(id));

    // A task that has not ended, by force.
    let id = name("forced");
    containerd.run(&["-d"], &id, &["sleep", "1000"]).ok();
    containerd.ctr(&["task", "rm", "-f", &id]);
    assert_eq!(containerd.status(&id), "");
    containerd.ctr(&["container", "delete", &id]).ok();
    assert!(!has_cgroup(&id));
    assert!(!Path::new("/run/containerd/runc").join(namespace()).join(&id).exists());
}

/// With a terminal, whose other end is ours by way of `script`.
#[test]
fn a_task_with_a_terminal() {
    let Some(containerd) = Containerd::start("tty") else { return };
    let line = format!(
        "{} --address {} --namespace {} run --rm -t --runc-binary {} --rootfs {} seacow-{}-tty sh -c 'tty; exit 5'",
        containerd.programs.join("ctr").display(),
        containerd.here.join("sock").display(),
        namespace(),
        dist().join("seacow-runtime").display(),
        containerd.here.join("rootfs").display(),
        std::process::id()
    );
    let output =
        Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{shown}");
    assert!(shown.contains("/dev/pts/0"), "{shown}");
}
