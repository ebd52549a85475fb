//! Hooks of a container that exists: after its start and after its end. What it prints of them goes
//! where warnings go.

use seacow_runtime::hooks::{self, Stage};

use super::args::Globals;
use super::state::{self, Record, Status};

/// Runs all of a stage. Nothing that has happened can be stopped by a hook any more: failures are
/// told (OCI runtime specification, lifecycle, steps 9 and 13).
pub(crate) fn run_all(globals: &Globals, stage: Stage, record: &Record, status: Status) {
    for error in hooks::run_all(stage, &record.hooks, &state::oci(record, status)) {
        globals.log.warn(&error);
    }
}
