//! `cargo xtask bench image`: pull and push of a one-layer Debian image, beside dockerd, each from and to a registry of
//! its own (Debian's docker-registry, with its files on the same disk).
//!
//! The engines take turns. Before each pull the image is removed; before each push the registry is emptied, and
//! so is what ours keeps of packed layers: every push packs.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::lab::Lab;
use super::options::Options;
use super::peers::{Client, Engine as _};
use super::report::Report;
use super::stats::Measured;
use super::storage::layers;
use crate::{build, packages, shell};

const USAGE: &str = "Usage: cargo xtask bench image [--rounds N]    (default 3)";
/// Where both registries listen: dockerd has a loopback of its own.
const HOST: &str = "127.0.0.1:5899";
const IMAGE: &str = "127.0.0.1:5899/debian:1";

/// Runs it all and prints tables and bars.
pub(super) fn run(args: &[String]) -> Result<()> {
    let rounds: usize = match args {
        [] => 3,
        [flag, number] if flag == "--rounds" => number.parse().context(USAGE)?,
        _ => bail!(USAGE),
    };
    let dist = build::given_or_dist()?;
    shell::become_root()?;
    packages::ensure(&["busybox-static", "gzip", "iptables", "procps", "util-linux"], "the benchmark")?;
    let lab = Lab::new(dist, &Options::parse(&[])?)?;
    let tar = shell::target().join("bench-debian.tar");
    layers::debian(&tar)?;
    let mut report = Report::default();
    report.print_machine(&super::disk::describe()?);
    let outcome = measure(&lab, &tar, rounds, &mut report);
    std::fs::remove_file(&tar).context("remove the tar")?;
    outcome?;
    report.print_bars();
    Ok(())
}

/// An engine with its registry.
struct Subject<'a> {
    name: &'static str,
    client: &'a Client,
    registry: Registry,
    /// What it keeps of packed layers.
    kept: Option<PathBuf>,
}

fn measure(lab: &Lab, tar: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    let program = packages::unpack("registry", &["docker-registry"])?.join("usr/bin/docker-registry");
    let ours = lab.seacow()?;
    let kept = ours.data_root().join("blobs");
    let registry = Registry::start(&program, "ours", None)?;
    let mut subjects = vec![Subject { name: "seacow", client: &ours.client, registry, kept: Some(kept) }];
    match lab.docker() {
        Ok(docker) => {
            let registry = Registry::start(&program, "theirs", Some(docker.pid()))?;
            subjects.push(Subject { name: "dockerd", client: &docker.client, registry, kept: None });
        }
        Err(reason) => println!("dockerd is not measured: {reason}"),
    }
    let text = tar.to_string_lossy();
    for subject in &subjects {
        subject.client.time(&["import", &text, IMAGE])?;
    }
    println!("\nimage: {} MB of tar", std::fs::metadata(tar)?.len() / 1_000_000);
    push(&mut subjects, rounds, report)?;
    pull(&mut subjects, tar, rounds, report)
}

