//! `cargo xtask bench storage`: what the first change of a large file costs, and commits, clones and
//! snapshots, by driver, beside dockerd.
//!
//! All engines have the same image with one large file and are measured in turns. A change is made
//! through `/proc/<pid>/root` of a container, by the very system calls that are timed: no client, no
//! program in the container is in the figures.

mod image;
mod moments;
mod subject;

use std::fs::{File, Permissions};
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
  --only PART   changes (first changes of the file, many containers) or moments (commits, clones, snapshots)";

/// Containers whose creation is timed together.
const MANY: usize = 100;
/// What is written first.
const BLOCK: usize = 4096;

struct Wanted {
    rounds: usize,
    size: u64,
    changes: bool,
    moments: bool,
}

impl Wanted {
    fn parse(args: &[String]) -> Result<Self> {
        let mut wanted = Self { rounds: 5, size: 1024, changes: true, moments: true };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let text = words.next().map_or("", String::as_str);
            let value = text.parse::<u64>().ok().filter(|value| *value > 0);
            let value = value.with_context(|| format!("{word} wants a number above 0\n\n{USAGE}"));
            match word.as_str() {
                "--rounds" => wanted.rounds = usize::try_from(value?)?,
                "--size" => wanted.size = value?,
                "--only" if text == "changes" => wanted.moments = false,
                "--only" if text == "moments" => wanted.changes = false,
                _ => bail!("unknown option {word:?}\n\n{USAGE}"),
            }
        }
        Ok(wanted)
    }
}

/// Runs it all and prints tables and bars.
pub(super) fn run(args: &[String]) -> Result<()> {
    let wanted = Wanted::parse(args)?;
    let dist = build::given_or_dist()?;
    shell::become_root()?;
    packages::ensure(&["btrfs-progs", "busybox-static", "iptables", "procps", "xfsprogs"], "the benchmark")?;
    let mut lab = Lab::new(dist, &Options::parse(&[])?)?;
    // Moments are of what containers write themselves.
    let size = if wanted.changes { wanted.size } else { 1 };
    lab.image.tar = image::with_file(&lab.image, size << 20)?;
    let mut report = Report::default();
    report.print_machine(&super::disk::describe()?);
    let subjects = subject::all(&lab);
    std::fs::remove_file(&lab.image.tar).context("remove the image's tar")?;
    if wanted.changes {
        first_changes(&subjects, &wanted, &mut report);
        many(&subjects, &wanted, &mut report);
    }
    if wanted.moments {
        moments::run(&subjects, wanted.rounds.min(3), wanted.size, &mut report);
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
        let file = format!("/proc/{}/root/{}", api.pid(&id)?, image::FILE);
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
