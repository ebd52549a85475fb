//! A running container and the siblings that are made from it, over the protocol.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod common;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::*;
use seacow_spec::shim::{
    Answer, Create, Decoder, Event, ForkPath, Forked, NewClone, OverlayUpper, Pause, Prepare, Request,
    Rootfs, Stdio, Target, encode,
};
use seacow_spec::{ContainerId, ErrorClass, ErrorReport};

/// Long enough for any machine.
const PAUSE: u32 = 10_000;
/// Counts the lines that it gets; no command of it is another process.
const COUNTER: [&str; 3] = ["sh", "-c", "i=0; while read x; do i=$((i+1)); echo $i $x; done"];

fn counter() -> (Shim, UnixStream) {
    counting(&COUNTER, false)
}

fn counting(command: &[&str], forkable: bool) -> (Shim, UnixStream) {
    let stdio = Stdio { open_stdin: true, ..Stdio::default() };
    let options = Options { stdio, log: Some((1 << 20, 2)), forkable, ..Options::default() };
    let mut shim = Shim::create(command, &options);
    let client = shim.conn.attach(attach(true));
    if forkable {
        shim.start_moved();
    } else {
        shim.start();
    }
    (shim, client)
}

/// Sends a line and reads what is said to it.
fn counts(client: &mut UnixStream, line: &str, answer: &str) {
    client.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut frame = vec![0; 8 + answer.len() + 1];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(String::from_utf8_lossy(&frame[8..]), format!("{answer}\n"));
}

/// Asks for a fork; `files` is the daemon's part.
fn fork(conn: &mut Conn, at_most: u32, files: impl FnOnce(UnixStream)) -> Result<Forked, ErrorReport> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let seq = conn.send(Request::Fork { pause_at_most: at_most }, Some(theirs.into()));
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut decoder = Decoder::default();
    let word = loop {
        let mut bytes = [0; 512];
        match ours.read(&mut bytes).unwrap() {
            0 => break None,
            len => decoder.push(&bytes[..len]),
        }
        if let Some(word) = decoder.next_message::<Pause>().unwrap() {
            break Some(word);
        }
    };
    if let Some(word) = word {
        assert_eq!(word, Pause::Forking);
        files(ours);
    }
    match conn.answer(seq) {
        Answer::Forked(forked) => Ok(forked),
        Answer::Failed(report) => Err(report),
        other => panic!("{other:?}"),
    }
}

fn frozen(mut words: UnixStream) {
    words.write_all(&encode(&Pause::Frozen).unwrap()).unwrap();
}

/// A directory of a shim that may write its last words while it is being removed.
struct Home(Option<tempfile::TempDir>);

impl Home {
    fn new() -> Self {
        Self(Some(tempfile::Builder::new().prefix("seacow-shim-").tempdir().unwrap()))
    }

    fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }

    fn give(mut self) -> tempfile::TempDir {
        self.0.take().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let Some(dir) = self.0.take() else { return };
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::remove_dir_all(dir.path()).is_err() && dir.path().exists() && Instant::now() < deadline
        {
            std::thread::yield_now();
        }
    }
}

/// A sibling of a container.
struct Sibling {
    dir: Home,
    conn: Conn,
    id: ContainerId,
    pid: i32,
}

impl Sibling {
    /// One that stands still.
    fn held(source: &mut Shim) -> Self {
        Self::held_with(source, false)
    }

    fn held_with(source: &mut Shim, forkable: bool) -> Self {
        let dir = Home::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let request = Request::Sibling { dir: dir.path().to_owned() };
        let seq = source.conn.send(request, Some(theirs.into()));
        let conn = Conn::new(ours);
        let mut sibling = Self { dir, conn, id: ContainerId::random().unwrap(), pid: 0 };
        assert_eq!(source.conn.answer(seq), Answer::Done);
        assert!(sibling.conn.hello().state.is_none());
        let order = sibling.order(source, forkable);
        let seq = sibling.conn.send(Request::Clone(Box::new(order)), Some(network()));
        match sibling.conn.answer(seq) {
            Answer::Held { pid } => sibling.pid = pid,
            other => panic!("{other:?}"),
        }
        sibling
    }

