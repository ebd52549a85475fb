//! `cargo xtask bench start`: what a container's start, life and end cost, beside the peers.
//!
//! Everything that is compared is measured in one run and interleaved, so that a noisy moment hits
//! everybody. Isolated starts come after a [pause](stats::PAUSE): back-to-back loops hide what a start
//! after a silence pays (RCU grace periods, cold caches). Nothing in here is a test; it prints medians,
//! ratios and, for every bar that the project has set itself, whether it was reached.
//!
//! | module | what |
//! |---|---|
//! | [`options`] | command line |
//! | [`lab`] | the engines under measurement, started when a section needs them |
//! | [`peers`] | seacowd, dockerd, podman, bare runtimes |
//! | [`disk`] | the file systems that they work on |
//! | [`sections`] | one file per thing that is measured |
//! | [`sampler`] | runs and times command lines, here or inside a peer's namespaces |
//! | [`http`], [`api`] | the engines' API, without a client program |
//! | [`stats`], [`report`] | samples, tables, bars |
//! | [`fork`] | `bench fork`, of which there are no peers |
//! | [`builds`] | `bench build`: many steps, nothing new |
//! | [`transfer`] | `bench image`: pull and push |
//! | [`storage`] | `bench storage`, with engines of its own |
//! | [`memory`], [`traces`] | what containers occupy, and what is left of them |
//! | [`trace`] | the engine's own marks on the start path |

mod api;
mod builds;
mod disk;
mod fork;
mod http;
mod image;
mod lab;
mod memory;
mod options;
mod peers;
mod report;
mod sampler;
mod sections;
mod stats;
mod storage;
mod trace;
mod traces;
mod transfer;

use anyhow::{Context, Result, bail};

use crate::{build, packages, shell};
use lab::Lab;
use options::Options;
use report::Report;

/// Runs the named benchmark.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("start") => start(&Options::parse(rest)?, rest),
        Some(sampler::COMMAND) => sampler::serve(),
        Some("fork") => fork::run(rest),
        Some("build") => builds::run(rest),
        Some("image") => transfer::run(rest),
        Some("storage") => storage::run(rest),
        Some("vm") => crate::vm::bench(vm_rounds(rest)?),
        Some(other) => {
            bail!("unknown benchmark {other:?}; there are: build, fork, image, start, storage, vm")
        }
        None => bail!("which benchmark? there are: build, fork, image, start, storage, vm"),
    }
}

/// Emulated, a start by dockerd takes seconds.
const VM_ROUNDS: usize = 9;

fn vm_rounds(args: &[String]) -> Result<usize> {
    let Some(text) = args.first() else { return Ok(VM_ROUNDS) };
    text.parse().with_context(|| format!("rounds: {text:?} is not a number"))
}

fn start(options: &Options, words: &[String]) -> Result<()> {
    let dist = build::given_or_dist()?;
    shell::become_root()?;
    if !disk::is_fresh() {
        packages::ensure(&["busybox-static", "e2fsprogs", "iptables", "procps"], "the benchmark")?;
        if options.fresh_disk {
            return disk::run_on_fresh("start", words);
        }
    }
    let lab = Lab::new(dist, options)?;
    if options.trace {
        return trace::print(&lab, options);
    }
    let mut report = Report::default();
    report.print_machine(&disk::describe()?);
    for section in &options.sections {
        (section.measure)(&lab, options, &mut report)?;
    }
    report.print_bars();
    Ok(())
}
