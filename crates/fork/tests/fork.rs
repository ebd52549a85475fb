//! Forks of real programs, from outside. Needs root; runs in namespaces of its own.
//!
//! No harness: a template is forked from the calling process, which must have one thread. One test after
//! another, then; `cargo test -p seacow-fork --test fork -- NAME` runs those whose name has NAME in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use common::programs::{Cgroup, Forker, State, Test, children, forks_right, reads_on, run_tests, running};
use common::{How, PAUSE, Process, World, start, status, target, until};
use seacow_fork::reason::Descriptor;
use seacow_fork::{Error, Family, Path, Reason, Target, examine};

const TESTS: [Test; 16] = [
    ("a_static_program_with_one_of_everything", one_of_everything),
    ("its_threads_go_on_too", with_threads),
    ("confined_by_user_and_filter", confined),
    ("python_goes_on_counting", python),
    ("python_with_five_threads", python_threads),
    ("an_asyncio_server_answers_in_every_clone", asyncio_server),
    ("memory_is_shared_and_written_apart", memory_apart),
    ("the_second_fork_copies_what_is_different", second_fork),
    ("memory_that_no_fork_inherits_is_there", not_forked_memory),
    ("clones_are_born_in_their_cgroups", cgroups),
    ("reasons_are_given_and_nothing_is_touched", reasons),
    ("the_callers_failure_lets_the_source_go", callers_failure),
    ("a_clone_that_cannot_be_made_vanishes", half_made),
    ("clones_are_killed_with_the_caller_until_released", dies_with_caller),
    ("a_killed_tracer_leaves_the_source_right", killed_tracer),
    ("two_hundred_clones", stress),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, pid] = arguments.as_slice()
        && role == "fork-for-ever"
    {
        fork_for_ever(pid.parse().unwrap());
    }
    run_tests(&TESTS, arguments.iter().find(|argument| !argument.starts_with('-')));
}

fn one_of_everything() {
    let state = State::build();
    forks_right(state.start(0, How::default()));
}

fn with_threads() {
    let state = State::build();
    forks_right(state.start(4, How::default()));
}

fn confined() {
    let state = State::build();
    forks_right(state.start(2, How { confined: true, ..How::default() }));
}

const PYTHON: &str = "/usr/bin/python3";

fn python() {
    let program = "
import time
data = {i: [i, str(i)] for i in range(50000)}
n = 0
while True:
    n += 1
    data[n] = [n, str(n)]
    assert all(data[k][1] == str(k) for k in range(1, 50000, 997))
    print(n, 'ok')
    time.sleep(0.002)
";
    forks_right(start(&[PYTHON, "-c", program], How::default()));
}

fn python_threads() {
    let program = "
import threading, time, queue
work, done = queue.Queue(), queue.Queue()
def run():
    while True:
        done.put(work.get() * 2)
for _ in range(4): threading.Thread(target=run, daemon=True).start()
n = 0
while True:
    n += 1
    for k in range(8): work.put(k)
    assert sorted(done.get(timeout=10) for _ in range(8)) == [0, 2, 4, 6, 8, 10, 12, 14]
    print(n, 'ok')
    time.sleep(0.002)
";
    forks_right(start(&[PYTHON, "-c", program], How { confined: true, ..How::default() }));
}

/// Asks a server in a process's network namespace.
fn ask(pid: i32) -> u64 {
    let client = "
import socket
s = socket.create_connection(('127.0.0.1', 8080), timeout=10)
print(s.recv(100).decode().strip())
";
    let output =
        Command::new("nsenter").args(["-t", &pid.to_string(), "-n", PYTHON, "-c", client]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().parse().unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

fn asyncio_server() {
    let program = "
import asyncio
n = 0
async def serve(reader, writer):
    global n
    n += 1
    writer.write(f'{n}\\n'.encode())
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, '0.0.0.0', 8080)
    print('ready')
    async with server: await server.serve_forever()
asyncio.run(main())
";
    let mut source = start(&[PYTHON, "-c", program], How { confined: true, ..How::default() });
    assert_eq!(source.lines.next_line(), "ready");
    assert_eq!(ask(source.pid), 1);
    assert_eq!(ask(source.pid), 2);
    // A connection that is being closed is an outside one still.
    until("no connection is left", || examine(&target(&source)).unwrap().is_empty());
    let mut world = World::new();
    let mut family = Family::new(source.pid);
    family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
    let networks = [World::network(), World::network()];
    let clones: Vec<Process> = networks.iter().map(|network| world.clone_of(&family, network)).collect();
    assert_eq!(ask(source.pid), 3);
    for clone in &clones {
        assert_eq!(ask(clone.pid), 3);
        assert_eq!(ask(clone.pid), 4);
    }
    assert_eq!(ask(source.pid), 4);
}

/// Bytes of a process's memory that are in no other's.
fn private(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10).sum()
}

