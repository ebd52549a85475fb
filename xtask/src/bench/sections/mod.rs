//! What is measured. Each section takes its engines from the [`Lab`], prints its tables and adds its
//! bars to the report.

mod alive;
mod api;
mod burst;
mod exec;
mod load;
mod run;
mod runtime;

use anyhow::Result;

use super::lab::Lab;
use super::options::Options;
use super::report::Report;

/// A part of the benchmark that can be asked for alone.
pub(crate) struct Section {
    /// On the command line.
    pub(crate) name: &'static str,
    /// In the list of sections.
    pub(crate) what: &'static str,
    /// Measures and prints.
    pub(crate) measure: fn(&Lab, &Options, &mut Report) -> Result<()>,
}

/// All of them, in the order in which they run.
pub(crate) const ALL: [Section; 7] = [
    Section {
        name: "run",
        what: "run --rm IMAGE true, isolated: ours warm and cold, docker, podman",
        measure: run::measure,
    },
    Section { name: "burst", what: "the same, back to back", measure: burst::measure },
    Section { name: "exec", what: "exec C true", measure: exec::measure },
    Section {
        name: "api",
        what: "create, start, rm -f by the API, and until all traces are gone",
        measure: api::measure,
    },
    Section { name: "load", what: "run --rm, 8 in flight", measure: load::measure },
    Section {
        name: "alive",
        what: "many containers: start times, memory of machine, daemon, shims",
        measure: alive::measure,
    },
    Section {
        name: "runtime",
        what: "run of one bundle: seacow-runtime, crun, runc",
        measure: runtime::measure,
    },
];
