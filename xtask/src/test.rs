//! Every test there is, then a look for anything left behind.

use std::process::Command;

use anyhow::{Result, bail};

use crate::leaks::Snapshot;
use crate::{arch, build, packages, runtimes, shell, vm};

/// What the tests use beside Rust.
const PACKAGES: [&str; 14] = [
    "btrfs-progs",
    "busybox-static",
    "bzip2",
    "curl",
    "iproute2",
    "iptables",
    "nftables",
    "procps",
    "tmux",
    "uidmap",
    "util-linux",
    "xfsprogs",
    "xz-utils",
    "zstd",
];

/// Runs everything; `args` go to the test runner.
pub(crate) fn run(args: &[String]) -> Result<()> {
    shell::become_root()?;
    packages::ensure(&PACKAGES, "the tests")?;
    let docker = packages::docker_cli()?;
    println!("xtask: stock docker client: {}", docker.display());
    arch::check()?;
    let dist = build::dist()?;
    let before = Snapshot::take();
    let mut runner = runner(&["--workspace"]);
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    runner.args(args).env("SEACOW_DIST", &dist).env("SEACOW_DOCKER", &docker);
    runner.env("SEACOW_TEST_RUNTIMES", runtimes::runc()?);
    runner.env("SEACOW_REGISTRY", packages::unpack("registry", &["docker-registry"])?);
    runner.env("SEACOW_SKOPEO", packages::unpack("skopeo", &packages::SKOPEO)?);
    runner.env("SEACOW_PROGRAMS", packages::programs()?);
    runner.env("SEACOW_OTHER_DOCKERS", packages::older_docker_cli()?);
    let mut outcomes = vec![shell::run(&mut runner)];
    if args.is_empty() {
        // What another engine asks of our runtime: streams, terminals, execs, limits.
        outcomes.push(shell::run(&mut runtimes::under_dockerd(&["exec", "terminal"], &dist)?));
    }
    name_skipped()?;
    outcomes.push(before.check());
    // Who asks for certain tests asks not for a virtual machine.
    if args.is_empty() {
        outcomes.push(vm::subset(&dist));
    }
    let failed: Vec<String> =
        outcomes.into_iter().filter_map(|outcome| outcome.err().map(|error| format!("{error:#}"))).collect();
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\nand ")) }
}

/// Names what no ordinary run executes, and why: a number alone would hide it.
fn name_skipped() -> Result<()> {
    let grep = ["-rn", "--include=*.rs", r#"#\[ignore"#, "crates", "tests"];
    let list = shell::output(Command::new("grep").current_dir(shell::root()).args(grep))?;
    for line in list.lines() {
        println!("skipped: {line}");
    }
    Ok(())
}

/// Lets Debian's dockerd take the end-to-end tests: what it does not pass is not asked of us.
pub(crate) fn oracle(args: &[String]) -> Result<()> {
    shell::become_root()?;
    packages::ensure(&PACKAGES, "the tests")?;
    let docker = packages::docker_cli()?;
    let peers = packages::unpack("docker", &packages::DOCKER)?;
    let mut runner = runner(&["-p", "seacow-tests"]);
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    runner.args(args).env("SEACOW_DOCKER", &docker);
    shell::run(runner.env("SEACOW_TEST_ENGINE", "docker").env("SEACOW_DOCKERD", &peers))
}

/// nextest where it is installed: it runs every test in a process of its own, and several at once.
pub(crate) fn runner(what: &[&str]) -> Command {
    let nextest = shell::output(shell::cargo().args(["nextest", "--version"])).is_ok();
    let mut cargo = shell::cargo();
    if nextest {
        cargo.args(["nextest", "run", "--locked", "--no-fail-fast"]);
    } else {
        println!("xtask: cargo-nextest is not installed; using cargo test");
        cargo.args(["test", "--locked", "--no-fail-fast"]);
    }
    cargo.args(what);
    cargo
}
