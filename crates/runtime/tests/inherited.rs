//! What a process inherits from whoever starts it, turned against them: the caller's terminal, its
//! keys, its open files. Each attack was seen to succeed when the protection that its comment names
//! was taken out. The attacker is perl, which can make any system call and is part of every Debian.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use common::bundle::Bundle;
use rustix::fs::{Mode, OFlags};
use seacow_spec::oci::runtime::Spec;
use seacow_sys::pty;

const RUNTIME: &str = env!("CARGO_BIN_EXE_seacow-runtime");
const PERL: &str = "/usr/bin/perl";

/// A bundle whose image has perl, and runs it; `None`, said aloud, where that cannot be.
fn bundle(name: &str, script: &str, change: impl FnOnce(&mut Spec)) -> Option<Bundle> {
    let bundle = Bundle::new(name, "", |spec| {
        spec.process.as_mut().unwrap().args = [PERL, "-e", script].map(str::to_owned).to_vec();
        change(spec);
    })?;
    give(&bundle.fixture.rootfs(), PERL);
    Some(bundle)
}

/// Copies a program of the host, and the libraries that it is linked to.
fn give(rootfs: &Path, program: &str) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let inside = rootfs.join(file.strip_prefix('/').unwrap());
        std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
        std::fs::copy(file, inside).unwrap();
    }
}

/// A caller's terminal, and what was typed into it.
struct Terminal {
    slave: OwnedFd,
    _master: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let devpts = rustix::fs::open("/dev/pts", flags, Mode::empty()).unwrap();
        let pair = pty::open_pair(devpts.as_fd()).unwrap();
        Self { slave: pair.slave, _master: pair.master }
    }

    /// Runs a program to its end whose controlling terminal this is; whether it succeeded.
    fn run(&self, dir: &Path, words: &[&str]) -> bool {
        let stream = || Stdio::from(self.slave.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).args(words).current_dir(dir);
        command.stdin(stream()).stdout(stream()).stderr(stream()).status().unwrap().success()
    }

    /// How many bytes the caller's shell would read now.
    fn typed(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.slave).unwrap()
    }
}