    fn cgroups_path(&self) -> String {
        format!("/seacow-shim-test-{}", self.id)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("c-json.log")
    }

    /// As its source was made, with what is its own.
    fn order(&self, source: &Shim, forkable: bool) -> NewClone {
        let stdio = Stdio { open_stdin: true, ..Stdio::default() };
        let options = Options { stdio, log: Some((1 << 20, 2)), forkable, ..Options::default() };
        let prepare = Prepare {
            id: self.id.clone(),
            cgroups_path: self.cgroups_path(),
            ..source.prepare_request(&options)
        };
        let mut create: Create = source.create_request(&COUNTER, &options);
        create.spec.hostname = "sibling".into();
        let Rootfs::Overlay { lowers, .. } = create.rootfs else { panic!("an overlay") };
        let upper = self.dir.path().join("upper");
        copy_files(&source.dir.path().join("upper"), &upper);
        let work = self.dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let upper = Some(OverlayUpper { upper, work, volatile: true, metacopy: false });
        create.rootfs = Rootfs::Overlay { lowers, upper };
        create.log =
            seacow_spec::shim::LogConfig::JsonFile { path: self.log(), max_size: 1 << 20, max_files: 2 };
        NewClone { prepare, create, addresses: Vec::new() }
    }

    fn start(&mut self) {
        match self.conn.ask(Request::Start) {
            Answer::Started { pid, .. } => assert_eq!(pid, self.pid),
            other => panic!("{other:?}"),
        }
    }

    fn delete(mut self) {
        self.conn.done(Request::Delete);
        assert!(self.conn.is_closed());
        self.assert_nothing_left();
    }

