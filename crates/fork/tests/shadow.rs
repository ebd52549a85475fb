//! Shadows of real programs, from outside. Needs root; runs in namespaces of its own.
//!
//! No harness, as in `fork.rs`: `cargo test -p seacow-fork --test shadow -- NAME`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::programs::{Cgroup, Forker, State, Test, forks_right_of, reads_on, run_tests, running};
use common::{How, PAUSE, Process, World, start, start_doubled, start_watched, status, target, until};
use seacow_fork::{Charge, Error, Family, Path, Seen, Settling, Surroundings, Target, examine};

const TESTS: [Test; 14] = [
    ("a_doubled_process_sees_what_it_would_have_seen", the_same),
    ("one_of_everything_with_a_shadow", one_of_everything),
    ("threads_with_a_shadow", with_threads),
    ("confined_with_a_shadow", confined),
    ("python_with_a_shadow", python),
    ("memory_that_no_fork_inherits_is_there", not_forked_memory),
    ("memory_that_has_settled_gets_huge_pages", settled),
    ("the_shadow_follows_the_entry_point", follows),
    ("what_is_not_followed_is_forked_all_the_same", not_followed),
    ("forks_of_forks_of_forks", generations),
    ("what_can_have_no_shadow_runs_without", without),
    ("both_are_charged_to_the_container", charged),
    ("a_killed_tracer_leaves_one_process", killed_tracer),
    ("a_hundred_clones_with_shadows", stress),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, file] = arguments.as_slice()
        && role == "shadow-for-ever"
    {
        shadow_for_ever(file);
    }
    run_tests(&TESTS, arguments.iter().find(|argument| !argument.starts_with('-')));
}

const PYTHON: &str = "/usr/bin/python3";
const CONFINED: How = How { confined: true, outlives: false };

/// What a process can know of itself, but for addresses, times and numbers that are new each time.
const CONFESSION: &str = r#"
import os, re, resource, signal, struct
def show(name, value): print(name, repr(value))
for line in open('/proc/self/status'):
    if not re.match('Vm|Rss|.*ctxt|Hugetlb|Mems|FDSize', line): show('status', line.strip())
def plain(line):
    left, right = line.split(' - ')
    return ' '.join(left.split()[2:]) + ' - ' + right.strip()
for line in sorted(map(plain, open('/proc/self/mountinfo'))): show('mount', re.sub(r'^\d+:\d+ ', '', line))
for name in ['cgroup', 'limits', 'comm', 'cmdline', 'environ', 'oom_score_adj', 'personality', 'timerslack_ns', 'loginuid']:
    try: show(name, open('/proc/self/' + name, 'rb').read())
    except OSError as e: show(name, e.errno)
for name in ['exe', 'cwd', 'root']: show(name, os.readlink('/proc/self/' + name))
for name in os.listdir('/proc/self/fd'):
    try: show('fd', (name, re.sub(r'\d+', 'N', os.readlink('/proc/self/fd/' + name)), os.get_inheritable(int(name))))
    except OSError: pass
raw = open('/proc/self/auxv', 'rb').read()
keys = [pair for pair in struct.iter_unpack('QQ', raw) if pair[0] not in (3, 7, 9, 15, 25, 31, 33)]
show('auxv', sorted(keys))
import ctypes
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
show('getauxval', [libc.getauxval(k) for k in (11, 12, 13, 14, 23)])
libc.getauxval.restype = ctypes.c_char_p
show('name', libc.getauxval(31))
show('ids', (os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0), os.getresuid(), os.getresgid(), os.getgroups()))
show('umask', os.umask(0))
show('death', libc.prctl(2, ctypes.byref(ctypes.c_int())))
show('procs', sorted(n for n in os.listdir('/proc') if n.isdigit()))
show('sched', (os.sched_getaffinity(0), os.sched_getscheduler(0), os.getpriority(0, 0)))
print('end')
"#;