/// Types a line into every terminal that it can get hold of.
const TYPE: &str = r#"
    my @all = (\*STDIN, \*STDOUT, \*STDERR);
    sub in_dir { my ($dir) = @_; opendir(my $all, $dir) or return (); map { "$dir/$_" } readdir($all) }
    my @open = map { in_dir("$_/fd") } in_dir("/proc");
    for my $name ("/dev/tty", "/dev/console", in_dir("/dev/pts"), @open) {
        next unless -c $name;
        open(my $terminal, "+<", $name) or next;
        push @all, $terminal;
    }
    for my $terminal (@all) {
        ioctl($terminal, 0x5412, $_) for split(//, "id\n");
    }
    open(my $done, ">", "/srv/done"); "#;

/// CVE-2016-7545 and its like: a program that has the terminal of a shell outside types into it by
/// TIOCSTI, and the shell executes that. Protection: every process begins a session of its own, so
/// that the terminal which it was given is not its controlling one. With one of its own (`-t`) it has
/// nothing of the caller's.
#[test]
fn nothing_is_typed_into_the_caller_s_terminal() {
    let sleeper = |name: &str, terminal: bool| {
        bundle(name, "sleep 1000", |spec| spec.process.as_mut().unwrap().terminal = terminal)
    };
    let Some(attack) = bundle("tiocsti", TYPE, |_| {}) else { return };
    let Some(host) = sleeper("tiocsti-exec", false) else { return };
    let control = Terminal::new();
    // Without the rights of the host's root, who may do so to any terminal.
    let confined = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
    let outside = TYPE.replace("/srv/done", "/dev/null");
    control.run(Path::new("/"), &[&confined[..], &[PERL, "-e", &outside]].concat());
    if control.typed() == 0 {
        eprintln!("SKIP typing into terminals: this kernel lets nobody (dev.tty.legacy_tiocsti)");
        return;
    }
    let state = |bundle: &Bundle| bundle.fixture.path().join("state").display().to_string();
    let call = |terminal: &Terminal, bundle: &Bundle, words: &[&str]| {
        let root = state(bundle);
        let mut all = vec![RUNTIME, "--root", &root];
        all.extend(words);
        assert!(terminal.run(bundle.fixture.path(), &all), "{words:?}");
    };
    let done = |bundle: &Bundle| bundle.fixture.rootfs().join("srv/done");

    // The caller's streams are the container's.
    let terminal = Terminal::new();
    call(&terminal, &attack, &["run", &attack.id]);
    assert!(done(&attack).exists(), "the attack did not run");
    assert_eq!(terminal.typed(), 0, "run");
    host.ok(&["run", "-d", &host.id]);
    call(&terminal, &host, &["exec", &host.id, PERL, "-e", TYPE]);
    assert!(done(&host).exists(), "the attack did not run");
    assert_eq!(terminal.typed(), 0, "exec");

    // A terminal of its own, whose other end somebody else holds.
    let Some(attack) = bundle("tiocsti-t", TYPE, |spec| spec.process.as_mut().unwrap().terminal = true)
    else {
        return;
    };
    let socket = attack.fixture.path().join("console");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let console = socket.to_str().unwrap();
    call(&terminal, &attack, &["create", "--console-socket", console, &attack.id]);
    let (held, _) = listener.accept().unwrap();
    call(&terminal, &attack, &["start", &attack.id]);
    await_file(&done(&attack));
    assert_eq!(terminal.typed(), 0, "create with a terminal");
    std::fs::remove_file(done(&host)).unwrap();
    let words = ["exec", "-t", "-d", "--console-socket", console, &host.id, PERL, "-e", TYPE];
    call(&terminal, &host, &words);
    let (also_held, _) = listener.accept().unwrap();
    await_file(&done(&host));
    assert_eq!(terminal.typed(), 0, "exec with a terminal");
    drop((held, also_held));
}

/// Waits for a file that the container makes.
fn await_file(path: &Path) {
    let start = std::time::Instant::now();
    while !path.exists() {
        assert!(start.elapsed().as_secs() < 120, "{} did not come", path.display());
        std::thread::yield_now();
    }
}

/// The calls of keyrings by number: keyctl(2), add_key(2), request_key(2).
#[cfg(target_arch = "x86_64")]
const CALLS: &str = "my ($add_key, $request_key, $keyctl) = (248, 249, 250);";
#[cfg(target_arch = "aarch64")]
const CALLS: &str = "my ($add_key, $request_key, $keyctl) = (217, 218, 219);";

/// Begins a session keyring, puts a secret into it, and goes on as another program.
fn with_secret(session: &str, name: &str, then: &str) -> String {
    format!(
        r#"{CALLS}
        my ($session, $kind, $name, $secret) = ("{session}", "user", "{name}", "of-somebody-else");
        syscall($keyctl, 1, $session) > 0 or exit 77;
        syscall($add_key, $kind, $name, $secret, length $secret, -3) > 0 or exit 77;
        {then}"#
    )
}

/// Looks for a secret in the own keyrings, and in those of the names that others are known to have.
/// Prints what it reads.
fn look_for(name: &str, sessions: &[&str]) -> String {
    format!(
        r#"{CALLS}
        my ($kind, $name) = ("user", "{name}");
        for my $other ("", qw({})) {{
            my $session = $other;
            if ($session ne "") {{ syscall($keyctl, 1, $session) }}
            my $key = syscall($request_key, $kind, $name, 0, 0);
            next if $key <= 0;
            my $text = "\0" x 64;
            my $length = syscall($keyctl, 11, $key, $text, 64);
            print substr($text, 0, $length), "\n" if $length > 0;
        }}
        print "looked\n";"#,
        sessions.join(" ")
    )
}

/// Keys of the caller's session (Kerberos tickets, keys of encrypted directories) are found by
/// whatever runs in that session. Protection: a session keyring of its own for every process that
/// enters a container, `new_keyring`; no name is a way to another one.
#[test]
fn no_keys_of_anybody_else_are_found() {
    let secret = format!("seacow-secret-{}", std::process::id());
    let session = format!("seacow-session-{}", std::process::id());
    let looks = look_for(&secret, &[&session, "_ses"]);
    let Some(look) = bundle("keys", &looks, |_| {}) else { return };
    let box_secret = format!("{secret}-of-the-box");
    let keeps = with_secret("seacow-box", &box_secret, "open(my $up, '>', '/srv/done'); sleep 1000;");
    let Some(other) = bundle("keys-box", &keeps, |_| {}) else { return };
    // The caller has a secret in its session, and starts the runtime.
    let call = |over: &Bundle, words: &[&str]| {
        let caller = with_secret(&session, &secret, "exec @ARGV;");
        let root = over.fixture.path().join("state").display().to_string();
        let mut all = vec!["-e", &caller, RUNTIME, "--root", &root];
        all.extend(words);
        let out = over.fixture.path().join("said");
        let file = std::fs::File::create(&out).unwrap();
        let mut command = Command::new(PERL);
        command.args(all).current_dir(over.fixture.path()).stdin(Stdio::null());
        let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
        (status.code(), std::fs::read_to_string(out).unwrap())
    };
    // The attack itself, with the caller's keyring left to the container.
    let (code, said) = call(&look, &["run", "--no-new-keyring", &look.id]);
    if code == Some(77) {
        eprintln!("SKIP keys of others: this kernel has no keyrings");
        return;
    }
    assert!(said.starts_with("of-somebody-else\n"), "the attack does not work: {said}");
    assert_eq!(call(&look, &["run", &look.id]).1, "looked\n");
    // One container beside another, and processes that enter it beside its own.
    other.ok(&["run", "-d", &other.id]);
    await_file(&other.fixture.rootfs().join("srv/done"));
    let enter = |script: &str| call(&other, &["exec", &other.id, PERL, "-e", script]).1;
    assert_eq!(enter(&looks), "looked\n");
    let mut spec: Spec =
        serde_json::from_slice(&std::fs::read(look.fixture.path().join("config.json")).unwrap()).unwrap();
    let looks = look_for(&box_secret, &["_ses", "seacow-box"]);
    spec.process.as_mut().unwrap().args = [PERL, "-e", &looks].map(str::to_owned).to_vec();
    look.write(&spec);
    assert_eq!(call(&look, &["run", &look.id]).1, "looked\n");
}

/// A careless caller leaves files open, among them directories and a process of the host. Protection:
/// close-on-exec for everything from 3 on, for the first process and those that enter, with a
/// terminal and without. Seen from outside, where nothing is hidden.
#[test]
fn no_file_of_the_caller_is_open_inside() {
    for terminal in [false, true] {
        let name = if terminal { "open-t" } else { "open" };
        let Some(bundle) =
            bundle(name, "sleep 1000", |spec| spec.process.as_mut().unwrap().terminal = terminal)
        else {
            return;
        };
        let socket = bundle.fixture.path().join("console");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let with_console: &[&str] =
            if terminal { &["--console-socket", socket.to_str().unwrap()] } else { &[] };
        let root = bundle.fixture.path().join("state").display().to_string();
        let leaky = |words: &[&str]| {
            let open = "exec 3</ 4</etc 5</etc/passwd 6<>/dev/null 9</proc/1; \"$@\"";
            let mut command = Command::new("sh");
            command.args(["-c", open, "sh", RUNTIME, "--root", &root]).args(words);
            command.current_dir(bundle.fixture.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(command.status().unwrap().success(), "{words:?}");
        };
        leaky(&[&["create"], with_console, &[&bundle.id]].concat());
        let held = terminal.then(|| listener.accept().unwrap());
        bundle.ok(&["start", &bundle.id]);
        let mut enter = vec!["exec", "-d", "--pid-file", "entered"];
        if terminal {
            enter.push("-t");
        }
        enter.extend(with_console);
        enter.extend([&bundle.id, PERL, "-e", "sleep 1000"]);
        leaky(&enter);
        let also_held = terminal.then(|| listener.accept().unwrap());
        let state: serde_json::Value = serde_json::from_str(&bundle.ok(&["state", &bundle.id])).unwrap();
        let entered = std::fs::read_to_string(bundle.fixture.path().join("entered")).unwrap();
        for pid in [state["pid"].to_string(), entered.trim().to_owned()] {
            await_program(&pid);
            // What loads the program opens its libraries, one after the other; what leaked stays.
            let start = std::time::Instant::now();
            let mut open = open_in(&pid);
            while open != ["0", "1", "2"] && start.elapsed().as_secs() < 20 {
                open = open_in(&pid);
            }
            assert_eq!(open, ["0", "1", "2"], "process {pid}, terminal: {terminal}");
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
            assert_eq!(cwd, Path::new("/"));
            let root = std::fs::metadata(format!("/proc/{pid}/cwd/.")).unwrap();
            let ours = std::fs::metadata("/").unwrap();
            use std::os::unix::fs::MetadataExt as _;
            assert_ne!((root.dev(), root.ino()), (ours.dev(), ours.ino()));
        }
        drop((held, also_held));
    }
}

/// The numbers of a process's descriptors.
fn open_in(pid: &str) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut open: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    open.sort();
    open
}

/// Who starts a container waits no longer than until its program is about to be executed.
fn await_program(pid: &str) {
    while std::fs::read_link(format!("/proc/{pid}/exe")).unwrap() != Path::new(PERL) {
        std::thread::yield_now();
    }
}