const BIG: &str = "
import time, sys
data = bytearray(40 << 20)
for i in range(0, len(data), 4096): data[i] = i // 4096 % 251
n = 0
while True:
    n += 1
    for i in range(0, 20): data[(n * 20 + i) % 10240 * 4096 + 1] = n % 256
    if n % 20 == 0: assert all(data[i] == i // 4096 % 251 for i in range(0, len(data), 4096))
    print(n, 'ok')
    time.sleep(0.005)
";

fn memory_apart() {
    let idle = BIG.replace("while True:", "print('ready'); time.sleep(0.3)\nwhile True:");
    let mut source = start(&[PYTHON, "-c", &idle], How::default());
    assert_eq!(source.lines.next_line(), "ready");
    let mut world = World::new();
    let network = World::network();
    let mut family = Family::new(source.pid);
    let forked = family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
    assert!(forked.copied > 40 << 20, "{forked:?}");
    let mut one = world.clone_of(&family, &network);
    let mut two = world.clone_of(&family, &network);
    for clone in [&one, &two] {
        let own = private(clone.pid);
        assert!(own < 2 << 20, "{own} bytes are not shared");
    }
    drop(family);
    let last = reads_on(&mut one, 0, 25);
    reads_on(&mut two, 0, 40);
    reads_on(&mut one, last, 25);
    reads_on(&mut source, 0, 40);
}

fn second_fork() {
    // Slow enough for a busy machine to fork it again before much has changed.
    let slow = BIG.replace("0.005", "0.01").replace("range(0, 20)", "range(0, 5)").replace("n * 20", "n * 5");
    let mut source = start(&[PYTHON, "-c", &slow], How::default());
    let mut last = reads_on(&mut source, 0, 5);
    let mut world = World::new();
    let network = World::network();
    let mut family = Family::new(source.pid);
    let first = family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
    let mut paths = vec![first.path];
    for _ in 0..3 {
        last = reads_on(&mut source, last, 3);
        let next = family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
        assert!(next.copied < first.copied / 2, "{next:?} after {first:?}");
        paths.push(next.path);
        let mut clone = world.clone_of(&family, &network);
        let at = clone.lines.number();
        assert!(at > last, "{at} > {last}");
        reads_on(&mut clone, at, 45);
        last = reads_on(&mut source, last, 20);
    }
    // At first little has changed, then too much for a pause.
    assert_eq!(paths[..2], [Path::Snapshot, Path::Kept]);
    assert!(paths[2..].contains(&Path::Snapshot), "{paths:?}");
}

fn not_forked_memory() {
    let program = "
import ctypes, mmap, time
m = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[:] = bytes(range(256)) * 4096
m.madvise(mmap.MADV_DONTFORK)
n = 0
while True:
    n += 1
    assert m[:] == bytes(range(256)) * 4096
    print(n, 'ok')
    time.sleep(0.002)
";
    let mut source = start(&[PYTHON, "-c", program], How::default());
    reads_on(&mut source, 0, 1);
    let pid = source.pid;
    let kept_out = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
        text.lines().filter(|line| line.starts_with("VmFlags:") && line.contains(" dc")).count()
    };
    let before = kept_out(pid);
    assert!(before > 0);
    let mut family = Family::new(pid);
    family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
    let clone = World::new().clone_of(&family, &World::network());
    assert_eq!((kept_out(pid), kept_out(clone.pid)), (before, before));
    family.retire(PAUSE).unwrap();
    drop(clone);
    forks_right(start(&[PYTHON, "-c", program], How::default()));
}

