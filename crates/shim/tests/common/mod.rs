//! A shim driven over its protocol, with a busybox root file system.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Std};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use seacow_spec::lifecycle::Exit;
use seacow_spec::oci::runtime as oci;
use seacow_spec::shim::{
    Answer, Attach, Create, Decoder, Event, Exec, FromShim, LogConfig, Lower, OverlayUpper, PROTOCOL_VERSION,
    Prepare, Request, Rootfs, SeccompChoice, Status, Stdio, Target, ToShim, encode,
};
use seacow_spec::{ContainerId, ErrorReport, ExecId};

/// What nothing here takes unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the test can run; says so if not.
pub(crate) fn needs_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    let busybox = busybox().is_some();
    if !root || !busybox {
        eprintln!(
            "SKIP: needs root ({root}) and a static busybox ({busybox}: apt-get install busybox-static)"
        );
    }
    root && busybox
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists())
}

/// The binary under test: SEACOW_SHIM, or the one cargo built for this test.
pub(crate) fn shim_program() -> PathBuf {
    std::env::var_os("SEACOW_SHIM").map_or_else(|| env!("CARGO_BIN_EXE_seacow-shim").into(), PathBuf::from)
}

/// A root file system with busybox, kept in cargo's directory for such things.
pub(crate) fn rootfs() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seacow-shim-rootfs");
        if !root.exists() {
            // Several test programs may do this at once; one of them wins.
            let made = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            fill_rootfs(&made.path().join("root"));
            let _ = std::fs::rename(made.path().join("root"), &root);
        }
        root
    })
}

