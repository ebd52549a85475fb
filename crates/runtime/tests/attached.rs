//! A container that attaches to whoever enters it. The attacker is this very test, inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod common;

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::bundle::Bundle;
use seacow_spec::oci::runtime::{LinuxNamespace, NamespaceKind};
use seacow_sys::ptrace::{self, Options};

const ATTACKER: &str = "SEACOW_TEST_ATTACKER";
const TEST: &str = "nobody_attaches_to_the_runtime_from_inside";

/// Tried are execs, and containers that join its pid namespace; no filter is in the way. Protections:
/// more capabilities than the container has, until they are given up, and undumpable from before
/// the process can be seen to its execve. The attacker does attach to programs once they run.
#[test]
fn nobody_attaches_to_the_runtime_from_inside() {
    if std::env::var_os(ATTACKER).is_some() {
        return attack();
    }
    let Some(bundle) = Bundle::new("attach", "", |spec| {
        let process = spec.process.as_mut().unwrap();
        process.args = ["/attacker", "--exact", TEST, "--nocapture"].map(str::to_owned).to_vec();
        process.env.push(format!("{ATTACKER}=1"));
    }) else {
        return;
    };
    let rootfs = bundle.fixture.rootfs();
    std::fs::copy(std::env::current_exe().unwrap(), rootfs.join("attacker")).unwrap();
    common::give_libraries(&rootfs);
    bundle.ok(&["run", "-d", &bundle.id]);
    let loot = || std::fs::read_to_string(rootfs.join("srv/loot")).unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(60);
    while loot().is_empty() {
        assert!(Instant::now() < deadline, "the attacker does not come");
        std::thread::yield_now();
    }
    let state: serde_json::Value = serde_json::from_str(&bundle.ok(&["state", &bundle.id])).unwrap();
    let namespace = format!("/proc/{}/ns/pid", state["pid"]);
    let guest = Bundle::new("attach-guest", "exec sleep 0.05", |spec| {
        let kinds = &mut spec.linux.as_mut().unwrap().namespaces;
        kinds.retain(|ns| ns.kind != NamespaceKind::Pid);
        kinds.push(LinuxNamespace { kind: NamespaceKind::Pid, path: namespace });
    })
    .unwrap();
    let seen = |word: &str| loot().lines().filter(|line| line.starts_with(word)).count();
    // Which of them the attacker kills is a matter of luck, and of no account.
    while seen("refused") < 20 || seen("attached") < 3 {
        assert!(Instant::now() < deadline + Duration::from_secs(60), "{}", loot());
        bundle.call(&["exec", &bundle.id, "sleep", "0.05"]);
        guest.call(&["run", &guest.id]);
    }
    let loot = loot();
    let programs = ["/bin/busybox", "/rootfs/bin/busybox"];
    for line in loot.lines().filter_map(|line| line.strip_prefix("attached ")) {
        assert!(programs.iter().any(|program| line.ends_with(program)), "{line} was attached to: {loot}");
    }
}

/// Attaches to everything, tells what it was, and kills it.
fn attack() {
    let mut told = String::from("begun\n");
    loop {
        std::fs::write("/srv/new", &told).unwrap();
        std::fs::rename("/srv/new", "/srv/loot").unwrap();
        let before = told.len();
        while told.len() == before {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
                if let Some(pid) = pid.filter(|pid| *pid != 1) {
                    attach(pid, &entry.path(), &mut told);
                }
            }
        }
    }
}

fn attach(pid: i32, process: &Path, told: &mut String) {
    match ptrace::seize(pid, Options::empty()) {
        Ok(()) => {
            let program = std::fs::read_link(process.join("exe"));
            writeln!(told, "attached {}", program.unwrap_or_default().display()).unwrap();
            let pidfd = seacow_sys::process::pidfd_open(pid).unwrap();
            seacow_sys::process::pidfd_signal(std::os::fd::AsFd::as_fd(&pidfd), 9).unwrap();
            ptrace::reap(pid).unwrap();
        }
        Err(seacow_sys::Errno::PERM) => writeln!(told, "refused").unwrap(),
        // It has ended, or is another thread's already.
        Err(_) => {}
    }
}