fn cgroups() {
    let (born, joined, of_source) = (Cgroup::new("born"), Cgroup::new("joined"), Cgroup::new("source"));
    let mut source = start(&[PYTHON, "-c", BIG], How::default());
    std::fs::write(of_source.0.join("cgroup.procs"), source.pid.to_string()).unwrap();
    reads_on(&mut source, 0, 1);
    // What else is in its cgroup is a further process, whoever's child it is.
    let in_cgroup = Target { cgroup: Some(&of_source.0), ..target(&source) };
    assert_eq!(examine(&in_cgroup).unwrap(), []);
    let stranger = start(&[PYTHON, "-c", BIG], How::default());
    std::fs::write(of_source.0.join("cgroup.procs"), stranger.pid.to_string()).unwrap();
    assert_eq!(examine(&in_cgroup).unwrap(), [Reason::MoreProcesses { pids: vec![stranger.pid] }]);
    drop(stranger);
    let mut family = Family::new(source.pid);
    family.fork(&in_cgroup, PAUSE, || Ok(())).unwrap();
    let root = seacow_sys::mount::clone_tree_at(std::path::Path::new("/"), true).unwrap();
    let network = World::network();
    let (_read, write) = rustix::pipe::pipe().unwrap();
    let directory = std::fs::File::open(&born.0).unwrap();
    let list = std::fs::File::options().write(true).open(joined.0.join("cgroup.procs")).unwrap();
    let mut spec = seacow_fork::Spec {
        mounts: common::mounts(&root),
        network: Some(network.as_fd()),
        cgroup: Some(directory.as_fd()),
        streams: vec![write.as_fd()],
        host_name: "clone".into(),
        ..Default::default()
    };
    let held = family.clone_from(&spec).unwrap();
    assert_eq!(born.processes(), [held.pid()]);
    drop(held);
    until("the clone is gone", || born.processes().is_empty());
    let root = seacow_sys::mount::clone_tree_at(std::path::Path::new("/"), true).unwrap();
    spec.mounts = common::mounts(&root);
    spec.join = vec![list.as_fd()];
    let held = family.clone_from(&spec).unwrap();
    assert_eq!((born.processes(), joined.processes()), (vec![], vec![held.pid()]));
    // Its namespace begins at the cgroup that it ended up in.
    let output = Command::new("nsenter")
        .args(["-t", &held.pid().to_string(), "-C", "--", "cat", &format!("/proc/{}/cgroup", held.pid())])
        .output()
        .unwrap();
    let seen = String::from_utf8(output.stdout).unwrap();
    assert!(seen.lines().any(|line| line == "0::/"), "{seen} {}", String::from_utf8_lossy(&output.stderr));
}

fn reasons() {
    let program = "
import os, socket, subprocess, mmap, time, select, ctypes
server = socket.create_server(('127.0.0.1', 8081))
client = socket.create_connection(('127.0.0.1', 8081))
child = subprocess.Popen(['sleep', '1000'])
shared = mmap.mmap(-1, 4096)
terminal = os.openpty()
gone = open('/tmp/seacow-fork-gone', 'w'); os.unlink('/tmp/seacow-fork-gone')
watch = ctypes.CDLL(None).inotify_init()
n = 0
while True:
    n += 1
    print(n, 'ok')
    time.sleep(0.002)
";
    let mut source = start(&[PYTHON, "-c", program], How::default());
    let last = reads_on(&mut source, 0, 1);
    let found = examine(&target(&source)).unwrap();
    let has =
        |what: &dyn Fn(&Reason) -> bool, name: &str| assert!(found.iter().any(what), "{name}: {found:?}");
    let descriptor = |wanted: &dyn Fn(&Descriptor) -> bool, name: &str| {
        has(&|reason| matches!(reason, Reason::Descriptor { what, .. } if wanted(what)), name);
    };
    has(&|reason| matches!(reason, Reason::MoreProcesses { pids } if pids.len() == 1), "child");
    has(&|reason| matches!(reason, Reason::Mapping { .. }), "shared memory");
    descriptor(
        &|what| matches!(what, Descriptor::Connection { to } if to.starts_with("tcp 127.0.0.1:")),
        "connection",
    );
    descriptor(&|what| matches!(what, Descriptor::Terminal), "terminal");
    descriptor(
        &|what| matches!(what, Descriptor::Deleted { path } if path.contains("seacow-fork-gone")),
        "deleted",
    );
    descriptor(&|what| matches!(what, Descriptor::Object { name } if name == "inotify"), "inotify");
    // A fork gives the same list and does nothing.
    let mut family = Family::new(source.pid);
    let Err(Error::Refused(refused)) = family.fork(&target(&source), PAUSE, || panic!("not reached")) else {
        panic!("not refused");
    };
    for reason in &found {
        assert!(refused.contains(reason), "{reason} in {refused:?}");
    }
    // Without its streams it has a pipe to the outside.
    let alone = Target { streams: &[], ..target(&source) };
    let pipe = |reason: &Reason| matches!(reason, Reason::Descriptor { number: 1, what: Descriptor::Pipe });
    assert!(examine(&alone).unwrap().iter().any(pipe));
    reads_on(&mut source, last, 30);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", source.pid)).unwrap();
    assert!(!maps.contains("rwxp"), "{maps}");
}

fn callers_failure() {
    let mut source = start(&[PYTHON, "-c", BIG], How::default());
    let mut last = reads_on(&mut source, 0, 2);
    let mut family = Family::new(source.pid);
    for _ in 0..5 {
        let error = family.fork(&target(&source), PAUSE, || Err("no space".into())).unwrap_err();
        assert!(matches!(&error, Error::Caller(why) if why == "no space"), "{error:?}");
        last = reads_on(&mut source, last, 3);
    }
    family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
    family.retire(PAUSE).unwrap();
    reads_on(&mut source, last, 3);
    assert!(children(source.pid).is_empty());
}

