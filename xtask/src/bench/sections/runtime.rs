//! `run` of one bundle by our runtime and the others, as bare commands in the same kind of mount
//! namespace: one without the second cgroup tree of the hybrid layout, which crun refuses.

use anyhow::Result;

use crate::bench::lab::Lab;
use crate::bench::options::Options;
use crate::bench::peers::oci::Runtimes;
use crate::bench::report::Report;
use crate::bench::stats::{Row, interleave, measured};

/// Names the bundle, its cgroups and its containers.
const NAME: &str = "seacow-bench";
const OURS: usize = 0;
const CRUN: usize = 1;

/// Prints the table and judges the bar.
pub(crate) fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let runtimes = Runtimes::new(&lab.image, &lab.dist, NAME)?;
    let ours = lab.dist.join("seacow-runtime");
    let programs = [("seacow-runtime", ours.as_path()), ("crun", "crun".as_ref()), ("runc", "runc".as_ref())];
    let mut rows: Vec<Row<'_>> = programs
        .into_iter()
        .map(|(what, program)| {
            let client = runtimes.client(program);
            Row::new(what, move || client.time(&[NAME]))
        })
        .collect();
    interleave(&mut rows, options.rounds);
    report.table("run of one bundle, each after a pause; ratio: to crun", &measured(&rows), Some(CRUN));
    let ratio = rows[CRUN].median().zip(rows[OURS].median()).map(|(crun, ours)| crun / ours);
    report.at_least("seacow-runtime run, to crun", ratio, 2.0, "x");
    Ok(())
}