fn confessed(lines: &mut common::Lines) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let line = lines.next_line();
        if line == "end" {
            return all;
        }
        all.push(line);
    }
}

fn the_same() {
    for how in [How::default(), CONFINED] {
        let program = [PYTHON, "-c", CONFESSION];
        let plain = confessed(&mut start(&program, how).lines);
        let (mut process, shadow, _watch) = start_doubled(&program, how);
        let doubled = confessed(&mut process.lines);
        // While it is watched it has a tracer.
        let traced = |line: &&String| !line.contains("TracerPid");
        let (plain, doubled): (Vec<_>, Vec<_>) =
            (plain.iter().filter(traced).collect(), doubled.iter().filter(traced).collect());
        assert!(plain.len() > 60, "{plain:?}");
        let (a, b): (BTreeSet<_>, BTreeSet<_>) = (plain.iter().collect(), doubled.iter().collect());
        let differences: Vec<_> = a.symmetric_difference(&b).collect();
        assert!(differences.is_empty(), "{differences:#?}");
        assert!(shadow.pid() != process.pid);
    }
}

fn with_shadow(arguments: &[&str], how: How) -> (common::Process, Family) {
    let (process, shadow, watch) = start_doubled(arguments, how);
    watch.end().unwrap();
    assert!(shadow.is_of(process.pid));
    let family = Family::with_shadow(process.pid, shadow);
    (process, family)
}

fn of_state(threads: u32, how: How) {
    let state = State::build();
    let threads = threads.to_string();
    let (program, file) = (state.dir.path().join("state"), state.dir.path().join("file"));
    let (source, family) = with_shadow(&[program.to_str().unwrap(), file.to_str().unwrap(), &threads], how);
    forks_right_of(source, 0, family);
}

fn one_of_everything() {
    of_state(0, How::default());
}

fn with_threads() {
    of_state(4, How::default());
}

fn confined() {
    of_state(2, CONFINED);
}

const COUNTING: &str = "
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

fn python() {
    let (mut source, mut family) = with_shadow(&[PYTHON, "-c", COUNTING], CONFINED);
    let last = reads_on(&mut source, 0, 3);
    let forked = family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
    assert_eq!((forked.path, forked.copied), (Path::Shadow, 0));
    let mut world = World::new();
    let mut clone = world.clone_of(&family, &World::network());
    let at = clone.lines.number();
    assert!(at > last);
    reads_on(&mut clone, at, 20);
    // It has ended; its shadow lives on for as long as the family does.
    let shadow = family.shadow().unwrap().pid();
    drop(family);
    assert!(!std::path::Path::new(&format!("/proc/{shadow}")).exists());
    let at = reads_on(&mut clone, at + 20, 20);
    assert_eq!(at, reads_on(&mut source, last, at - last));
    let (source, family) = with_shadow(&[PYTHON, "-c", COUNTING], How::default());
    forks_right_of(source, 0, family);
}

fn not_forked_memory() {
    let program = "
import mmap, time
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
    let (source, family) = with_shadow(&[PYTHON, "-c", program], How::default());
    forks_right_of(source, 0, family);
}

