//! `cargo xtask bench build`: many small steps, and a build of which nothing is new, by our client, by the stock
//! one on our engine (the classic builder's protocol), and by it on dockerd.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::lab::Lab;
use super::options::Options;
use super::peers::Client;
use super::report::Report;
use super::stats::Measured;
use crate::{build, packages, shell};

const USAGE: &str = "Usage: cargo xtask bench build [--rounds N]    (default 3)";
/// Steps of the build that runs all of them.
const STEPS: usize = 58;
/// Files of the large context, and bytes of each.
const FILES: usize = 200;
const FILE: usize = 1 << 20;

/// Runs it all and prints tables and bars.
pub(super) fn run(args: &[String]) -> Result<()> {
    let rounds: usize = match args {
        [] => 3,
        [flag, number] if flag == "--rounds" => number.parse().context(USAGE)?,
        _ => bail!(USAGE),
    };
    let dist = build::given_or_dist()?;
    shell::become_root()?;
    packages::ensure(&["busybox-static", "iptables", "procps", "util-linux"], "the benchmark")?;
    let lab = Lab::new(dist, &Options::parse(&[])?)?;
    let dir = shell::target().join("bench-build");
    let mut report = Report::default();
    report.print_machine(&super::disk::describe()?);
    let outcome = measure(&lab, &dir, rounds, &mut report);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).context("remove the contexts")?;
    }
    outcome?;
    report.print_bars();
    Ok(())
}

fn measure(lab: &Lab, dir: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    let (small, large) = (small(dir)?, large(dir)?);
    let ours = lab.seacow()?;
    let mut subjects: Vec<(&str, &Client)> =
        vec![("seacow build", &ours.client), ("docker build, on seacow", &ours.docker)];
    match lab.docker() {
        Ok(docker) => subjects.push(("docker build, on dockerd", &docker.client)),
        Err(reason) => println!("dockerd is not measured: {reason}"),
    }
    let peer = (subjects.len() > 2).then_some(2);

    let rows = turns(&subjects, rounds, &["build", "-q", "--no-cache", &small]);
    report.table(&format!("{STEPS} RUN steps; ratio: to dockerd"), &rows, peer);
    let millis = |row: usize, rows: &[Measured]| rows.get(row).and_then(Measured::median);
    report.at_most(&format!("{STEPS} RUN steps"), millis(0, &rows), 1000.0, "ms");

    for (_, client) in &subjects {
        client.time(&["build", "-q", &large])?;
    }
    let rows = turns(&subjects, rounds, &["build", "-q", &large]);
    let title =
        format!("nothing new: 20 steps, {} MB of context; ratio: to dockerd", FILES * FILE / 1_000_000);
    report.table(&title, &rows, peer);
    report.at_most("nothing new, seacow build", millis(0, &rows), 60.0, "ms");
    let ratio = peer.and_then(|peer| Some(millis(peer, &rows)? / millis(1, &rows)?));
    report.at_least("nothing new, the stock client", ratio, 1.0, "x dockerd");
    Ok(())
}

/// The subjects take turns.
fn turns(subjects: &[(&str, &Client)], rounds: usize, words: &[&str]) -> Vec<Measured> {
    let mut rows: Vec<Measured> = subjects.iter().map(|(name, _)| Measured::new(*name)).collect();
    for _ in 0..rounds {
        for (row, (_, client)) in rows.iter_mut().zip(subjects) {
            match (client.time(words), &mut row.samples) {
                (Ok(time), Ok(samples)) => samples.push(time),
                (Ok(_), Err(_)) => {}
                (Err(error), samples) => *samples = Err(format!("{error:#}")),
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }
    rows
}

fn small(dir: &Path) -> Result<String> {
    let mut text = format!("FROM {}\n", super::image::NAME);
    for step in 0..STEPS {
        text.push_str(&format!("RUN echo {step} > /step{step}\n"));
    }
    context(&dir.join("small"), &text)
}

fn large(dir: &Path) -> Result<String> {
    let mut text = format!("FROM {}\nWORKDIR /src\nCOPY . /src\n", super::image::NAME);
    for step in 0..17 {
        text.push_str(&format!("RUN echo {step} > /step{step}\n"));
    }
    let context = dir.join("large");
    let path = self::context(&context, &text)?;
    for number in 0..FILES {
        let mut file = std::fs::File::create(context.join(format!("file{number}")))?;
        // No two blocks are the same.
        let mut state = number as u64 + 1;
        let mut block = Vec::with_capacity(FILE);
        while block.len() < FILE {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(path)
}

fn context(dir: &Path, dockerfile: &str) -> Result<String> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    std::fs::write(dir.join("Dockerfile"), dockerfile)?;
    Ok(dir.display().to_string())
}