    fn assert_nothing_left(&self) {
        assert!(is_dead(self.pid));
        assert!(!self.dir.path().join("shim.sock").exists());
        let name = self.cgroups_path();
        for entry in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            assert!(!entry.path().join(name.trim_start_matches('/')).exists(), "{:?}", entry.path());
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// A network namespace that nobody lives in.
fn network() -> OwnedFd {
    std::thread::spawn(|| {
        seacow_sys::ns::unshare(seacow_sys::ns::Kinds::NETWORK).unwrap();
        seacow_sys::ns::open_path("/proc/thread-self/ns/net").unwrap()
    })
    .join()
    .unwrap()
}

/// What `/proc/mounts` of a process says, without what differs from one container to the next.
fn mount_table(pid: i32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    let plain = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let flags: Vec<&str> = fields[3]
            .split(',')
            .filter(|option| {
                !["upperdir=", "workdir=", "lowerdir", "uuid="].iter().any(|own| option.starts_with(own))
            })
            .collect();
        // Whose null device lies on a hidden file is no matter.
        let hidden = fields[2].ends_with("tmpfs") && fields[1].starts_with("/proc/");
        if hidden {
            format!("{} hidden", fields[1])
        } else {
            format!("{} {} {}", fields[1], fields[2], flags.join(","))
        }
    };
    let mut table: Vec<String> = text.lines().map(plain).collect();
    table.sort();
    table
}

#[test]
fn a_clone_goes_on_beside_its_source() {
    if !needs_root() {
        return;
    }
    let (mut shim, mut client) = counter();
    counts(&mut client, "a", "1 a");
    std::fs::write(shim.dir.path().join("upper/file"), "of the source").unwrap();
    assert_eq!(shim.conn.ask(Request::Examine), Answer::Examined { reasons: Vec::new() });
    let forked = fork(&mut shim.conn, PAUSE, frozen).unwrap();
    assert!(forked.pause > 0 && forked.ready >= forked.pause, "{forked:?}");
    let mut one = Sibling::held(&mut shim);
    let mut two = Sibling::held(&mut shim);
    // They stand still, the source does not.
    counts(&mut client, "b", "2 b");
    let mut clients = Vec::new();
    for (sibling, line) in [(&mut one, "x"), (&mut two, "y")] {
        let mut client = sibling.conn.attach(attach(true));
        sibling.start();
        counts(&mut client, line, &format!("2 {line}"));
        assert_eq!(mount_table(sibling.pid), mount_table(shim.init));
        clients.push(client);
    }
    assert_eq!(std::fs::read_to_string(one.log()).unwrap().matches("2 x").count(), 1);
    // What is kept of the fork is none of the container's processes.
    assert_eq!(shim.conn.pids(), [shim.init]);
    assert_eq!(one.conn.pids(), [one.pid]);
    let (id, stream) =
        one.conn.exec(exec(&["sh", "-c", "hostname; cat /file; ls /proc/1/fd | wc -l"], Stdio::default()));
    let (out, _) = demultiplex(&mut stream.unwrap());
    assert_eq!(String::from_utf8_lossy(&out), "sibling\nof the source3\n");
    assert_eq!(one.conn.exec_exit(&id).code, 0);
    // The source goes, its shim and siblings stay.
    shim.conn.done(Request::Delete);
    assert!(shim.conn.is_closed());
    shim.assert_nothing_left();
    assert!(shim.child.try_wait().unwrap().is_none());
    counts(&mut clients[0], "z", "3 z");
    // A later daemon finds it by its own socket.
    let mut later = Conn::connect(one.dir.path());
    assert_eq!(later.hello().state.unwrap().pid(), Some(one.pid));
    // Its exit status is its own.
    later.done(Request::Signal { target: Target::Init, signal: 9, all: false });
    assert_eq!(later.exit().code, 137);
    // Written right behind the event.
    eventually("its exit status", || one.dir.path().join("exit.json").exists());
    one.delete();
    counts(&mut clients[1], "z", "3 z");
    two.delete();
    shim.wait();
}

#[test]
fn a_clone_can_be_forked() {
    if !needs_root() {
        return;
    }
    let (mut shim, mut client) = counter();
    counts(&mut client, "a", "1 a");
    fork(&mut shim.conn, PAUSE, frozen).unwrap();
    let mut child = Sibling::held(&mut shim);
    let mut client = child.conn.attach(attach(true));
    child.start();
    counts(&mut client, "b", "2 b");
    // A shim whose connection is the child's.
    let mut as_source = Shim::around(child.dir.give(), child.conn, child.id.clone(), child.pid);
    fork(&mut as_source.conn, PAUSE, frozen).unwrap();
    let mut grandchild = Sibling::held(&mut as_source);
    let mut client = grandchild.conn.attach(attach(true));
    grandchild.start();
    counts(&mut client, "c", "3 c");
    grandchild.delete();
    as_source.conn.done(Request::Retire);
    as_source.conn.done(Request::Delete);
    shim.delete();
}

#[test]
fn the_pause_ends_whatever_the_daemon_does() {
    if !needs_root() {
        return;
    }
    let (mut shim, mut client) = counter();
    counts(&mut client, "a", "1 a");
    // It fails.
    let why = ErrorReport::new(ErrorClass::Internal, "no space left");
    let word = encode(&Pause::Failed(why.clone())).unwrap();
    let failed = fork(&mut shim.conn, PAUSE, |mut words| words.write_all(&word).unwrap());
    assert_eq!(failed.unwrap_err(), why);
    counts(&mut client, "b", "2 b");
    // It hangs up.
    let failed = fork(&mut shim.conn, PAUSE, drop).unwrap_err();
    assert_eq!(failed.class, ErrorClass::Unavailable, "{failed}");
    counts(&mut client, "c", "3 c");
    // It says nothing: the deadline is the shim's own.
    let began = Instant::now();
    let mut kept = None;
    let failed = fork(&mut shim.conn, 200, |words| kept = Some(words)).unwrap_err();
    assert_eq!(failed.class, ErrorClass::Unavailable, "{failed}");
    assert!(began.elapsed() < Duration::from_secs(5));
    counts(&mut client, "d", "4 d");
    drop(kept);
    // Nothing came of it.
    let (_, theirs) = UnixStream::pair().unwrap();
    let seq = shim.conn.send(Request::Sibling { dir: shim.dir.path().into() }, Some(theirs.into()));
    assert!(matches!(shim.conn.answer(seq), Answer::Failed(_)));
    shim.delete();
}

#[test]
fn half_made_clones_go_with_their_daemon() {
    if !needs_root() {
        return;
    }
    let (mut shim, mut client) = counter();
    counts(&mut client, "a", "1 a");
    fork(&mut shim.conn, PAUSE, frozen).unwrap();
    let Sibling { dir, conn, id, pid } = Sibling::held(&mut shim);
    drop(conn);
    eventually("the end of the half-made clone", || is_dead(pid) && !dir.path().join("shim.sock").exists());
    let gone = Sibling { dir, conn: Conn::new(UnixStream::pair().unwrap().0), id, pid };
    gone.assert_nothing_left();
    counts(&mut client, "b", "2 b");
    shim.delete();
}

#[test]
fn a_held_clone_that_is_killed_fails_its_start() {
    if !needs_root() {
        return;
    }
    let (mut shim, _client) = counter();
    fork(&mut shim.conn, PAUSE, frozen).unwrap();
    let mut sibling = Sibling::held(&mut shim);
    let pidfd = seacow_sys::process::pidfd_open(sibling.pid).unwrap();
    seacow_sys::process::pidfd_signal(std::os::fd::AsFd::as_fd(&pidfd), 9).unwrap();
    eventually("its end", || is_dead(sibling.pid));
    let refused = sibling.conn.refused(Request::Start);
    assert_eq!(refused.class, ErrorClass::Conflict, "{refused}");
    sibling.delete();
    shim.delete();
}

#[test]
fn a_killed_shim_takes_the_family_along() {
    if !needs_root() {
        return;
    }
    let (mut shim, mut client) = counter();
    counts(&mut client, "a", "1 a");
    fork(&mut shim.conn, PAUSE, frozen).unwrap();
    let mut running = Sibling::held(&mut shim);
    running.start();
    let held = Sibling::held(&mut shim);
    shim.child.kill().unwrap();
    shim.child.wait().unwrap();
    for (dir, pid) in
        [(running.dir.path(), running.pid), (held.dir.path(), held.pid), (shim.dir.path(), shim.init)]
    {
        eventually("the end of the family", || is_dead(pid));
        let output = std::process::Command::new(shim_program()).arg("--cleanup").arg(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let exit = std::fs::read_to_string(dir.join("exit.json")).unwrap();
        assert!(exit.contains("137"), "{exit}");
    }
    running.assert_nothing_left();
    held.assert_nothing_left();
    shim.assert_nothing_left();
}

#[test]
fn what_stands_in_the_way_is_told_and_nothing_is_touched() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::run(
        &["sh", "-c", "sleep 1000 & exec 5</etc/passwd; read x; wait"],
        &Options { stdio: Stdio { open_stdin: true, ..Stdio::default() }, ..Options::default() },
    );
    eventually("its child", || shim.conn.pids().len() == 2);
    let Answer::Examined { reasons } = shim.conn.ask(Request::Examine) else { panic!("no answer") };
    assert!(reasons.iter().any(|reason| reason.contains("further processes")), "{reasons:?}");
    let refused = fork(&mut shim.conn, PAUSE, |_| panic!("it was stopped")).unwrap_err();
    assert_eq!(refused.class, ErrorClass::NotImplemented);
    assert!(refused.to_string().contains("further processes"), "{refused}");
    // Paused, it is refused as such.
    shim.conn.done(Request::Pause);
    let refused = fork(&mut shim.conn, PAUSE, |_| panic!("it was stopped")).unwrap_err();
    assert_eq!(refused.class, ErrorClass::Conflict, "{refused}");
    shim.conn.done(Request::Resume);
    shim.delete();
}

#[test]
fn a_forked_container_is_paused_and_killed_as_ever() {
    if !needs_root() {
        return;
    }
    let (mut shim, mut client) = counter();
    fork(&mut shim.conn, PAUSE, frozen).unwrap();
    shim.conn.done(Request::Pause);
    shim.conn.done(Request::Resume);
    counts(&mut client, "a", "1 a");
    // Forked again, from what is kept; then let go of.
    fork(&mut shim.conn, PAUSE, frozen).unwrap();
    counts(&mut client, "b", "2 b");
    shim.conn.done(Request::Retire);
    counts(&mut client, "c", "3 c");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.init)).unwrap();
    assert_eq!(children.trim(), "");
    fork(&mut shim.conn, PAUSE, frozen).unwrap();
    // Its end is not held up by what is kept in it.
    shim.conn.signal(9);
    assert_eq!(shim.conn.exit().code, 137);
    shim.delete();
}

