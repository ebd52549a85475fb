//! Every test there is, then a look for anything left behind.

use std::process::Command;

use anyhow::{Result, bail};

use crate::leaks::Snapshot;
use crate::{arch, build, packages, shell};

/// What the tests use beside Rust.
const PACKAGES: [&str; 8] =
    ["busybox-static", "curl", "iproute2", "nftables", "procps", "tmux", "zstd", "util-linux"];

/// Runs everything; `args` go to the test runner.
pub(crate) fn run(args: &[String]) -> Result<()> {
    shell::become_root()?;
    packages::ensure(&PACKAGES, "the tests")?;
    let docker = packages::docker_cli()?;
    println!("xtask: stock docker client: {}", docker.display());
    arch::check()?;
    let dist = build::dist()?;
    let before = Snapshot::take();
    let mut runner = runner();
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    runner.args(args).env("SEACOW_DIST", &dist).env("SEACOW_DOCKER", &docker);
    let tests = shell::run(&mut runner);
    let leaks = before.check();
    match (tests, leaks) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(tests), Ok(())) => Err(tests),
        (Ok(()), Err(leaks)) => Err(leaks),
        (Err(tests), Err(leaks)) => bail!("{tests:#}\nand {leaks:#}"),
    }
}

/// nextest where it is installed: it runs every test in a process of its own, and several at once.
fn runner() -> Command {
    let nextest = shell::output(shell::cargo().args(["nextest", "--version"])).is_ok();
    let mut cargo = shell::cargo();
    if nextest {
        cargo.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    } else {
        println!("xtask: cargo-nextest is not installed; using cargo test");
        cargo.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    }
    cargo
}
