//! A throw-away virtual machine with cgroup version 2, with or without systemd.
//!
//! Development machines often have the hybrid layout, no systemd and no AppArmor; users have all
//! three. QEMU's software emulation needs no hardware support and boots Debian's cloud kernel in a
//! few seconds; everything runs some ten times slower than outside.
//!
//! ```text
//! target/vm/tools      QEMU and mmdebstrap of this distribution, unpacked, not installed
//! target/vm/guest      Debian trixie, with its kernel unpacked into it
//! target/vm/guest.img  the same as a file system; a run writes to a snapshot of it
//! target/vm/payload    programs and test binaries of this run, seen as /payload in the guest
//! ```
//!
//! A run's output comes back line by line over a virtio port, the last line being the exit status.

mod boot;
mod guest;
mod payload;
mod tools;

use std::fs;

use anyhow::{Result, bail};

use crate::{build, packages, shell};

pub(crate) use boot::Init;

/// The emulator runs both processors at the same time and patches code under the running kernel, which
/// has been seen to end in a panic of the kernel, once in half an hour or so.
const REBOOTS: usize = 3;

/// Tests that judge what only such a machine has; few enough for every CI run. The daemon's unit
/// needs systemd, and would only be skipped without it.
fn subset_in(init: Init) -> payload::Work<'static> {
    match init {
        // Its kernel has the quota of xfs.
        Init::Plain => payload::Work::Tests(&["cgroups", "quota", "security"]),
        Init::Selinux => payload::Work::Tests(&["selinux"]),
        Init::Systemd | Init::Hybrid => payload::Work::Tests(&["cgroups", "unit"]),
    }
}

/// `cargo xtask vm [cgroupfs|systemd|hybrid|selinux]… [--subset] [-- FILTER…]`: without words the whole suite,
/// with both drivers.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (own, filter) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (args.get(..at).unwrap_or_default(), args.get(at + 1..).unwrap_or_default()),
        None => (args, [].as_slice()),
    };
    let mut inits = Vec::new();
    let mut subset = false;
    for arg in own {
        match arg.as_str() {
            "--subset" => subset = true,
            name => match Init::named(name) {
                Some(init) => inits.push(init),
                None => bail!("vm: {name:?} is none of cgroupfs, systemd, hybrid, selinux, --subset"),
            },
        }
    }
    if inits.is_empty() {
        inits = vec![Init::Plain, Init::Systemd];
    }
    shell::become_root()?;
    let dist = build::given_or_dist()?;
    let all = |_| payload::Work::Tests(&[]);
    judge(&inits, &dist, if subset { &subset_in } else { &all }, filter)
}

/// The part of it that every test run has.
pub(crate) fn subset(dist: &std::path::Path) -> Result<()> {
    judge(&[Init::Plain, Init::Systemd, Init::Selinux], dist, &subset_in, &[])
}

/// `run --rm` here and by Debian's dockerd, in the same machine at the same time.
pub(crate) fn bench(rounds: usize) -> Result<()> {
    shell::become_root()?;
    let dist = build::given_or_dist()?;
    judge(&[Init::Systemd], &dist, &|_| payload::Work::Bench(rounds), &[])
}

/// Boots once per way and fails when any run failed.
fn judge(
    inits: &[Init],
    dist: &std::path::Path,
    work: &dyn Fn(Init) -> payload::Work<'static>,
    filter: &[String],
) -> Result<()> {
    let tools = tools::fetch()?;
    let guest = guest::make(&tools)?;
    let docker = packages::docker_cli()?;
    let mut failed = Vec::new();
    for init in inits {
        let boot = |from: Option<&str>| {
            let payload = payload::make(*init, dist, &docker, &work(*init), filter, from)?;
            println!("xtask: booting a virtual machine: {}", init.described());
            boot::run(&tools, &guest, *init, &payload)
        };
        let mut outcome = boot(None)?;
        for _ in 0..REBOOTS {
            let Some(at) = outcome.interrupted_at().map(str::to_owned) else { break };
            let log = boot::console().with_file_name("console-of-the-crash.log");
            fs::rename(boot::console(), &log)?;
            println!(
                "xtask: the virtual machine went down in {at}, see {}; once more from there",
                log.display()
            );
            outcome = boot(Some(&at))?.after(outcome);
        }
        outcome.print(*init);
        if !outcome.is_success() {
            failed.push(init.name());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed in the virtual machine: {}", failed.join(", ")) }
}