/// Kilobytes of a process in huge pages.
fn huge(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("AnonHugePages:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn settled() {
    let program = "
import time
grown = bytearray(b'abcdefgh' * (6 << 20))
n = 0
while True:
    n += 1
    grown[n % 100 * 4096 + 1] = n % 256
    assert grown[n % 100 * 4096 + 2 :: 4096 * 50] == b'c' * len(grown[n % 100 * 4096 + 2 :: 4096 * 50])
    print(n, 'ok')
    time.sleep(0.002)
";
    let (mut source, family) = with_shadow(&[PYTHON, "-c", program], CONFINED);
    let last = reads_on(&mut source, 0, 3);
    let mut settling = Settling::default();
    let shadow = family.shadow().unwrap();
    // What may still grow is left alone.
    assert!(!settling.look(shadow).unwrap());
    assert_eq!(huge(source.pid), 0);
    while settling.look(shadow).unwrap() {}
    assert!(huge(source.pid) > 40 << 10, "{} kB", huge(source.pid));
    let last = reads_on(&mut source, last, 20);
    forks_right_of(source, last, family);
}

fn follows() {
    let dir = tempfile::Builder::new().prefix("seacow-shadow-").tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let python = script("count.py", &format!("#!/usr/bin/python3 -u\n{COUNTING}"));
    let inner = script(
        "inner",
        &format!("#!/bin/sh\nexec setpriv --reuid 1000 --regid 1000 --clear-groups {python} \"$@\"\n"),
    );
    let entry =
        script("entry", &format!("#!/bin/sh -e\nX=$(echo 7)\nexport X\nexec {inner} a 'b c' \"$X\"\n"));
    let (mut process, mut watch) = start_watched(&[&entry], How::default());
    let mut last = None;
    // entry, inner, setpriv, python.
    for round in 0..4 {
        let doubled = watch.double(&target(&process), &Surroundings::default()).unwrap();
        process.becomes(doubled.clone);
        last = Some(doubled.shadow);
        watch = doubled.watch;
        if round < 3 {
            assert_eq!(watch.wait(PAUSE).unwrap(), Seen::Executed);
        }
    }
    watch.end().unwrap();
    assert_eq!(common::status(process.pid, "Uid"), "1000\t1000\t1000\t1000");
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).unwrap();
    assert_eq!(line, format!("/usr/bin/python3\0-u\0{python}\0a\0b c\07\0"));
    let family = Family::with_shadow(process.pid, last.unwrap());
    assert!(family.shadow().is_some());
    forks_right_of(process, 0, family);
}

fn not_followed() {
    let program = format!("sleep 0; exec {PYTHON} -c \"$1\"");
    let (mut process, shadow, watch) =
        start_doubled(&["/bin/sh", "-c", &program, "x", COUNTING], How::default());
    watch.end().unwrap();
    reads_on(&mut process, 0, 1);
    assert!(!shadow.is_of(process.pid));
    let gone = shadow.pid();
    let mut family = Family::with_shadow(process.pid, shadow);
    assert!(family.shadow().is_none());
    let forked = family.fork(&target(&process), PAUSE, || Ok(())).unwrap();
    assert_eq!(forked.path, Path::Snapshot);
    assert!(!std::path::Path::new(&format!("/proc/{gone}")).exists());
    let mut clone = World::new().clone_of(&family, &World::network());
    let at = clone.lines.number();
    reads_on(&mut clone, at, 10);
}

fn generations() {
    let state = State::build();
    let (program, file) = (state.dir.path().join("state"), state.dir.path().join("file"));
    let arguments = [program.to_str().unwrap(), file.to_str().unwrap(), "2"];
    let (mut source, mut family) = with_shadow(&arguments, CONFINED);
    let mut last = reads_on(&mut source, 0, 3);
    let (mut world, network) = (World::new(), World::network());
    let mut before = Vec::new();
    for _ in 0..4 {
        let forked = family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
        assert_eq!((forked.path, forked.copied), (Path::Shadow, 0));
        let (mut clone, shadow) = world.clone_with_shadow(&family, &network);
        assert!(shadow.is_of(clone.pid));
        for key in
            ["Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigIgn", "Threads"]
        {
            assert_eq!(status(clone.pid, key), status(source.pid, key), "{key}");
        }
        let first = clone.lines.number();
        assert!(first > last);
        last = reads_on(&mut clone, first, 5);
        before.push((std::mem::replace(&mut source, clone), family));
        family = Family::with_shadow(source.pid, shadow);
    }
    // With the middle of the line gone the ends go on.
    before.remove(1);
    forks_right_of(source, last, family);
    for (mut process, _family) in before {
        let at = process.lines.number();
        reads_on(&mut process, at, 5);
    }
}

