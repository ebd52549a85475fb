//! Our runtime under podman. `SEACOW_PODMAN` names a directory with Debian's podman, conmon and
//! their libraries unpacked; `cargo xtask runtimes` gives one.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use seacow_tests::{busybox_tar, dist};

/// podman wants files in /etc, which it finds in a mount namespace of its own.
const ENTER: &str = "mount -t overlay overlay -o lowerdir=$HERE/etc:/etc /etc && exec podman \"$@\"";
/// This machine may not raise limits, which podman does by default.
const CONFIG: &str = "[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n\
                      [containers]\ndefault_ulimits=[\"nofile=1024:4096\",\"nproc=1000:2000\"]\n";

struct Podman {
    peers: PathBuf,
    here: PathBuf,
}

impl Podman {
    fn new() -> Option<Self> {
        let Some(peers) = std::env::var_os("SEACOW_PODMAN").map(PathBuf::from) else {
            println!("SKIPPED: SEACOW_PODMAN names no directory with podman");
            return None;
        };
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let here = PathBuf::from(format!("/var/lib/seacow-t{}-podman{number}", std::process::id()));
        let etc = here.join("etc/containers");
        std::fs::create_dir_all(&etc).unwrap();
        let write = |name: &str, text: &str| std::fs::write(etc.join(name), text).unwrap();
        write("policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}");
        write("registries.conf", "");
        let conmon = peers.join("usr/bin/conmon");
        let engine = format!("[engine]\nconmon_path=[{:?}]\n", conmon.to_str().unwrap());
        write("containers.conf", &CONFIG.replace("[engine]\n", &engine));
        Some(Self { peers, here })
    }

    fn command(&self, args: &[&str]) -> Command {
        let path = format!("{}/usr/bin:{}", self.peers.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "slave", "sh", "-c", ENTER, "podman"])
            .arg(format!("--root={}/root", self.here.display()))
            .arg(format!("--runroot={}/run", self.here.display()))
            .arg(format!("--tmpdir={}/tmp", self.here.display()))
            .arg("--storage-driver=vfs")
            .arg(format!("--runtime={}", dist().join("seacow-runtime").display()))
            .args(args)
            .env("HERE", &self.here)
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", self.peers.join("usr/lib/x86_64-linux-gnu"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    #[track_caller]
    fn expect(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "podman {args:?}\nstdout: {out}\nstderr: {err}");
        out.trim().to_owned()
    }

    /// In a terminal of its own.
    #[track_caller]
    fn in_terminal(&self, args: &[&str], code: i32) -> String {
        let plain = self.command(args);
        let words: Vec<_> = plain.get_args().map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut script = Command::new("script");
        script.args(["-qec", &format!("unshare {}", words.join(" ")), "/dev/null"]);
        for (name, value) in plain.get_envs() {
            script.env(name, value.unwrap());
        }
        let output = script.stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{script:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "-fa", "-t", "0"]);
        if let Err(error) = std::fs::remove_dir_all(&self.here) {
            eprintln!("remove {}: {error}", self.here.display());
        }
    }
}

#[test]
fn the_life_of_a_container() {
    let Some(podman) = Podman::new() else { return };
    podman.expect(&["import", &busybox_tar().to_string_lossy(), "localhost/bb"], 0);
    let once = ["run", "--rm", "--network", "none", "localhost/bb", "sh", "-c"];
    assert_eq!(podman.expect(&[&once[..], &["echo hi; exit 7"]].concat(), 7), "hi");
    let hog =
        ["run", "--rm", "--network=none", "--memory=32m", "localhost/bb", "tail", "-c200000000", "/dev/zero"];
    podman.expect(&hog, 137);
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let box_ = ["run", "-d", "--name", "box", "--network", "none", "localhost/bb", "sh", "-c", script];
    podman.expect(&box_, 0);
    assert_eq!(podman.expect(&["exec", "box", "sh", "-c", "echo in; exit 3"], 3), "in");
    assert!(podman.in_terminal(&["exec", "-it", "box", "tty"], 0).contains("/dev/pts/0"));
    podman.expect(&["pause", "box"], 0);
    assert_eq!(podman.expect(&["inspect", "box", "--format", "{{.State.Status}}"], 0), "paused");
    podman.expect(&["unpause", "box"], 0);
    podman.expect(&["update", "--memory", "64m", "box"], 0);
    let limit =
        "cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
    assert_eq!(podman.expect(&["exec", "box", "sh", "-c", limit], 0), "67108864");
    let stats = podman.expect(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "box"], 0);
    assert!(stats.contains("kB /") || stats.contains("MB /"), "{stats}");
    assert!(podman.expect(&["top", "box"], 0).contains("trap"));
    podman.expect(&["stop", "box"], 0);
    assert_eq!(podman.expect(&["inspect", "box", "--format", "{{.State.ExitCode}}"], 0), "9");
    assert_eq!(podman.expect(&["logs", "box"], 0), "up", "nothing of the runtime's is among it");
    podman.expect(&["rm", "box"], 0);
    let shell = ["run", "-it", "--rm", "--network", "none", "localhost/bb", "sh", "-c", "tty; exit 5"];
    assert!(podman.in_terminal(&shell, 5).contains("/dev/pts/0"));
}

#[test]
fn podman_pushes_to_our_registry_and_pulls_from_it() {
    let Some(podman) = Podman::new() else { return };
    let engine = seacow_tests::Engine::start();
    let said = engine.seacow(&["registry", "start", "--listen", "127.0.0.1:0"]).ok();
    let host = said.rsplit(' ').next().unwrap();
    podman.expect(&["import", "-q", &busybox_tar().to_string_lossy(), "localhost/bb"], 0);
    let theirs = format!("{host}/by-podman:1");
    podman.expect(&["push", "-q", "--tls-verify=false", "localhost/bb", &theirs], 0);
    engine.docker(&["pull", "-q", &theirs]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &theirs, "echo", "ran"]).ok(), "ran");
    let ours = format!("{host}/by-seacow:1");
    engine.docker(&["tag", "bb", &ours]).ok();
    engine.docker(&["push", "-q", &ours]).ok();
    podman.expect(&["pull", "-q", "--tls-verify=false", &ours], 0);
    let digest = engine.inspect(&ours, "{{index .RepoDigests 0}}");
    let theirs = podman.expect(&["image", "inspect", "--format", "{{.Digest}}", &ours], 0);
    assert!(digest.ends_with(&theirs), "{digest} {theirs}");
}
