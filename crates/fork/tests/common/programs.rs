//! Programs that check themselves, and what is asked of them.

use std::process::Command;
use std::time::Instant;

use seacow_fork::Family;

use super::{How, PAUSE, Process, World, start, status, target, until};

/// A test by its name.
pub(crate) type Test = (&'static str, fn());

/// Runs those whose name has the wanted text in it, one after another.
pub(crate) fn run_tests(tests: &[Test], wanted: Option<&String>) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let mut failed = Vec::new();
    for (name, test) in tests {
        if wanted.is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let began = Instant::now();
        let passed = std::panic::catch_unwind(test).is_ok();
        let word = if passed { "ok" } else { "FAILED" };
        println!("{name} ... {word} ({:.1} s)", began.elapsed().as_secs_f64());
        if !passed {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        println!("failed: {failed:?}");
        std::process::exit(1);
    }
}

/// The C program with one of everything, built for this run.
pub(crate) struct State {
    pub(crate) dir: tempfile::TempDir,
}

impl State {
    pub(crate) fn build() -> Self {
        let dir = tempfile::Builder::new().prefix("seacow-fork-").tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/state.c");
        let program = dir.path().join("state");
        let built =
            Command::new("cc").args(["-O1", "-static", "-pthread", "-o"]).arg(&program).arg(source).status();
        assert!(built.unwrap().success());
        // A confined user writes here, too.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        Self { dir }
    }

    pub(crate) fn start(&self, threads: u32, how: How) -> Process {
        let program = self.dir.path().join("state");
        let file = self.dir.path().join("file");
        let threads = threads.to_string();
        start(&[program.to_str().unwrap(), file.to_str().unwrap(), &threads], how)
    }
}

/// Reads on until a line's number; every line up to there must be right.
pub(crate) fn reads_on(process: &mut Process, mut last: u64, lines: u64) -> u64 {
    for _ in 0..lines {
        let line = process.lines.next_line();
        assert!(line.ends_with("ok"), "{line}");
        let number: u64 = line.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(number, last + 1, "{line}");
        last = number;
    }
    last
}

/// Forks a program of lines "N … ok" into three clones, twice, and checks that all go on.
pub(crate) fn forks_right(source: Process) {
    let pid = source.pid;
    forks_right_of(source, 0, Family::new(pid));
}

/// The same with a family that there is already, after so many lines.
pub(crate) fn forks_right_of(mut source: Process, before: u64, mut family: Family) {
    let mut world = World::new();
    let network = World::network();
    let mut last = reads_on(&mut source, before, 5);
    let threads = status(source.pid, "Threads");
    for _ in 0..2 {
        family.fork(&target(&source), PAUSE, || Ok(())).unwrap();
        let mut clones = Vec::new();
        for _ in 0..3 {
            clones.push(world.clone_of(&family, &network));
        }
        let mut now = reads_on(&mut source, last, 30);
        for mut clone in clones {
            // A clone goes on from where the source was when it stood still.
            let first = clone.lines.next_line();
            assert!(first.ends_with("ok"), "{first}");
            let first: u64 = first.split(' ').next().unwrap().parse().unwrap();
            assert!(last < first, "{last} < {first}");
            // So was the source, which may have written ahead of us.
            now = reads_on(&mut source, now, first.saturating_sub(now));
            reads_on(&mut clone, first, 30);
            assert_eq!(status(clone.pid, "Threads"), threads);
            for key in
                ["Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "SigCgt", "SigIgn"]
            {
                assert_eq!(status(clone.pid, key), status(source.pid, key), "{key}");
            }
            assert_eq!(status(clone.pid, "TracerPid"), "0");
        }
        last = now;
    }
    family.retire(PAUSE).unwrap();
    reads_on(&mut source, last, 30);
    assert!(children(source.pid).is_empty());
    let left = std::fs::read_to_string(format!("/proc/{}/maps", source.pid)).unwrap();
    assert!(!left.contains("rwxp"), "{left}");
}

pub(crate) fn children(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim().to_owned()
}

/// Processes that run this file, or are a copy of what does.
pub(crate) fn running(marker: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(marker) {
            found.push(pid);
        }
    }
    found
}

/// A cgroup of version 2, removed at the end.
pub(crate) struct Cgroup(pub(crate) std::path::PathBuf);

impl Cgroup {
    pub(crate) fn new(name: &str) -> Self {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = table.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2 is mounted");
        let root = std::path::Path::new(mounted.split(' ').nth(4).unwrap());
        let path = root.join(format!("seacow-fork-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Of a hierarchy of version 1, if there is such a one.
    pub(crate) fn of_version_1(controller: &str, name: &str) -> Option<Self> {
        let root = std::path::Path::new("/sys/fs/cgroup").join(controller);
        let path = root.join(format!("seacow-fork-{name}-{}", std::process::id()));
        root.join("tasks").exists().then(|| {
            std::fs::create_dir(&path).unwrap();
            Self(path)
        })
    }

    /// What is written to in order to join it (version 1).
    pub(crate) fn list(&self) -> std::fs::File {
        std::fs::File::options().write(true).open(self.0.join("tasks")).unwrap()
    }

    pub(crate) fn processes(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        until("the cgroup is empty", || std::fs::remove_dir(&self.0).is_ok());
    }
}

/// Another process of the test program, in a role.
pub(crate) struct Forker {
    child: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Forker {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        Self { child, lines }
    }

    pub(crate) fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
