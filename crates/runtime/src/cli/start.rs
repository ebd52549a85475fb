//! `start`.

use std::os::fd::AsFd;

use seacow_runtime::hooks::Stage;
use seacow_runtime::init;
use seacow_runtime::seccomp::notify::Agent;
use seacow_sys::{Errno, unix};

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::hooks;
use super::state::{self, START_SOCKET, StateDir, Status};

/// Lets a created container execute its program.
pub(crate) fn start(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let lock = dir.lock()?;
    let record = dir.read()?;
    let running = || CliError::State("cannot start an already running container".into());
    match dir.status(&record) {
        Status::Created => {}
        Status::Stopped => return Err(CliError::State("cannot start a container that has stopped".into())),
        Status::Creating => {
            return Err(CliError::State("cannot start a container that is being made".into()));
        }
        Status::Running | Status::Paused => return Err(running()),
    }
    let socket = dir.path.join(START_SOCKET);
    let connection = match unix::connect(dir.open()?.as_fd(), START_SOCKET) {
        // Init has closed it and goes on: whoever started it was killed before it said so.
        Err(Errno::CONNREFUSED) => {
            let _ = std::fs::remove_file(&socket);
            return Err(running());
        }
        connected => connected.map_err(|e| CliError::file("connect to", &socket, e))?,
    };
    globals.log.debug("init: about to exec");
    let agent = Agent::of(&record.seccomp, || state::oci(&record, Status::Created));
    init::start_detached(connection.as_fd(), record.pid, agent.as_ref())?;
    std::fs::remove_file(&socket).map_err(|e| CliError::file("remove", &socket, e))?;
    drop(lock);
    hooks::run_all(globals, Stage::Poststart, &record, Status::Running);
    Ok(())
}