fn push(subjects: &mut [Subject<'_>], rounds: usize, report: &mut Report) -> Result<()> {
    let ways: [(&str, &[&str]); 3] = [
        ("gzip -6", &[]),
        ("gzip -1", &["--compression", "gzip:1"]),
        ("zstd -3", &["--compression", "zstd"]),
    ];
    let mut rows = Vec::new();
    for subject in subjects.iter() {
        let own = if subject.kept.is_some() { &ways[..] } else { &ways[..1] };
        rows.extend(
            own.iter().map(|(what, words)| {
                (subject.name, *words, Measured::new(format!("{}, {what}", subject.name)))
            }),
        );
    }
    for _ in 0..rounds {
        for (name, words, row) in &mut rows {
            let subject = subjects.iter_mut().find(|subject| subject.name == *name).context("a subject")?;
            subject.forget()?;
            let time = subject.client.time(&[&["push", "-q"], *words, &[IMAGE]].concat());
            note(row, time);
        }
    }
    let rows: Vec<Measured> = rows.into_iter().map(|(_, _, row)| row).collect();
    let peer = rows.iter().position(|row| row.what.starts_with("dockerd"));
    report.table("push; ratio: to dockerd", &rows, peer);
    let theirs = peer.and_then(|peer| rows.get(peer)?.median());
    let ratio =
        |row: usize| theirs.zip(rows.get(row).and_then(Measured::median)).map(|(theirs, ours)| theirs / ours);
    report.at_least("push, the same level", ratio(0), 2.0, "x dockerd");
    report.at_least("push, zstd", ratio(2), 4.0, "x dockerd");
    Ok(())
}

fn pull(subjects: &mut [Subject<'_>], tar: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    let packed = tar.with_extension("tar.gz");
    shell::run(Command::new("gzip").args(["-6", "-k", "-f"]).arg(tar))?;
    let mut inflate = Measured::new("inflating alone");
    let mut rows: Vec<Measured> = subjects.iter().map(|subject| Measured::new(subject.name)).collect();
    let mut again: Vec<Measured> =
        subjects.iter().map(|subject| Measured::new(format!("{}, nothing new", subject.name))).collect();
    for subject in subjects.iter_mut() {
        subject.forget()?;
        subject.client.time(&["push", "-q", IMAGE])?;
    }
    for _ in 0..rounds {
        note(&mut inflate, inflated(&packed));
        for ((row, again), subject) in rows.iter_mut().zip(&mut again).zip(subjects.iter()) {
            subject.client.time(&["rmi", "-f", IMAGE])?;
            note(row, subject.client.time(&["pull", "-q", IMAGE]));
            note(again, subject.client.time(&["pull", "-q", IMAGE]));
        }
    }
    std::fs::remove_file(&packed).context("remove the packed tar")?;
    rows.push(inflate);
    report.table("pull; ratio: to dockerd", &rows, Some(1));
    report.table("pull of what is here", &again, Some(1));
    let ours = rows.first().and_then(Measured::median);
    let ratio = |row: usize| rows.get(row).and_then(Measured::median).zip(ours);
    let theirs = (subjects.len() > 1).then(|| ratio(1)).flatten().map(|(theirs, ours)| theirs / ours);
    report.at_least("pull", theirs, 3.0, "x dockerd");
    report.at_most(
        "pull",
        ratio(rows.len() - 1).map(|(inflate, ours)| ours / inflate),
        1.5,
        "x of inflating alone",
    );
    report.at_most("pull, nothing new", again.first().and_then(Measured::median), 10.0, "ms");
    Ok(())
}

fn note(row: &mut Measured, time: Result<Duration>) {
    match (&mut row.samples, time) {
        (Ok(samples), Ok(time)) => samples.push(time),
        (samples @ Ok(_), Err(error)) => *samples = Err(format!("{error:#}")),
        (Err(_), _) => {}
    }
}

/// What nobody can be faster than: one thread that unpacks and throws away.
fn inflated(packed: &Path) -> Result<Duration> {
    if cfg!(debug_assertions) {
        bail!("that takes an optimised program: cargo run --release -p xtask -- bench image");
    }
    let start = Instant::now();
    let file = BufReader::with_capacity(128 << 10, File::open(packed)?);
    io::copy(&mut flate2::bufread::GzDecoder::new(file), &mut io::sink())?;
    Ok(start.elapsed())
}

impl Subject<'_> {
    /// Empties the registry, and takes away what is kept of packed layers.
    fn forget(&mut self) -> Result<()> {
        self.registry.empty()?;
        for entry in self.kept.iter().filter_map(|kept| std::fs::read_dir(kept).ok()).flatten() {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

/// Debian's docker-registry; stopped and removed when dropped.
struct Registry {
    program: PathBuf,
    dir: PathBuf,
    /// In whose network it is, if not in ours.
    network_of: Option<u32>,
    child: Child,
}

impl Registry {
    fn start(program: &Path, name: &str, network_of: Option<u32>) -> Result<Self> {
        let dir = PathBuf::from(format!("/var/lib/seacow-bench-registry-{name}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {HOST}}}\n",
            dir.join("data").display()
        );
        std::fs::write(dir.join("config.yml"), config)?;
        let child = spawn(program, &dir, network_of)?;
        Ok(Self { program: program.to_owned(), dir, network_of, child })
    }

    fn empty(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        std::fs::remove_dir_all(self.dir.join("data")).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        self.child = spawn(&self.program, &self.dir, self.network_of)?;
        Ok(())
    }
}

fn spawn(program: &Path, dir: &Path, network_of: Option<u32>) -> Result<Child> {
    let within = |program: &str| match network_of {
        None => Command::new(program),
        Some(pid) => {
            let mut enter = Command::new("nsenter");
            enter.args(["--net", "--target", &pid.to_string(), program]);
            enter
        }
    };
    let mut serve = within(&program.display().to_string());
    serve.arg("serve").arg(dir.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    let child = serve.spawn().context("start docker-registry")?;
    let start = Instant::now();
    let asked = format!("http://{HOST}/v2/");
    while shell::output(within("curl").args(["-sf", &asked])).is_err() {
        anyhow::ensure!(start.elapsed() < Duration::from_secs(20), "docker-registry does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("xtask: remove {}: {error}", self.dir.display());
        }
    }
}
