//! Layers of a distribution's files unpacked, and a hundred snapshots prepared.
//!
//! The files are those of this machine's Debian packages, required and important ones first. What unpacking
//! costs beside inflating alone is measured within one process by the store's own benchmark.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::subject::{self, Subject};
use super::{Wanted, record};
use crate::bench::lab::Lab;
use crate::bench::report::Report;
use crate::bench::stats::Measured;
use crate::shell;

/// Bytes of the tar.
const SIZE: u64 = 170_000_000;

/// The tar, packed in two ways.
pub(super) struct Tars {
    gzip: PathBuf,
    zstd: PathBuf,
}

impl Tars {
    /// Makes them below the target directory.
    pub(super) fn make() -> Result<Self> {
        let plain = shell::target().join("bench-debian.tar");
        let packed = |suffix: &str| PathBuf::from(format!("{}.{suffix}", plain.display()));
        let tars = Self { gzip: packed("gz"), zstd: packed("zst") };
        tar_of(&files()?, &plain)?;
        shell::run(Command::new("gzip").args(["-6", "-k", "-f"]).arg(&plain))?;
        shell::run(Command::new("zstd").args(["-q", "-3", "-k", "-f"]).arg(&plain))?;
        std::fs::remove_file(&plain).context("remove the tar")?;
        Ok(tars)
    }
}

impl Drop for Tars {
    fn drop(&mut self) {
        for path in [&self.gzip, &self.zstd] {
            if let Err(error) = std::fs::remove_file(path) {
                eprintln!("xtask: remove {}: {error}", path.display());
            }
        }
    }
}

/// A tar of this machine's Debian packages.
pub(in crate::bench) fn debian(to: &Path) -> Result<()> {
    tar_of(&files()?, to)
}

/// Files of packages, as many as make the size.
fn files() -> Result<Vec<String>> {
    let list = shell::output(Command::new("dpkg-query").args(["-W", "-f", "${Priority} ${Package}\\n"]))?;
    let mut packages: Vec<(usize, &str)> = Vec::new();
    for line in list.lines() {
        let Some((priority, name)) = line.split_once(' ') else { continue };
        let rank = ["required", "important", "standard", "optional"].iter().position(|p| *p == priority);
        packages.extend(rank.map(|rank| (rank, name)));
    }
    packages.sort_unstable();
    let (mut files, mut bytes) = (Vec::new(), 0);
    for (_, package) in packages {
        let listed = shell::output(Command::new("dpkg").args(["-L", package]))?;
        for path in listed.lines().filter(|path| path.starts_with('/') && *path != "/.") {
            // Where it is since /bin is a link to /usr/bin.
            let Some(path) = real(Path::new(path)) else { continue };
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            bytes += 512 + if meta.is_file() { meta.size().next_multiple_of(512) } else { 0 };
            files.push(path);
        }
        if bytes >= SIZE {
            break;
        }
    }
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// Without symlinks on the way.
fn real(path: &Path) -> Option<String> {
    let parent = std::fs::canonicalize(path.parent()?).ok()?;
    parent.join(path.file_name()?).to_str().map(str::to_owned)
}

fn tar_of(files: &[String], to: &Path) -> Result<()> {
    let mut tar = Command::new("tar")
        .args(["--no-recursion", "--warning=no-file-changed", "-C", "/", "-T", "-", "-cPf"])
        .arg(to)
        .args(["--transform", "s,^/,,"])
        .stdin(Stdio::piped())
        .spawn()
        .context("tar")?;
    let mut input = tar.stdin.take().context("tar's standard input")?;
    input.write_all(files.join("\n").as_bytes())?;
    drop(input);
    anyhow::ensure!(tar.wait()?.success(), "tar failed");
    Ok(())
}

/// Tables and bars.
pub(super) fn run(subjects: &[Subject], lab: &Lab, tars: &Tars, wanted: &Wanted, report: &mut Report) {
    let rounds = wanted.rounds.min(3);
    for (what, tar) in [("gzip", &tars.gzip), ("zstd", &tars.zstd)] {
        let mut rows: Vec<Measured> = subjects.iter().map(|subject| Measured::new(&subject.name)).collect();
        for _ in 0..rounds {
            for (row, subject) in rows.iter_mut().zip(subjects) {
                record(row, subject, |api| {
                    let engine = subject.engine.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))?;
                    let client = lab.docker_client(&format!("unix://{}", engine.socket().display()));
                    let start = Instant::now();
                    client.time(&["import", &tar.to_string_lossy(), "debian"])?;
                    let elapsed = start.elapsed();
                    api.call("DELETE", "/images/debian", "")?;
                    shell::run(&mut Command::new("sync"))?;
                    Ok(elapsed)
                });
            }
        }
        let peer = subject::peer(subjects);
        report.table(&format!("import of 170 MB of Debian, {what}; ratio: to dockerd"), &rows, peer);
        if what == "zstd" {
            let base = peer.and_then(|peer| rows.get(peer)?.median());
            for (row, _) in rows.iter().zip(subjects).filter(|(_, s)| s.is_ours && !s.copies) {
                let ratio = row.median().zip(base).map(|(ours, base)| base / ours);
                report.at_least(&format!("import, zstd, {}", row.what), ratio, 3.0, "x faster");
            }
        }
    }
    for subject in subjects.iter().filter(|subject| subject.is_reflink) {
        if let Err(error) = store_alone(subject, tars, wanted, report) {
            println!("\nthe store alone: not measured: {error:#}");
        }
    }
}

/// A program that is built already, as `SEACOW_DIST` has for the engine's.
const BUILT: &str = "SEACOW_STORE_BENCH";

/// Has the store's own benchmark built, so that it need not be while something is timed.
pub(super) fn build_store_benchmark() -> Result<()> {
    match std::env::var_os(BUILT) {
        Some(_) => Ok(()),
        None => shell::run(store_benchmark().arg("--no-run")),
    }
}

fn store_benchmark() -> Command {
    if let Some(program) = std::env::var_os(BUILT) {
        return Command::new(program);
    }
    let mut cargo = shell::cargo();
    cargo.args(["bench", "-q", "--locked", "-p", "seacow-store", "--bench", "layers"]);
    cargo
}

/// In one process, on the file system of the store file.
fn store_alone(subject: &Subject, tars: &Tars, wanted: &Wanted, report: &mut Report) -> Result<()> {
    let root = subject.data_root.as_ref().context("its data root is not known")?;
    let size = (wanted.size << 20).to_string();
    let mut benchmark = store_benchmark();
    if std::env::var_os(BUILT).is_none() {
        benchmark.arg("--");
    }
    benchmark.arg(root.join("store")).arg(&size).args([&tars.gzip, &tars.zstd]);
    let said = shell::output(&mut benchmark)?;
    println!("\nthe store alone, on {}", subject.name);
    print!("{said}");
    let value = |key: &str| -> Option<f64> {
        said.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
    };
    let ratio = value("apply gz:").zip(value("inflate gz:")).map(|(apply, inflate)| apply / inflate);
    report.at_most("layer apply, gzip", ratio, 1.3, "x of inflating alone");
    report.at_most("100 snapshots prepared", value("100 snapshots:"), 25.0, "ms");
    report.at_most("100 snapshots on the disk", value("100 snapshots, MB:"), 1.0, "MB");
    Ok(())
}
