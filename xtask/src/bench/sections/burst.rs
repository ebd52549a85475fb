//! `run --rm IMAGE true` back to back: the pool is empty after a few, and what one container leaves
//! behind is cleared away while the next one starts.

use anyhow::Result;

use super::run;
use crate::bench::lab::Lab;
use crate::bench::options::Options;
use crate::bench::report::Report;
use crate::bench::stats::{back_to_back, measured};

/// Where dockerd's row with a bridge is.
const DOCKER: usize = 5;

/// Prints the table. The bars are on isolated starts.
pub(crate) fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let mut rows = run::rows(lab)?;
    back_to_back(&mut rows, options.rounds);
    report.table(
        "run --rm IMAGE true, back to back; ratio: to dockerd with a bridge",
        &measured(&rows),
        Some(DOCKER),
    );
    Ok(())
}
