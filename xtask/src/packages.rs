//! Debian packages: installed when missing, and said so; peers only unpacked, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Debian's dockerd with what it needs to run.
pub(crate) const DOCKER: [&str; 4] = ["docker.io", "containerd", "runc", "tini"];

/// Debian's skopeo with the libraries that a small system lacks.
pub(crate) const SKOPEO: [&str; 3] = ["skopeo", "libgpgme11", "libassuan0"];

/// Installs those of `packages` that are missing. `why` is printed with them.
pub(crate) fn ensure(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("xtask: installing Debian packages for {why}: {}", missing.join(" "));
    if shell::which("apt-get").is_none() {
        bail!("apt-get not found; install by hand: {}", missing.join(" "));
    }
    if install(&missing).is_err() {
        // The list of packages may be old or absent.
        shell::run(Command::new("apt-get").args(["-qq", "update"]))?;
        install(&missing)?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y", "--no-install-recommends", "install"]);
    shell::output(apt.args(packages)).map(drop)
}

fn is_installed(package: &str) -> bool {
    shell::output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// Unpacks `packages` below `target/peers/<name>` without installing them, and returns that
/// directory. Their daemons are never started by a maintainer script that way.
pub(crate) fn unpack(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let dir = shell::target().join("peers").join(name);
    let stamp = dir.join(".complete");
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(dir);
    }
    println!("xtask: fetching Debian packages, not installed, for {name}: {}", packages.join(" "));
    let debs = dir.join("debs");
    std::fs::create_dir_all(&debs).with_context(|| format!("create {}", debs.display()))?;
    let download =
        |debs: &Path| shell::output(Command::new("apt-get").current_dir(debs).arg("download").args(packages));
    if download(&debs).is_err() {
        shell::run(Command::new("apt-get").args(["-qq", "update"]))?;
        download(&debs)?;
    }
    for deb in std::fs::read_dir(&debs)? {
        shell::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&dir))?;
    }
    std::fs::write(&stamp, wanted)?;
    Ok(dir)
}

/// Unpacks `packages` into `dir` without installing them, and with them whatever they depend on that
/// is not installed on this machine.
pub(crate) fn unpack_with_dependencies(dir: &Path, packages: &[&str]) -> Result<()> {
    let debs = dir.join("debs");
    // apt wants this one to exist.
    let partial = debs.join("partial");
    std::fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-y", "--no-install-recommends", "--download-only", "install"]);
        apt.arg("-o").arg(format!("Dir::Cache::archives={}", debs.display())).args(packages);
        shell::output(&mut apt)
    };
    if download().is_err() {
        shell::run(Command::new("apt-get").args(["-qq", "update"]))?;
        download()?;
    }
    for deb in std::fs::read_dir(&debs)? {
        let deb = deb?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            shell::run(Command::new("dpkg").arg("-x").arg(deb).arg(dir))?;
        }
    }
    std::fs::remove_dir_all(&debs).with_context(|| format!("remove {}", debs.display()))
}

/// Programs that are forked in tests: Redis, and Node where this machine has none.
pub(crate) fn programs() -> Result<PathBuf> {
    let dir = shell::target().join("peers/programs");
    let stamp = dir.join(".complete");
    if !stamp.exists() {
        let mut wanted = vec!["redis-server"];
        if shell::which("node").is_none() {
            wanted.push("nodejs");
        }
        println!("xtask: fetching Debian packages, not installed, to be forked: {}", wanted.join(" "));
        unpack_with_dependencies(&dir, &wanted)?;
        std::fs::write(&stamp, [])?;
    }
    Ok(dir)
}

/// The stock docker client: the one on the path, or Debian's, unpacked.
pub(crate) fn docker_cli() -> Result<PathBuf> {
    if let Some(docker) = shell::which("docker") {
        return Ok(docker);
    }
    let dir = unpack("docker", &DOCKER)?;
    Ok(dir.join("usr/bin/docker"))
}

/// Debian 12's client, 20.10: the oldest that is served.
pub(crate) fn older_docker_cli() -> Result<PathBuf> {
    Ok(unpack("docker", &DOCKER)?.join("usr/bin/docker"))
}