fn fill_rootfs(root: &Path) {
    for dir in ["bin", "dev", "proc", "sys", "etc", "tmp", "root"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    let busybox = busybox().unwrap();
    std::fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    let applets = Command::new(&busybox).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let write = |name: &str, text: &str, mode: u32| {
        std::fs::write(root.join(name), text).unwrap();
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n", 0o644);
    write("etc/group", "root:x:0:\nuser:x:1000:\n", 0o644);
    write("bin/not-executable", "#!/bin/sh\n", 0o644);
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
}

/// One connection to a shim.
pub(crate) struct Conn {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
    next: u64,
    answers: BTreeMap<u64, Answer>,
    events: VecDeque<Event>,
}

impl Conn {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            decoder: Decoder::default(),
            next: 0,
            answers: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn connect(dir: &Path) -> Self {
        Self::new(UnixStream::connect(dir.join("shim.sock")).unwrap())
    }

    pub(crate) fn send(&mut self, request: Request, descriptor: Option<OwnedFd>) -> u64 {
        self.next += 1;
        let frame = encode(&ToShim { seq: self.next, request }).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let borrowed = descriptor.as_ref().map(|fd| [fd.as_fd()]);
        if let Some(fds) = &borrowed {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let sent = sendmsg(&self.stream, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL).unwrap();
        self.stream.write_all(&frame[sent..]).unwrap();
        self.next
    }

    /// Reads one message; false at the end.
    fn read(&mut self) -> bool {
        loop {
            if let Some(message) = self.decoder.next_message::<FromShim>().unwrap() {
                match message {
                    FromShim::Answer { seq, answer } => drop(self.answers.insert(seq, answer)),
                    FromShim::Event(event) => self.events.push_back(event),
                }
                return true;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(len) => self.decoder.push(&bytes[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("shim does not answer: {error}"),
            }
        }
    }

    pub(crate) fn answer(&mut self, seq: u64) -> Answer {
        loop {
            if let Some(answer) = self.answers.remove(&seq) {
                return answer;
            }
            assert!(self.read(), "the shim closed the connection");
        }
    }

    pub(crate) fn ask(&mut self, request: Request) -> Answer {
        let seq = self.send(request, None);
        self.answer(seq)
    }

    /// Asks for something that has to succeed.
    pub(crate) fn done(&mut self, request: Request) {
        let text = format!("{request:?}");
        assert_eq!(self.ask(request), Answer::Done, "{text}");
    }

    /// Asks for something that has to fail.
    pub(crate) fn refused(&mut self, request: Request) -> ErrorReport {
        match self.ask(request) {
            Answer::Failed(report) => report,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn hello(&mut self) -> Status {
        match self.ask(Request::Hello { version: PROTOCOL_VERSION }) {
            Answer::Hello { version, status, shim_pid } => {
                assert_eq!(version, PROTOCOL_VERSION);
                assert!(shim_pid > 1);
                *status
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn status(&mut self) -> Status {
        match self.ask(Request::Status) {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn pids(&mut self) -> Vec<i32> {
        match self.ask(Request::Pids) {
            Answer::Pids(pids) => pids,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            assert!(self.read(), "the shim closed the connection");
        }
    }

    /// Events that have arrived so far.
    pub(crate) fn events_so_far(&mut self) -> Vec<Event> {
        self.status();
        self.events.drain(..).collect()
    }

    /// Whether the shim closes this connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        while self.read() {}
        true
    }

    /// Waits for init's end.
    pub(crate) fn exit(&mut self) -> Exit {
        loop {
            match self.event() {
                Event::Exited(exit) => return exit,
                Event::ExecExited { .. } | Event::OutOfMemory | Event::Moved { .. } => {}
            }
        }
    }

    pub(crate) fn exec_exit(&mut self, id: &ExecId) -> Exit {
        loop {
            match self.event() {
                Event::ExecExited { exec_id, exit } if exec_id == *id => return exit,
                Event::ExecExited { .. } | Event::OutOfMemory | Event::Moved { .. } => {}
                Event::Exited(exit) => panic!("init ended: {exit:?}"),
            }
        }
    }

    /// Attaches a new client and gives its other end.
    pub(crate) fn attach(&mut self, attach: Attach) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let seq = self.send(Request::Attach(attach), Some(theirs.into()));
        match self.answer(seq) {
            Answer::Attached { .. } => {}
            other => panic!("{other:?}"),
        }
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    pub(crate) fn signal(&mut self, signal: i32) {
        self.done(Request::Signal { target: Target::Init, signal, all: false });
    }

    /// Starts an exec with a client attached to it.
    pub(crate) fn exec(&mut self, exec: Exec) -> (ExecId, Result<UnixStream, ErrorReport>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let id = exec.exec_id.clone();
        let descriptor = exec.attach.is_some().then(|| theirs.into());
        let seq = self.send(Request::Exec(Box::new(exec)), descriptor);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let outcome = match self.answer(seq) {
            Answer::Started { pid, .. } => {
                assert!(pid > 1);
                Ok(ours)
            }
            Answer::Failed(report) => Err(report),
            other => panic!("{other:?}"),
        };
        (id, outcome)
    }
}

/// What a container should be, beyond its command.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) stdio: Stdio,
    pub(crate) user: String,
    pub(crate) log: Option<(u64, u32)>,
    pub(crate) resources: Option<oci::LinuxResources>,
    pub(crate) host_pid: bool,
    /// Its program gets a shadow.
    pub(crate) forkable: bool,
}

/// A shim process and its first connection.
pub(crate) struct Shim {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) child: Child,
    pub(crate) conn: Conn,
    pub(crate) id: ContainerId,
    pub(crate) init: i32,
    deleted: bool,
}

impl Shim {
    /// A shim that was greeted.
    pub(crate) fn spawn() -> Self {
        let dir = tempfile::Builder::new().prefix("seacow-shim-").tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(shim_program())
            .arg("--dir")
            .arg(dir.path())
            .stdin(Std::from(OwnedFd::from(theirs)))
            .stdout(Std::null())
            .spawn()
            .unwrap();
        let mut conn = Conn::new(ours);
        let status = conn.hello();
        assert!(status.state.is_none() && status.id.is_none() && status.execs.is_empty());
        Self { dir, child, conn, id: ContainerId::random().unwrap(), init: 0, deleted: false }
    }

    /// A created container.
    pub(crate) fn create(command: &[&str], options: &Options) -> Self {
        let mut shim = Self::spawn();
        shim.prepare(options);
        let create = shim.create_request(command, options);
        match shim.conn.ask(Request::Create(Box::new(create))) {
            Answer::Created { pid } => assert_eq!(pid, shim.init),
            other => panic!("{other:?}"),
        }
        shim
    }

    /// A container that another shim made and serves.
    pub(crate) fn around(dir: tempfile::TempDir, conn: Conn, id: ContainerId, init: i32) -> Self {
        let child = Command::new("true").spawn().unwrap();
        Self { dir, child, conn, id, init, deleted: true }
    }

    /// A running container.
    pub(crate) fn run(command: &[&str], options: &Options) -> Self {
        let mut shim = Self::create(command, options);
        shim.start();
        shim
    }

    pub(crate) fn prepare(&mut self, options: &Options) {
        let request = self.prepare_request(options);
        match self.conn.ask(Request::Prepare(Box::new(request))) {
            Answer::Prepared { pid } => self.init = pid,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn start(&mut self) {
        match self.conn.ask(Request::Start) {
            Answer::Started { pid, .. } => assert_eq!(pid, self.init),
            other => panic!("{other:?}"),
        }
    }

    /// Starts it; with a shadow another process is init then.
    pub(crate) fn start_moved(&mut self) {
        match self.conn.ask(Request::Start) {
            Answer::Started { pid, .. } => self.init = pid,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn prepare_request(&self, options: &Options) -> Prepare {
        Prepare {
            id: self.id.clone(),
            namespaces: namespaces(options),
            cgroups_path: self.cgroups_path(),
            mounts: mounts(),
            masked_paths: vec!["/proc/kcore".into(), "/proc/keys".into()],
            readonly_paths: vec!["/proc/sys".into()],
            privileged: false,
            settings: Default::default(),
            runtime: None,
        }
    }

    pub(crate) fn cgroups_path(&self) -> String {
        format!("/seacow-shim-test-{}", self.id)
    }

    pub(crate) fn create_request(&self, command: &[&str], options: &Options) -> Create {
        for dir in ["upper", "work"] {
            std::fs::create_dir_all(self.dir.path().join(dir)).unwrap();
        }
        let mut process = process(command);
        process.terminal = options.stdio.terminal;
        Create {
            spec: oci::Spec {
                oci_version: oci::VERSION.into(),
                process: Some(process),
                hostname: "seacow".into(),
                linux: Some(oci::Linux {
                    resources: options.resources.clone(),
                    cgroups_path: self.cgroups_path(),
                    namespaces: namespaces(options),
                    ..Default::default()
                }),
                annotations: options
                    .forkable
                    .then(|| (seacow_spec::shim::FORKABLE.to_owned(), "true".to_owned()))
                    .into_iter()
                    .collect(),
                ..Default::default()
            },
            user: options.user.clone(),
            maps_root: false,
            extra_groups: Vec::new(),
            rootfs: Rootfs::Overlay {
                lowers: vec![Lower::Dir(rootfs().to_owned())],
                upper: Some(OverlayUpper {
                    upper: self.dir.path().join("upper"),
                    work: self.dir.path().join("work"),
                    volatile: true,
                    metacopy: false,
                }),
            },
            stdio: options.stdio,
            log: match options.log {
                None => LogConfig::None,
                Some((max_size, max_files)) => LogConfig::JsonFile { path: self.log(), max_size, max_files },
            },
            seccomp: SeccompChoice::Default,
            state: Default::default(),
        }
    }

    /// What a daemon's death does to its end of the connection.
    pub(crate) fn lose_daemon(&mut self) {
        self.conn = Conn::new(UnixStream::pair().unwrap().0);
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("c-json.log")
    }

    pub(crate) fn exit_file(&self) -> Option<Exit> {
        let bytes = std::fs::read(self.dir.path().join("exit.json")).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// Deletes the container and waits for the shim's end.
    pub(crate) fn delete(mut self) {
        self.conn.done(Request::Delete);
        assert!(self.conn.is_closed());
        self.wait();
        self.assert_nothing_left();
    }

    /// Waits for the shim's end.
    pub(crate) fn wait(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the shim does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.deleted = true;
    }

    /// No cgroup, no socket, no process, no mount.
    pub(crate) fn assert_nothing_left(&self) {
        for dir in self.cgroups() {
            assert!(!dir.exists(), "{} is left", dir.display());
        }
        assert!(!self.dir.path().join("shim.sock").exists());
        if self.init > 0 {
            assert!(is_dead(self.init), "init is left");
        }
    }

    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let name = self.cgroups_path();
        let name = name.trim_start_matches('/');
        found.push(Path::new("/sys/fs/cgroup").join(name));
        for entry in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            found.push(entry.path().join(name));
        }
        found
    }

    /// `seacow-shim --cleanup`, which must succeed.
    pub(crate) fn cleanup(&self) {
        let output = Command::new(shim_program()).arg("--cleanup").arg(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if !self.deleted {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = Command::new(shim_program()).arg("--cleanup").arg(self.dir.path()).status();
        }
    }
}

fn namespaces(options: &Options) -> Vec<oci::LinuxNamespace> {
    use oci::NamespaceKind as Kind;
    [Kind::Pid, Kind::Network, Kind::Mount, Kind::Ipc, Kind::Uts, Kind::Cgroup]
        .into_iter()
        .filter(|kind| !(options.host_pid && *kind == Kind::Pid))
        .map(|kind| oci::LinuxNamespace { kind, path: String::new() })
        .collect()
}

fn mounts() -> Vec<oci::Mount> {
    let mount = |destination: &str, kind: &str, options: &[&str]| oci::Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: kind.into(),
        options: options.iter().map(|option| (*option).into()).collect(),
        ..Default::default()
    };
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
    ]
}

/// A program with Docker's default capabilities.
pub(crate) fn process(command: &[&str]) -> oci::Process {
    let capabilities: Vec<String> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    oci::Process {
        args: command.iter().map(|word| (*word).into()).collect(),
        env: vec!["PATH=/bin".into(), "TERM=xterm".into()],
        cwd: "/".into(),
        capabilities: Some(oci::Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// An exec of `command`, with a client for all streams.
pub(crate) fn exec(command: &[&str], stdio: Stdio) -> Exec {
    let exec_id = ExecId::random().unwrap();
    let target = Target::Exec(exec_id.clone());
    let mut process = process(command);
    process.terminal = stdio.terminal;
    Exec {
        exec_id,
        process,
        user: String::new(),
        extra_groups: Vec::new(),
        seccomp: SeccompChoice::Default,
        stdio,
        attach: Some(Attach { target, stdin: stdio.open_stdin, ..attach(true) }),
    }
}

/// An attachment to init's output, and its input if asked for.
pub(crate) fn attach(stdin: bool) -> Attach {
    Attach {
        target: Target::Init,
        stdin,
        stdout: true,
        stderr: true,
        detach_keys: Vec::new(),
        initial_stdin: Vec::new(),
    }
}

pub(crate) fn with_stdin() -> Stdio {
    Stdio { open_stdin: true, stdin_once: true, ..Stdio::default() }
}

pub(crate) fn terminal() -> Stdio {
    Stdio { terminal: true, open_stdin: true, stdin_once: true, rows: 24, cols: 80 }
}

/// Reads frames to the end: standard output and standard error.
pub(crate) fn demultiplex(stream: &mut UnixStream) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut header = [0; 8];
    loop {
        match stream.read(&mut header[..1]) {
            Ok(0) => return (out, err),
            Ok(_) => stream.read_exact(&mut header[1..]).unwrap(),
            Err(error) => panic!("no output: {error}"),
        }
        assert_eq!(header[1..4], [0, 0, 0]);
        let mut payload = vec![0; u32::from_be_bytes(header[4..].try_into().unwrap()) as usize];
        stream.read_exact(&mut payload).unwrap();
        match header[0] {
            1 => out.extend(payload),
            2 => err.extend(payload),
            other => panic!("stream {other}"),
        }
    }
}

/// Reads until the text has come.
pub(crate) fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let so_far = String::from_utf8_lossy(&seen).into_owned();
        if so_far.contains(text) {
            return so_far;
        }
        match stream.read(&mut bytes) {
            Ok(0) => panic!("the end came before {text:?}: {so_far:?}"),
            Ok(len) => seen.extend_from_slice(&bytes[..len]),
            Err(error) => panic!("{text:?} did not come: {error}; {so_far:?}"),
        }
    }
}

/// A figure of `/proc/<pid>/<file>`.
pub(crate) fn kilobytes(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// As sha256sum prints it.
pub(crate) fn sha256(data: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Std::piped()).stdout(Std::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(data).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    String::from_utf8(output).unwrap().split(' ').next().unwrap().to_owned()
}

/// Whether nothing runs under this pid. Orphans may wait for the machine's init to reap them.
pub(crate) fn is_dead(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']),
        Err(_) => true,
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}