/// Starts it, and has it refused a shadow for this reason.
fn refused(arguments: &[&str], why: &str) -> Process {
    let (process, watch) = start_watched(arguments, How::default());
    let error = watch.double(&target(&process), &Surroundings::default()).unwrap_err();
    let Error::NoShadow { why: said } = &error else { panic!("{error:?}") };
    assert!(said.contains(why), "{said}");
    process
}

fn without() {
    // Others of its pid namespace.
    let program = format!("sleep 1000 & exec {PYTHON} -c \"$1\"");
    let arguments = ["/bin/sh", "-c", &program, "x", COUNTING];
    let (mut process, watch) = start_watched(&arguments, How::default());
    let doubled = watch.double(&target(&process), &Surroundings::default()).unwrap();
    process.becomes(doubled.clone);
    let mut watch = doubled.watch;
    assert_eq!(watch.wait(PAUSE).unwrap(), Seen::Executed);
    let error = watch.double(&target(&process), &Surroundings::default()).unwrap_err();
    assert!(error.to_string().contains("further processes"), "{error}");
    reads_on(&mut process, 0, 10);
    assert_eq!(status(process.pid, "TracerPid"), "0");

    // Something of the old namespace's.
    let program = format!("exec 5</proc/self/status; exec {PYTHON} -c \"$1\"");
    let arguments = ["/bin/sh", "-c", &program, "x", COUNTING];
    let (mut process, mut watch) = start_watched(&arguments, How::default());
    watch.pass().unwrap();
    assert_eq!(watch.wait(PAUSE).unwrap(), Seen::Executed);
    let error = watch.double(&target(&process), &Surroundings::default()).unwrap_err();
    assert!(error.to_string().contains("descriptor 5"), "{error}");
    reads_on(&mut process, 0, 10);

    // A program that gives rights.
    let dir = tempfile::Builder::new().prefix("seacow-shadow-").tempdir().unwrap();
    let path = dir.path().join("python");
    std::fs::copy(std::fs::canonicalize(PYTHON).unwrap(), &path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let mut process = refused(&[path.to_str().unwrap(), "-c", COUNTING], "gives rights");
    reads_on(&mut process, 0, 10);

    // A program that is not there any more.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (mut process, watch) = start_watched(&[path.to_str().unwrap(), "-c", COUNTING], How::default());
    std::fs::remove_file(&path).unwrap();
    let error = watch.double(&target(&process), &Surroundings::default()).unwrap_err();
    assert!(error.to_string().contains("executed again"), "{error}");
    reads_on(&mut process, 0, 10);
}

/// A cgroup of version 1 for memory, or the one of version 2 where there is none.
fn charged() {
    let unified = Cgroup::new("charged");
    let memory = Cgroup::of_version_1("memory", "charged");
    let group = memory.as_ref().unwrap_or(&unified);
    let program = "
import time
data = bytearray(40 << 20)
for i in range(0, len(data), 4096): data[i] = 1
print('ready', flush=True)
while True: time.sleep(1)
";
    let (mut process, watch) = start_watched(&[PYTHON, "-c", program], How::default());
    let directory = std::fs::File::open(&unified.0).unwrap();
    let list = memory.as_ref().map(|group| group.list());
    let around = Surroundings {
        cgroup: Some(directory.as_fd()),
        join: list.iter().map(AsFd::as_fd).collect(),
        charge: Charge { memory: list.as_ref().map(AsFd::as_fd), ..Charge::default() },
    };
    let doubled = watch.double(&target(&process), &around).unwrap();
    process.becomes(doubled.clone);
    doubled.watch.end().unwrap();
    assert_eq!(process.lines.next_line(), "ready");
    let both = BTreeSet::from([process.pid, doubled.shadow.pid()]);
    for group in [Some(&unified), memory.as_ref()].into_iter().flatten() {
        assert_eq!(group.processes().into_iter().collect::<BTreeSet<_>>(), both);
    }
    if memory.is_some() {
        let used = std::fs::read_to_string(group.0.join("memory.usage_in_bytes")).unwrap();
        assert!(used.trim().parse::<u64>().unwrap() > 40 << 20, "{used}");
    }
    let in_cgroup = Target { cgroup: Some(&unified.0), ..target(&process) };
    assert!(!examine(&in_cgroup).unwrap().is_empty());
    let mut family = Family::with_shadow(process.pid, doubled.shadow);
    assert_eq!(family.examine(&in_cgroup).unwrap(), []);
    family.fork(&in_cgroup, PAUSE, || Ok(())).unwrap();
    drop(family);
    assert_eq!(unified.processes(), [process.pid]);
    drop(process);
}

/// Another process of this program that starts one, gives it a shadow, and forks it again and again.
fn shadow_for_ever(file: &str) -> ! {
    let program = format!("import sys\nsys.stdout = open('{file}', 'w', buffering=1)\n{COUNTING}");
    let how = How { outlives: true, ..CONFINED };
    let (mut process, watch) = start_watched(&[PYTHON, "-c", &program, "seacow-shadow-marker"], how);
    println!("executed");
    let doubled = watch.double(&target(&process), &Surroundings::default()).unwrap();
    process.becomes(doubled.clone);
    println!("doubled");
    doubled.watch.end().unwrap();
    let mut family = Family::with_shadow(process.pid, doubled.shadow);
    let (mut world, network) = (World::new(), World::network());
    loop {
        family.fork(&target(&process), PAUSE, || Ok(())).unwrap();
        let _held = world.held(&family, &network);
    }
}

fn killed_tracer() {
    let dir = tempfile::Builder::new().prefix("seacow-shadow-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let marker = dir.path().to_str().unwrap().to_owned();
    let mut delay = 0u64;
    for round in 0..60 {
        let file = dir.path().join(round.to_string());
        let mut forker = Forker::start(&["shadow-for-ever", file.to_str().unwrap()]);
        assert_eq!(forker.line(), "executed");
        // Half of them while the shadow is made.
        let late = round % 2 == 1;
        if late {
            assert_eq!(forker.line(), "doubled");
        }
        delay = (delay * 7919 + 1_234_577) % 30_000;
        let until_then = Instant::now() + Duration::from_micros(if late { delay } else { delay % 3_000 });
        while Instant::now() < until_then {
            std::hint::spin_loop();
        }
        forker.kill();
        // What dies with it takes its time.
        until("at most one is left", || running(&marker).len() <= 1);
        let left = running(&marker);
        let lines = || std::fs::read_to_string(&file).unwrap_or_default();
        let [pid] = left[..] else {
            assert!(!late, "nothing is left of what ran");
            continue;
        };
        let so_far = lines().lines().count();
        until("it goes on", || lines().lines().count() > so_far + 10);
        for (index, line) in lines().lines().enumerate() {
            assert!(line.starts_with(&format!("{}", index + 1)), "{line}");
        }
        assert_eq!(status(pid, "TracerPid"), "0");
        seacow_sys::process::kill(pid, 9).unwrap();
        until("it is gone", || running(&marker).is_empty());
    }
}

fn stress() {
    let (mut source, mut family) = with_shadow(&[PYTHON, "-c", COUNTING], CONFINED);
    let mut last = reads_on(&mut source, 0, 3);
    let (mut world, network) = (World::new(), World::network());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut before = 0;
    for round in 0..10 {
        family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
        // With a template, and the one before.
        if round == 1 {
            before = descriptors();
        }
        let clones: Vec<_> = (0..10).map(|_| world.clone_with_shadow(&family, &network)).collect();
        for (mut clone, shadow) in clones {
            let at = clone.lines.number();
            reads_on(&mut clone, at, 5);
            assert!(shadow.is_of(clone.pid));
        }
        last = reads_on(&mut source, last, 3);
    }
    assert_eq!(descriptors(), before);
    drop(family);
    let own = common::programs::children(std::process::id() as i32);
    assert_eq!(own, source.pid.to_string());
}
