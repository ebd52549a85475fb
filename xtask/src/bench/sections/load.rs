//! `run --rm IMAGE true` by 8 clients at once.

use std::time::Duration;

use anyhow::Result;

use crate::bench::image::NAME;
use crate::bench::lab::Lab;
use crate::bench::options::Options;
use crate::bench::report::Report;
use crate::bench::sampler::IN_FLIGHT;

/// Prints the rates and judges the bar. Peers take turns, each for as long as ours.
pub(crate) fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let duration = Duration::from_secs(options.load);
    let run = ["run", "--rm", NAME, "true"];
    let none = ["run", "--rm", "--network=none", NAME, "true"];
    let (warm, cold) = (lab.seacow()?, lab.cold()?);
    let docker = lab.docker().map(|docker| &docker.client);
    let podman = lab.podman();
    println!("\nrun --rm IMAGE true, {IN_FLIGHT} in flight, {} s each", duration.as_secs());
    println!("{:<46} {:>8}", "runs/s", "");
    let ours = line("seacow, bridge", Ok(warm.client.load(&run, duration)));
    line("seacow, none", Ok(warm.client.load(&none, duration)));
    line("seacow, empty pool, bridge", Ok(cold.client.load(&run, duration)));
    line("stock docker CLI on seacow, bridge", Ok(warm.docker.load(&run, duration)));
    line("docker, bridge", docker.map(|docker| docker.load(&run, duration)));
    line(
        "podman, bridge",
        podman.map(|podman| {
            let parent = podman.parent();
            podman.client.load(&podman.run_true(&["--network=podman"], &parent), duration)
        }),
    );
    report.at_least("run --rm, bridge, 8 in flight", ours, 200.0, "runs/s");
    Ok(())
}

fn line(what: &str, rate: Result<Result<f64>, String>) -> Option<f64> {
    match rate.and_then(|rate| rate.map_err(|error| format!("{error:#}"))) {
        Ok(rate) => {
            println!("{what:<46} {rate:>8.1}");
            Some(rate)
        }
        Err(reason) => {
            println!("{what:<46} not measured: {reason}");
            None
        }
    }
}
