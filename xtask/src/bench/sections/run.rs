//! `run --rm IMAGE true`: each engine, with a bridge network and without, isolated.

use anyhow::Result;

use crate::bench::image::NAME;
use crate::bench::lab::Lab;
use crate::bench::options::Options;
use crate::bench::peers::Client;
use crate::bench::report::Report;
use crate::bench::stats::{Row, interleave, measured};

/// The stock client pays a floor of its own; this shows it.
const FLOOR: &str = "docker --version, the floor of its client";

/// Where the rows are.
const WARM: usize = 0;
const COLD: usize = 2;
const DOCKER_ON_SEACOW: usize = 4;
const DOCKER: usize = 5;

/// Prints the table and judges the bars.
pub(crate) fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let mut rows = rows(lab)?;
    rows.push(Row::new(FLOOR, move || Client::new(&lab.docker_cli, &[]).time(&["--version"])));
    interleave(&mut rows, options.rounds);
    let title = "run --rm IMAGE true, each after a pause; ratio: to dockerd with a bridge";
    report.table(title, &measured(&rows), Some(DOCKER));
    let docker = rows[DOCKER].median();
    report.time_or_ratio("run --rm, bridge, warm", (rows[WARM].median(), 3.0), (docker, 70.0));
    report.time_or_ratio("run --rm, bridge, empty pool", (rows[COLD].median(), 6.0), (docker, 35.0));
    let ratio = docker.zip(rows[DOCKER_ON_SEACOW].median()).map(|(theirs, ours)| theirs / ours);
    report.at_least("stock docker CLI on seacow, to dockerd", ratio, 12.0, "x");
    Ok(())
}

/// Our own rows first, then the peers'.
pub(crate) fn rows(lab: &Lab) -> Result<Vec<Row<'_>>> {
    let (warm, cold) = (lab.seacow()?, lab.cold()?);
    let own = |what: &str, client, network| row(what, Ok(client), network);
    let docker = || lab.docker().map(|docker| &docker.client);
    Ok(vec![
        own("seacow, bridge", &warm.client, &[]),
        own("seacow, none", &warm.client, &["--network=none"]),
        own("seacow, empty pool, bridge", &cold.client, &[]),
        own("seacow, empty pool, none", &cold.client, &["--network=none"]),
        own("stock docker CLI on seacow, bridge", &warm.docker, &[]),
        row("docker, bridge", docker(), &[]),
        row("docker, none", docker(), &["--network=none"]),
        podman_row(lab, "podman, bridge", &["--network=podman"]),
        podman_row(lab, "podman, none", &["--network=none"]),
        unlike_the_last(&warm.client),
    ])
}

/// A container that nobody could guess: it gets a prepared one that does not know its image yet.
fn unlike_the_last(client: &Client) -> Row<'_> {
    let count = std::cell::Cell::new(0);
    Row::new("seacow, bridge, unlike the last", move || {
        count.set(count.get() + 1);
        client.time(&["run", "--rm", "--hostname", &format!("host{}", count.get()), NAME, "true"])
    })
}

/// `run --rm` with these options through a client of Docker's command line.
fn row<'a>(what: &str, client: Result<&'a Client, String>, network: &'static [&'static str]) -> Row<'a> {
    match client {
        Ok(client) => {
            let args = [&["run", "--rm"], network, &[NAME, "true"]].concat();
            Row::new(what, move || client.time(&args))
        }
        Err(reason) => Row::absent(what, reason),
    }
}

fn podman_row<'a>(lab: &'a Lab, what: &str, network: &'static [&'static str]) -> Row<'a> {
    match lab.podman() {
        Ok(podman) => {
            let parent = podman.parent();
            Row::new(what, move || podman.client.time(&podman.run_true(network, &parent)))
        }
        Err(reason) => Row::absent(what, reason),
    }
}
