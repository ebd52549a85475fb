//! `start`.

use std::os::fd::AsFd;

use seacow_runtime::hooks::Stage;
use seacow_runtime::init;
use seacow_sys::unix;

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::hooks;
use super::state::{START_SOCKET, StateDir, Status};

/// Lets a created container execute its program.
pub(crate) fn start(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    match dir.status(&record) {
        Status::Created => {}
        Status::Stopped => return Err(CliError::State("cannot start a container that has stopped".into())),
        Status::Running | Status::Paused => {
            return Err(CliError::State("cannot start an already running container".into()));
        }
    }
    let socket = dir.path.join(START_SOCKET);
    let connection = unix::connect(dir.open()?.as_fd(), START_SOCKET)
        .map_err(|e| CliError::file("connect to", &socket, e))?;
    init::start_detached(connection.as_fd())?;
    std::fs::remove_file(&socket).map_err(|e| CliError::file("remove", &socket, e))?;
    hooks::run_all(globals, Stage::Poststart, &record, Status::Running);
    Ok(())
}
