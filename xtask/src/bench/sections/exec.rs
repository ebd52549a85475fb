//! `exec C true` in a running container.

use anyhow::Result;

use crate::bench::image::NAME;
use crate::bench::lab::Lab;
use crate::bench::options::Options;
use crate::bench::peers::Client;
use crate::bench::report::Report;
use crate::bench::stats::{Row, interleave, measured};

/// Its name with every engine.
const CONTAINER: &str = "bench-exec";
const OURS: usize = 0;
const DOCKER: usize = 2;

/// Prints the table and judges the bar.
pub(crate) fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let ours = lab.seacow()?;
    let container = Container::start(&ours.client, &[])?;
    let docker = lab.docker().and_then(|docker| started(&docker.client, &[]));
    let podman = lab.podman().and_then(|podman| {
        let parent = podman.parent();
        started(&podman.client, &["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", &parent])
    });
    let mut rows = vec![
        Row::new("seacow", || container.exec(&ours.client)),
        Row::new("stock docker CLI on seacow", || container.exec(&ours.docker)),
        row("docker", &docker),
        row("podman", &podman),
    ];
    interleave(&mut rows, options.rounds);
    report.table("exec C true, each after a pause; ratio: to dockerd", &measured(&rows), Some(DOCKER));
    report.at_most("exec C true", rows[OURS].median(), 3.0, "ms");
    Ok(())
}

fn row<'a>(what: &str, container: &'a Result<Container<'a>, String>) -> Row<'a> {
    match container {
        Ok(container) => Row::new(what, || container.exec(container.client)),
        Err(reason) => Row::absent(what, reason.clone()),
    }
}

fn started<'a>(client: &'a Client, options: &[&str]) -> Result<Container<'a>, String> {
    Container::start(client, options).map_err(|error| format!("{error:#}"))
}

/// A container that sleeps until it is dropped.
struct Container<'a> {
    client: &'a Client,
}

impl<'a> Container<'a> {
    fn start(client: &'a Client, options: &[&str]) -> Result<Self> {
        let program = [NAME, "sleep", "1000000"];
        client.time(&[&["run", "--detach", "--name", CONTAINER], options, &program].concat())?;
        Ok(Self { client })
    }

    fn exec(&self, client: &Client) -> Result<std::time::Duration> {
        client.time(&["exec", CONTAINER, "true"])
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.client.time(&["rm", "--force", CONTAINER]) {
            eprintln!("xtask: remove {CONTAINER}: {error:#}");
        }
    }
}