fn half_made() {
    let dir = tempfile::Builder::new().prefix("seacow-fork-").tempdir().unwrap();
    let file = dir.path().join("file");
    let program = format!("f = open('{}', 'w')\n{BIG}", file.display());
    let mut source = start(&[PYTHON, "-c", &program], How::default());
    let last = reads_on(&mut source, 0, 2);
    let mut world = World::new();
    let network = World::network();
    let mut family = Family::new(source.pid);
    family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
    // The file is there for the source, and not for a clone.
    std::fs::remove_file(&file).unwrap();
    let before = own_children();
    let error = world.try_clone(&family, &network, Vec::new()).err().unwrap();
    assert!(matches!(error, Error::Call { step: "open a file", .. }), "{error:?}");
    assert_eq!(own_children(), before);
    std::fs::write(&file, "").unwrap();
    let mut clone = world.clone_of(&family, &network);
    let at = clone.lines.number();
    reads_on(&mut clone, at, 5);
    reads_on(&mut source, last, 5);
}

fn own_children() -> String {
    children(std::process::id() as i32)
}

/// Another process of this program that forks a source again and again, and never lets a clone go.
fn fork_for_ever(pid: i32) -> ! {
    let read = std::fs::File::open(format!("/proc/{pid}/fd/1")).unwrap();
    let stream = seacow_fork::ObjectId::of(&read).unwrap();
    drop(read);
    let target = Target { pid, streams: &[stream], cgroup: None };
    let network = World::network();
    let root = seacow_sys::mount::clone_tree_at(std::path::Path::new("/"), true).unwrap();
    let (_read, write) = rustix::pipe::pipe().unwrap();
    println!("ready");
    loop {
        let mut family = Family::new(pid);
        for _ in 0..2 {
            family.fork(&target, PAUSE, || Ok(())).unwrap();
            let root = seacow_sys::mount::clone_tree(root.as_fd(), true).unwrap();
            let spec = seacow_fork::Spec {
                mounts: common::mounts(&root),
                network: Some(network.as_fd()),
                streams: vec![write.as_fd()],
                host_name: "clone".into(),
                ..Default::default()
            };
            let held = family.clone_from(&spec).unwrap();
            println!("held {}", held.pid());
        }
        family.retire(PAUSE).unwrap();
        println!("forked");
    }
}

fn dies_with_caller() {
    let state = State::build();
    let marker = state.dir.path().to_str().unwrap().to_owned();
    let mut source = state.start(2, How::default());
    let last = reads_on(&mut source, 0, 3);
    let mut forker = Forker::start(&["fork-for-ever", &source.pid.to_string()]);
    assert_eq!(forker.line(), "ready");
    assert!(forker.line().starts_with("held "));
    forker.kill();
    until("nothing is left but the source", || running(&marker) == [source.pid]);
    reads_on(&mut source, last, 30);
}

fn killed_tracer() {
    let state = State::build();
    let marker = state.dir.path().to_str().unwrap().to_owned();
    let mut source = state.start(2, How { confined: true, ..How::default() });
    let mut last = reads_on(&mut source, 0, 3);
    // Not random, so that a failure can be had again; spread over what a round takes.
    let mut delay = 0u64;
    for round in 0..80 {
        let mut forker = Forker::start(&["fork-for-ever", &source.pid.to_string()]);
        assert_eq!(forker.line(), "ready");
        delay = (delay * 7919 + 1_234_577) % 30_000;
        // Every other one while the source stands still for the first fork.
        let delay_now = if round % 2 == 0 { delay % 2_500 } else { delay };
        let until_then = Instant::now() + Duration::from_micros(delay_now);
        while Instant::now() < until_then {
            std::hint::spin_loop();
        }
        forker.kill();
        last = reads_on(&mut source, last, 10);
        until("nothing is left but the source", || running(&marker) == [source.pid]);
        assert_eq!(status(source.pid, "TracerPid"), "0");
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

fn stress() {
    let state = State::build();
    let mut source = state.start(3, How { confined: true, ..How::default() });
    let mut last = reads_on(&mut source, 0, 3);
    let network = World::network();
    let (fds, mounted, ours) = (descriptors(), mounts(), own_children());
    {
        let mut world = World::new();
        let mut family = Family::new(source.pid);
        for _ in 0..20 {
            family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
            let clones: Vec<Process> = (0..10).map(|_| world.clone_of(&family, &network)).collect();
            for mut clone in clones {
                let at = clone.lines.number();
                reads_on(&mut clone, at, 8);
            }
            last = reads_on(&mut source, last, 3);
        }
        family.retire(PAUSE).unwrap();
    }
    assert_eq!((descriptors(), mounts(), own_children()), (fds, mounted, ours));
    assert!(children(source.pid).is_empty());
    reads_on(&mut source, last, 30);
}