/// Processes with the shim as parent: containers' and what is kept of forks.
fn children(shim: &Shim) -> Vec<i32> {
    let pid = shim.child.id();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// What the kernel says of a process, but for numbers, times and addresses.
fn confines(pid: i32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let same = [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "NSpid",
        "NSsid",
        "Threads",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Cpus_allowed",
    ];
    let of = |line: &str| line.split_once(':').is_some_and(|(key, _)| same.contains(&key));
    let inner = |line: &str| match line.starts_with("NS") {
        true => line.split_whitespace().last().unwrap().to_owned(),
        false => line.to_owned(),
    };
    let mut lines: Vec<String> = text.lines().filter(|line| of(line)).map(inner).collect();
    for name in ["limits", "cmdline", "environ", "oom_score_adj"] {
        lines.push(std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap());
    }
    lines.push(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap().display().to_string());
    lines
}

#[test]
fn a_forkable_container_is_like_others_and_copies_nothing() {
    if !needs_root() {
        return;
    }
    let (plain, _client) = counter();
    let (mut shim, mut client) = counting(&COUNTER, true);
    counts(&mut client, "a", "1 a");
    assert_eq!(confines(shim.init), confines(plain.init));
    assert_eq!(mount_table(shim.init), mount_table(plain.init));
    let cgroups = |shim: &Shim| {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", shim.init)).unwrap();
        text.replace(&shim.id.to_string(), "ID")
    };
    assert_eq!(cgroups(&shim), cgroups(&plain));
    plain.delete();
    // The shadow is none of its processes, and nothing in the way.
    assert_eq!(shim.conn.pids(), [shim.init]);
    assert_eq!(children(&shim).len(), 2);
    assert_eq!(shim.conn.ask(Request::Examine), Answer::Examined { reasons: Vec::new() });
    let (id, stream) = shim.conn.exec(exec(&["sh", "-c", "kill -0 1 && echo $PPID"], Stdio::default()));
    assert_eq!(demultiplex(&mut stream.unwrap()).0, b"0\n");
    assert_eq!(shim.conn.exec_exit(&id).code, 0);

    let forked = fork(&mut shim.conn, PAUSE, frozen).unwrap();
    assert_eq!((forked.path, forked.copied), (ForkPath::Shadow, 0));
    let mut one = Sibling::held_with(&mut shim, true);
    let mut client_of_one = one.conn.attach(attach(true));
    one.start();
    counts(&mut client_of_one, "x", "2 x");
    counts(&mut client, "b", "2 b");
    assert_eq!(one.conn.pids(), [one.pid]);
    // A fork of the fork, and of the source once more.
    let mut as_source = Shim::around(one.dir.give(), one.conn, one.id.clone(), one.pid);
    let forked = fork(&mut as_source.conn, PAUSE, frozen).unwrap();
    assert_eq!((forked.path, forked.copied), (ForkPath::Shadow, 0));
    let mut two = Sibling::held_with(&mut as_source, true);
    let mut client_of_two = two.conn.attach(attach(true));
    two.start();
    counts(&mut client_of_two, "y", "3 y");
    // What was let go leaves the shadow, and a failed fork does.
    shim.conn.done(Request::Retire);
    fork(&mut shim.conn, PAUSE, drop).unwrap_err();
    counts(&mut client, "c", "3 c");
    assert_eq!(fork(&mut shim.conn, PAUSE, frozen).unwrap().path, ForkPath::Shadow);
    two.delete();
    as_source.conn.done(Request::Delete);
    // Frozen with the shadow.
    shim.conn.done(Request::Pause);
    shim.conn.done(Request::Resume);
    counts(&mut client, "d", "4 d");
    shim.delete();
}

#[test]
fn an_entry_point_is_followed() {
    if !needs_root() {
        return;
    }
    let script = format!("trap '' USR1; exec sh -c 'kill -USR1 1; exec sh -c \"$0\"' '{}'", COUNTER[2]);
    let (mut shim, mut client) = counting(&["sh", "-c", &script], true);
    let mut moves = 0;
    let mut pid = shim.init;
    while moves < 2 {
        match shim.conn.event() {
            Event::Moved { pid: now } => (pid, moves) = (now, moves + 1),
            other => panic!("{other:?}"),
        }
    }
    assert!(is_dead(shim.init) && pid != shim.init);
    shim.init = pid;
    counts(&mut client, "a", "1 a");
    assert_eq!(shim.conn.status().state.unwrap().pid(), Some(pid));
    // It is watched still: signals reach it, and so does whoever enters.
    let (id, stream) = shim.conn.exec(exec(&["sh", "-c", "kill -USR1 1; echo sent"], Stdio::default()));
    assert_eq!(demultiplex(&mut stream.unwrap()).0, b"sent\n");
    assert_eq!(shim.conn.exec_exit(&id).code, 0);
    counts(&mut client, "b", "2 b");
    assert_eq!(fork(&mut shim.conn, PAUSE, frozen).unwrap().path, ForkPath::Shadow);
    let mut one = Sibling::held(&mut shim);
    let mut client_of_one = one.conn.attach(attach(true));
    one.start();
    counts(&mut client_of_one, "x", "3 x");
    one.delete();
    shim.conn.done(Request::Signal { target: Target::Init, signal: 9, all: false });
    assert_eq!(shim.conn.exit().code, 137);
    // Neither shadow nor templates outlive it.
    eventually("nothing is left", || children(&shim).is_empty());
    shim.delete();
}

#[test]
fn what_cannot_be_executed_twice_starts_without_a_shadow() {
    if !needs_root() {
        return;
    }
    // With a terminal, and with a process beside it.
    let (mut shim, mut client) = counting(&["sh", "-c", &format!("sleep 1000 & {}", COUNTER[2])], true);
    counts(&mut client, "a", "1 a");
    let refused = fork(&mut shim.conn, PAUSE, frozen).unwrap_err();
    assert_eq!(refused.class, ErrorClass::NotImplemented, "{refused}");
    shim.delete();
    let options = Options { forkable: true, ..Options::default() };
    let mut shim = Shim::create(&["/nosuch"], &options);
    let failed = shim.conn.refused(Request::Start);
    assert_eq!(failed.exit_code, Some(127), "{failed}");
    shim.delete();
    let terminal = Stdio { terminal: true, ..Stdio::default() };
    let mut shim = Shim::run(&["sh", "-c", "test -t 0 && exit 3"], &Options { stdio: terminal, ..options });
    assert_eq!(shim.conn.exit().code, 3);
    shim.delete();
}
