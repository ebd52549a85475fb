//! `cargo xtask bench storage`: what the first change of a large file costs, reading, layers, and commits,
//! clones and snapshots, by driver, beside dockerd.
//!
//! All engines have the same image with one large file and are measured in turns. A change is made
//! through `/proc/<pid>/root` of a container, by the very system calls that are timed: no client, no
//! program in the container is in the figures.

mod huge;
mod image;
pub(super) mod layers;
mod moments;
mod reads;
mod subject;

use std::fs::{File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::api::Api;
use super::image::NAME;
use super::lab::Lab;
use super::options::Options;
use super::report::Report;
use super::stats::Measured;
use crate::{build, packages, shell};
use subject::Subject;

const USAGE: &str = "Usage: cargo xtask bench storage [options]

  --rounds N    rounds of each measurement (default 5)
  --size MIB    size of the file that is changed (default 1024)
  --only PART   may be repeated:
                changes   first write into the file, chmod, the whole of it written anew, many containers
                huge      first write into a file of 10 GiB, where extents are shared
                reads     reading and opening, beside the bare file
                layers    a Debian tar unpacked, 100 snapshots
                moments   commits, clones, snapshots";

/// Containers whose creation is timed together.
const MANY: usize = 100;
/// What is written first.
const BLOCK: usize = 4096;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Changes,
    Huge,
    Reads,
    Layers,
    Moments,
}

const PARTS: [(&str, Part); 5] = [
    ("changes", Part::Changes),
    ("huge", Part::Huge),
    ("reads", Part::Reads),
    ("layers", Part::Layers),
    ("moments", Part::Moments),
];

struct Wanted {
    rounds: usize,
    size: u64,
    /// All if empty.
    parts: Vec<Part>,
}

impl Wanted {
    fn parse(args: &[String]) -> Result<Self> {
        let mut wanted = Self { rounds: 5, size: 1024, parts: Vec::new() };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let text = words.next().map_or("", String::as_str);
            let value = text.parse::<u64>().ok().filter(|value| *value > 0);
            let value = value.with_context(|| format!("{word} wants a number above 0\n\n{USAGE}"));
            match word.as_str() {
                "--rounds" => wanted.rounds = usize::try_from(value?)?,
                "--size" => wanted.size = value?,
                "--only" => {
                    let part = PARTS.iter().find(|(name, _)| *name == text);
                    wanted.parts.push(part.with_context(|| format!("unknown part {text:?}\n\n{USAGE}"))?.1);
                }
                _ => bail!("unknown option {word:?}\n\n{USAGE}"),
            }
        }
        Ok(wanted)
    }

    fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// Runs it all and prints tables and bars.
pub(super) fn run(args: &[String]) -> Result<()> {
    let wanted = Wanted::parse(args)?;
    let dist = build::given_or_dist()?;
    shell::become_root()?;
    packages::ensure(
        &["btrfs-progs", "busybox-static", "iptables", "procps", "xfsprogs", "zstd"],
        "the benchmark",
    )?;
    let mut lab = Lab::new(dist, &Options::parse(&[])?)?;
    let tars = wanted.has(Part::Layers).then(layers::Tars::make).transpose()?;
    if wanted.has(Part::Layers) {
        layers::build_store_benchmark()?;
    }
    // Moments are of what containers write themselves.
    let size = if wanted.has(Part::Changes) || wanted.has(Part::Reads) { wanted.size } else { 1 };
    lab.image.tar = image::with_file(&lab.image, size << 20)?;
    let mut report = Report::default();
    report.print_machine(&super::disk::describe()?);
    let subjects = subject::all(&lab);
    std::fs::remove_file(&lab.image.tar).context("remove the image's tar")?;
    if wanted.has(Part::Changes) {
        first_changes(&subjects, &wanted, &mut report);
        rewritten(&subjects, &wanted, &mut report);
        many(&subjects, &wanted, &mut report);
    }
    if wanted.has(Part::Reads) {
        reads::run(&subjects, wanted.rounds.min(3), &mut report);
    }
    if wanted.has(Part::Moments) {
        moments::run(&subjects, wanted.rounds.min(3), wanted.size, &mut report);
    }
    if let Some(tars) = &tars {
        layers::run(&subjects, &lab, tars, &wanted, &mut report);
    }
    if wanted.has(Part::Huge) {
        huge::run(&subjects, wanted.rounds, &mut report);
    }
    report.print_bars();
    Ok(())
}

/// The first write into the file, and a change of its mode, each in a container of its own.
fn first_changes(subjects: &[Subject], wanted: &Wanted, report: &mut Report) {
    let middle = (wanted.size << 20) / 2;
    let write = |file: &Path| write_block(file, middle);
    let title = format!("first {BLOCK} bytes written into a file of {} MiB; ratio: to dockerd", wanted.size);
    let written = in_turns(subjects, wanted.rounds, &write);
    report.table(&title, &written, subject::peer(subjects));
    let changed = in_turns(subjects, wanted.rounds, &change_mode);
    report.table("chmod of it; ratio: to dockerd", &changed, subject::peer(subjects));
    for (row, subject) in subjects.iter().enumerate() {
        let median = |rows: &[Measured]| rows.get(row).and_then(Measured::median);
        if subject.shares_extents {
            report.at_most(&format!("first write, {}", subject.name), median(&written), 0.1, "ms");
        }
        if subject.is_ours && !subject.copies {
            report.at_most(&format!("chmod, {}", subject.name), median(&changed), 0.1, "ms");
        }
    }
}

