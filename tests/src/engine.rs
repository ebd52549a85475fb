//! An engine of a test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::http::{self, Response};
use crate::patience;
use crate::process::{Done, Running};

/// Which engine is being judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Seacow,
    /// The oracle.
    Docker,
}

/// A running engine; stopped, and its traces removed, when dropped.
pub struct Engine {
    kind: Kind,
    name: String,
    number: u32,
    flags: Vec<String>,
    cgroup_driver: String,
    /// Where its programs are.
    programs: PathBuf,
    child: Option<Child>,
    /// What starts the daemon, if it is not started directly.
    wrapper: Vec<String>,
}

/// Starts within this process so far, to tell several engines of one test apart.
static STARTED: AtomicU32 = AtomicU32::new(0);

impl Engine {
    /// Starts an engine without images.
    pub fn empty() -> Self {
        Self::empty_with(&[])
    }

    /// As [`Self::start`], with further flags for the daemon.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::empty_with(flags).with_busybox()
    }

    /// As [`Self::start`], with a cgroup driver of the test's choice.
    pub fn with_cgroup_driver(name: &str) -> Self {
        Self::spawned(&[], name.to_owned()).with_busybox()
    }

    /// One whose containers can be forked, wherever it runs: clones are not born in systemd's scopes.
    pub fn forking() -> Self {
        Self::with_cgroup_driver("cgroupfs")
    }

    /// As [`Self::start_with`], the daemon started by way of a program that executes the rest of its
    /// command line, such as `unshare --mount`.
    pub fn start_through(words: &[&str], flags: &[&str]) -> Self {
        let wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        Self::wrapped(wrapper, flags, cgroup_driver()).with_busybox()
    }

    /// As [`Self::empty`], with further flags for the daemon. `SEACOW_TEST_RUNTIME` names the OCI
    /// runtime of every container, under either engine.
    pub fn empty_with(flags: &[&str]) -> Self {
        Self::spawned(flags, cgroup_driver())
    }

    fn spawned(flags: &[&str], cgroup_driver: String) -> Self {
        Self::wrapped(Vec::new(), flags, cgroup_driver)
    }

    fn wrapped(wrapper: Vec<String>, flags: &[&str], cgroup_driver: String) -> Self {
        assert!(is_root(), "these tests need root");
        let kind = match std::env::var("SEACOW_TEST_ENGINE").as_deref() {
            Ok("docker") => Kind::Docker,
            Ok("seacow") | Err(_) => Kind::Seacow,
            Ok(other) => panic!("SEACOW_TEST_ENGINE={other}: docker or seacow"),
        };
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("seacow-t{}-{number}", std::process::id());
        let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        if let Ok(runtime) = std::env::var("SEACOW_TEST_RUNTIME")
            && !flags.iter().any(|flag| flag.starts_with("--default-runtime"))
        {
            flags.extend([format!("--add-runtime=tested={runtime}"), "--default-runtime=tested".into()]);
        }
        let programs = dist();
        let mut engine = Self { kind, name, number, flags, cgroup_driver, programs, child: None, wrapper };
        engine.spawn();
        engine
    }

    /// Starts an engine that has the image `bb`, busybox.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    fn with_busybox(self) -> Self {
        self.docker(&["import", &crate::busybox_tar().to_string_lossy(), "bb"]).ok();
        self
    }

    /// Whether a test of what only seacow has must be left out; says so.
    pub fn skip_on_docker(&self) -> bool {
        if self.kind == Kind::Docker {
            println!("SKIPPED: dockerd has no such thing");
        }
        self.kind == Kind::Docker
    }

    /// Which engine it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name, which all that it makes on the machine carries.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its data are.
    pub fn data_root(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/{}", self.name))
    }

    /// Where its volatile state is.
    pub fn exec_root(&self) -> PathBuf {
        PathBuf::from(format!("/run/{}", self.name))
    }

    /// Its API socket.
    pub fn socket(&self) -> PathBuf {
        self.exec_root().join("engine.sock")
    }

    /// Name of its bridge: at most 15 characters, the kernel's limit.
    pub fn bridge(&self) -> String {
        let letter = char::from(b'a' + u8::try_from(self.number % 26).unwrap());
        format!("seacow{}{letter}", std::process::id())
    }

    /// Its daemon's pid.
    pub fn daemon_pid(&self) -> u32 {
        match self.kind {
            Kind::Seacow => self.child.as_ref().unwrap().id(),
            // The child is dockerd's parent, which made its namespaces.
            Kind::Docker => {
                std::fs::read_to_string(self.exec_root().join("pid")).unwrap().trim().parse().unwrap()
            }
        }
    }

    /// The cgroup that its containers have theirs in, as the driver names it.
    pub fn cgroup_parent(&self) -> String {
        // A hyphen in a slice's name is a level.
        if self.cgroup_driver == "systemd" {
            format!("{}.slice", self.name.replace('-', "_"))
        } else {
            format!("/{}", self.name)
        }
    }

    /// What the daemon printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.exec_root().join("log")).unwrap_or_default()
    }

    /// The stock client, pointed here, to the end.
    pub fn docker(&self, args: &[&str]) -> Done {
        Done::run(&mut self.docker_command(args))
    }

    /// The stock client with `input` as standard input.
    pub fn docker_with_input(&self, args: &[&str], input: &[u8]) -> Done {
        feed(&mut self.docker_command(args), input)
    }

    /// The stock client, still running.
    pub fn docker_running(&self, args: &[&str]) -> Running {
        Running::spawn(&mut self.docker_command(args))
    }

    /// The stock client's command line, pointed here.
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let docker = std::env::var_os("SEACOW_DOCKER").unwrap_or_else(|| "docker".into());
        self.client(docker.as_ref(), args)
    }

    /// Our client, pointed here, to the end.
    pub fn seacow(&self, args: &[&str]) -> Done {
        Done::run(&mut self.seacow_command(args))
    }

    /// Our client with `input` as standard input.
    pub fn seacow_with_input(&self, args: &[&str], input: &[u8]) -> Done {
        feed(&mut self.seacow_command(args), input)
    }

    /// Our client's command line, pointed here.
    pub fn seacow_command(&self, args: &[&str]) -> Command {
        self.client(&dist().join("seacow"), args)
    }

    /// Any client's command line, pointed here.
    pub fn client(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(args);
        // The user's own client configuration is none of the test's business.
        command.env("DOCKER_CONFIG", self.exec_root().join("config"));
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").env_remove("SEACOW_HOST");
        command.env("DOCKER_BUILDKIT", "0");
        command.stdin(Stdio::null());
        command
    }

    /// One request to the bare API with a JSON body (or none).
    pub fn api(&self, method: &str, path: &str, body: &str) -> Response {
        let headers: &[&str] = if body.is_empty() { &[] } else { &["Content-Type: application/json"] };
        http::request(&self.socket(), method, path, headers, body.as_bytes())
    }

    /// One request to the bare API, whose answer is read later.
    pub fn api_begin(&self, method: &str, path: &str) -> http::Begun {
        http::begin(&self.socket(), method, path, &[], &[])
    }

    /// One request to the bare API with headers of the test's choice.
    pub fn api_raw(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Response {
        http::request(&self.socket(), method, path, headers, body)
    }

    /// One field of `docker inspect`, by Go template.
    #[track_caller]
    pub fn inspect(&self, thing: &str, template: &str) -> String {
        self.docker(&["inspect", "--format", template, thing]).ok()
    }

    /// Kills the daemon as the OOM killer would.
    pub fn kill_daemon(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// From the next start on, the daemon is another file, and so is its shim: what an upgrade does.
    pub fn upgrade(&mut self) {
        let next = self.exec_root().join("upgraded");
        std::fs::create_dir_all(&next).unwrap();
        for program in ["seacowd", "seacow-shim", "seacow-init"] {
            std::fs::copy(self.programs.join(program), next.join(program)).unwrap();
        }
        self.programs = next;
    }

    /// Starts the daemon again after [`Self::kill_daemon`] or [`Self::stop_daemon`].
    pub fn restart_daemon(&mut self) {
        self.spawn();
    }

    /// Starts the daemon again after [`Self::kill_daemon`] or [`Self::stop_daemon`], by way of a program
    /// that executes the rest of its command line, such as `prlimit --nofile=…`.
    pub fn restart_daemon_through(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self.spawn();
    }

    /// Stops the daemon in order; containers go on.
    pub fn stop_daemon(&mut self) {
        if self.child.is_none() {
            return;
        }
        let pid = self.daemon_pid().to_string();
        let Some(mut child) = self.child.take() else { return };
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > patience(20) {
                drop(child.kill());
                drop(child.wait());
                panic!("the daemon did not stop within {:?}\n{}", patience(20), self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn spawn(&mut self) {
        std::fs::create_dir_all(self.exec_root().join("config")).unwrap();
        let log =
            std::fs::File::options().create(true).append(true).open(self.exec_root().join("log")).unwrap();
        let mut command = match self.kind {
            Kind::Seacow => self.seacowd(),
            Kind::Docker => self.dockerd(),
        };
        if let Some((program, words)) = self.wrapper.split_first() {
            let mut wrapped = Command::new(program);
            wrapped.args(words).arg(command.get_program()).args(command.get_args());
            wrapped.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
            command = wrapped;
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon ended at once: {status}\n{}", self.log());
            }
            assert!(start.elapsed() < patience(30), "the daemon does not listen\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child = Some(child);
    }

    fn seacowd(&self) -> Command {
        // A subnet of its own: tests that start at the same moment would find the same one free.
        let subnet = (std::process::id() * 5 + self.number) & 0x3fff;
        let mut command = Command::new(self.programs.join("seacowd"));
        command
            .arg(format!("--data-root={}", self.data_root().display()))
            .arg(format!("--exec-root={}", self.exec_root().display()))
            .arg(format!("--host=unix://{}", self.socket().display()))
            .arg(format!("--pidfile={}/pid", self.exec_root().display()))
            .arg(format!("--bridge={}", self.bridge()))
            .arg(format!("--exec-opt=native.cgroupdriver={}", self.cgroup_driver))
            // Several engines may share one; apart, each shows what it leaves behind.
            .arg(format!("--cgroup-parent={}", self.cgroup_parent()))
            .arg(format!("--bip=10.{}.{}.1/24", 64 + (subnet >> 8), subnet & 0xff))
            .args(&self.flags);
        command
    }

    /// In namespaces of its own, so that it touches neither the machine's firewall nor its links.
    fn dockerd(&self) -> Command {
        let peers = PathBuf::from(
            std::env::var_os("SEACOW_DOCKERD").expect("SEACOW_DOCKERD names dockerd's directory"),
        );
        let path = format!("{0}/usr/sbin:{0}/usr/bin:{1}", peers.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--fork", "--kill-child", "sh", "-c"])
            .arg("ip link set lo up && exec dockerd \"$@\"")
            .arg("dockerd")
            .arg(format!("--data-root={}", self.data_root().display()))
            .arg(format!("--exec-root={}/exec", self.exec_root().display()))
            .arg(format!("--host=unix://{}", self.socket().display()))
            .arg(format!("--pidfile={}/pid", self.exec_root().display()))
            .args(&self.flags)
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", peers.join("usr/lib/x86_64-linux-gnu"));
        command
    }

    /// Force-removes every container, so that the daemon leaves nothing when it stops.
    fn remove_containers(&self) {
        let ids = self.docker(&["ps", "-aq"]).out;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            let mut args = vec!["rm", "-f", "-v"];
            args.extend(ids);
            self.docker(&args);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_none() {
            self.spawn();
        }
        self.remove_containers();
        if std::thread::panicking() {
            eprintln!("---- log of the daemon\n{}", self.log());
        }
        self.stop_daemon();
        if self.kind == Kind::Seacow && self.cgroup_driver == "systemd" {
            crate::remove_slice(&self.cgroup_parent());
        }
        for dir in [self.data_root(), self.exec_root()] {
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                eprintln!("remove {}: {error}", dir.display());
            }
        }
    }
}

/// The cgroup driver that is judged.
pub fn cgroup_driver() -> String {
    std::env::var("SEACOW_TEST_CGROUP_DRIVER").unwrap_or_else(|_| "cgroupfs".into())
}

/// Where the programs under test are.
pub fn dist() -> PathBuf {
    match std::env::var_os("SEACOW_DIST") {
        Some(dist) => dist.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist"),
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Runs a command with `input` as standard input, to the end.
fn feed(command: &mut Command, input: &[u8]) -> Done {
    let mut running = Running::spawn(command);
    // The client may have ended without reading all; that is its business.
    drop(std::io::Write::write_all(running.stdin(), input));
    running.finish()
}
