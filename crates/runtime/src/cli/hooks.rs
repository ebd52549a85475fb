//! Hooks of a container that exists: after its start and after its end. What it prints of them goes
//! where warnings go.

use seacow_runtime::hooks::{self, Stage};
use seacow_spec::oci::runtime::VERSION;
use seacow_spec::oci::state::{self as oci, State};

use super::args::Globals;
use super::log;
use super::state::{Record, Status};

/// Runs all of a stage. Nothing that has happened can be stopped by a hook any more: failures are
/// told (OCI runtime specification, lifecycle, steps 9 and 13).
pub(crate) fn run_all(globals: &Globals, stage: Stage, record: &Record, status: Status) {
    for error in hooks::run_all(stage, &record.hooks, &state(record, status)) {
        log::warn(globals, &error);
    }
}

fn state(record: &Record, status: Status) -> State {
    State {
        oci_version: VERSION.into(),
        id: record.id.clone(),
        status: match status {
            Status::Created => oci::Status::Created,
            Status::Running | Status::Paused => oci::Status::Running,
            Status::Stopped => oci::Status::Stopped,
        },
        pid: if status == Status::Stopped { 0 } else { record.pid },
        bundle: record.bundle.clone(),
        annotations: record.annotations.clone(),
    }
}
