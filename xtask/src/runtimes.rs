//! The end-to-end tests with every combination of engine and OCI runtime that there is: others'
//! runtimes under our shim, ours under others' engines.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, packages, shell, test};

/// podman with what it needs beside Debian's base system.
const PODMAN: [&str; 5] = ["podman", "conmon", "libsubid4", "libgpgme11", "libassuan0"];
/// Tests that any runtime takes. crun words some refusals its own way, which `run` and `exec` see.
const TESTS: [&str; 8] = ["run", "exec", "lifecycle", "logs", "terminal", "security", "copy", "options"];

/// Debian's runc, unpacked.
pub(crate) fn runc() -> Result<PathBuf> {
    Ok(packages::unpack("runc", &["runc"])?.join("usr/sbin/runc"))
}

/// Debian's crun, unpacked, in a script that makes it work here: it refuses the hybrid layout of
/// cgroups, so it does not see the unified one.
fn crun() -> Result<PathBuf> {
    let dir = packages::unpack("crun", &["crun", "libyajl2"])?;
    let script = dir.join("crun-here");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount --propagation unchanged sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null\n\
         LD_LIBRARY_PATH={0}/usr/lib/x86_64-linux-gnu exec {0}/usr/bin/crun \"$@\"' crun \"$@\"\n",
        dir.display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    Ok(script)
}

/// `cargo xtask runtimes`: all of it, some ten minutes.
pub(crate) fn run(args: &[String]) -> Result<()> {
    shell::become_root()?;
    let docker = packages::docker_cli()?;
    let dist = build::dist()?;
    let ours = dist.join("seacow-runtime");
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    let mut failed = Vec::new();
    for runtime in [runc()?, crun()?, ours.clone()] {
        let mut tests = tests(&TESTS, &dist, &docker);
        tests.args(args).env("SEACOW_TEST_RUNTIME", &runtime);
        note(&mut failed, &format!("seacowd with {}", runtime.display()), &mut tests);
    }
    let mut with_podman = tests(&["podman"], &dist, &docker);
    with_podman.env("SEACOW_PODMAN", packages::unpack("podman", &PODMAN)?);
    note(&mut failed, "podman with seacow-runtime", &mut with_podman);
    let mut with_containerd = tests(&["containerd"], &dist, &docker);
    with_containerd.env("SEACOW_CONTAINERD", packages::unpack("containerd", &["containerd"])?);
    note(&mut failed, "containerd with seacow-runtime", &mut with_containerd);
    note(&mut failed, "dockerd with seacow-runtime", &mut under_dockerd(&TESTS, &dist)?);
    if failed.is_empty() { Ok(()) } else { bail!("not all passed: {}", failed.join(", ")) }
}

fn note(failed: &mut Vec<String>, what: &str, tests: &mut Command) {
    println!("xtask: {what}");
    if shell::run(tests).is_err() {
        failed.push(what.to_owned());
    }
}

fn tests(names: &[&str], dist: &Path, docker: &Path) -> Command {
    let mut what = vec!["-p", "seacow-tests"];
    what.extend(names.iter().flat_map(|name| ["--test", name]));
    let mut runner = test::runner(&what);
    runner.env("SEACOW_DIST", dist).env("SEACOW_DOCKER", docker);
    runner
}

/// Some end-to-end tests taken by Debian's dockerd with our runtime.
pub(crate) fn under_dockerd(names: &[&str], dist: &Path) -> Result<Command> {
    packages::ensure(&["iptables"], "dockerd")?;
    let mut tests = tests(names, dist, &packages::docker_cli()?);
    tests.env("SEACOW_TEST_ENGINE", "docker").env("SEACOW_TEST_RUNTIME", dist.join("seacow-runtime"));
    tests.env("SEACOW_DOCKERD", packages::unpack("docker", &packages::DOCKER)?);
    Ok(tests)
}