/// The worst case of copy-on-write: the whole file written anew, beside a new file of the same size in the
/// same container.
fn rewritten(subjects: &[Subject], wanted: &Wanted, report: &mut Report) {
    let mut rows: Vec<Measured> = Vec::new();
    for subject in subjects {
        rows.push(Measured::new(&subject.name));
        rows.push(Measured::new(format!("  a new file ({})", subject.name)));
    }
    // Once for nothing: what a disk's file takes from the host's for the first time is dearer than later.
    for round in 0..=wanted.rounds.min(3) {
        for (pair, subject) in rows.chunks_mut(2).zip(subjects).filter(|(_, subject)| !subject.copies) {
            let mut unrecorded = [Measured::new(""), Measured::new("")];
            let pair = if round == 0 { &mut unrecorded } else { pair };
            if let [again, new] = pair {
                record(again, subject, |api| in_container(api, &|file| write_whole(file, wanted.size)));
                let beside = |file: &Path| write_whole(&file.with_file_name("new"), wanted.size);
                record(new, subject, |api| in_container(api, &beside));
            }
        }
    }
    report.table(&format!("{} MiB of the image's file written anew, to the disk", wanted.size), &rows, None);
    for (pair, subject) in rows.chunks(2).zip(subjects).filter(|(_, subject)| subject.shares_extents) {
        if let [again, new] = pair {
            let ratio = again.median().zip(new.median()).map(|(again, new)| again / new);
            report.at_most(&format!("written anew, {}", subject.name), ratio, 1.1, "x of a new file");
        }
    }
}

fn write_whole(file: &Path, mib: u64) -> Result<Duration> {
    let mut block = vec![0x3c; 1 << 20];
    let start = Instant::now();
    let opened = File::options().write(true).create(true).truncate(false).open(file)?;
    for number in 0..mib {
        block[..8].copy_from_slice(&number.to_le_bytes());
        opened.write_all_at(&block, number << 20)?;
    }
    opened.sync_all()?;
    Ok(start.elapsed())
}

/// Hundred containers created and removed again, by the API.
fn many(subjects: &[Subject], wanted: &Wanted, report: &mut Report) {
    let mut rows: Vec<Measured> = subjects.iter().map(|subject| Measured::new(&subject.name)).collect();
    for _ in 0..wanted.rounds.min(3) {
        for (row, subject) in rows.iter_mut().zip(subjects) {
            if subject.copies {
                row.samples = Err("each would be a whole copy".into());
                continue;
            }
            record(row, subject, create_many);
        }
    }
    let title = format!("{MANY} containers of it created by the API, one after the other; ratio: to dockerd");
    report.table(&title, &rows, subject::peer(subjects));
}

fn in_turns(subjects: &[Subject], rounds: usize, act: &dyn Fn(&Path) -> Result<Duration>) -> Vec<Measured> {
    let mut rows: Vec<Measured> = subjects.iter().map(|subject| Measured::new(&subject.name)).collect();
    for _ in 0..rounds {
        for (row, subject) in rows.iter_mut().zip(subjects) {
            record(row, subject, |api| in_container(api, act));
        }
    }
    rows
}

/// One more sample, or why there are none.
fn record(row: &mut Measured, subject: &Subject, measure: impl FnOnce(&mut Api) -> Result<Duration>) {
    let Ok(samples) = &mut row.samples else { return };
    let measured = subject.engine.as_ref().map_err(Clone::clone).and_then(|engine| {
        Api::open(engine.socket()).and_then(|mut api| measure(&mut api)).map_err(|error| format!("{error:#}"))
    });
    match measured {
        Ok(time) => samples.push(time),
        Err(reason) => row.samples = Err(reason),
    }
}

/// Starts a container, has its file changed, removes it.
fn in_container(api: &mut Api, act: &dyn Fn(&Path) -> Result<Duration>) -> Result<Duration> {
    let (id, _) = api.create(NAME, "none")?;
    let changed = api.start(&id).and_then(|_| {
        // The container's root, entered once: the look-up through /proc is not in the figures.
        let root = File::open(format!("/proc/{}/root", api.pid(&id)?))?;
        let file = format!("/proc/self/fd/{}/{}", root.as_raw_fd(), image::FILE);
        // Known to the kernel, as after an `ls`.
        std::fs::metadata(&file)?;
        act(Path::new(&file))
    });
    api.remove(&id)?;
    // What others have not written yet must not be in the next figure.
    shell::run(&mut Command::new("sync"))?;
    changed
}

fn write_block(file: &Path, at: u64) -> Result<Duration> {
    let start = Instant::now();
    let opened = File::options().write(true).open(file)?;
    opened.write_all_at(&[7; BLOCK], at)?;
    drop(opened);
    Ok(start.elapsed())
}

fn change_mode(file: &Path) -> Result<Duration> {
    let start = Instant::now();
    std::fs::set_permissions(file, Permissions::from_mode(0o600))?;
    Ok(start.elapsed())
}

fn create_many(api: &mut Api) -> Result<Duration> {
    let start = Instant::now();
    let ids: Result<Vec<String>> = (0..MANY).map(|_| Ok(api.create(NAME, "none")?.0)).collect();
    let elapsed = start.elapsed();
    api.remove_all()?;
    ids.map(|_| elapsed)
}
