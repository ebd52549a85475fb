//! `POST /containers/{id}/exec`.

use seacow_spec::ExecId;
use seacow_spec::docker::exec::ExecConfig;

use super::{Exec, ExecError, Phase};
use crate::Engine;
use crate::container::ContainerError;
use crate::container::attach::detach_keys;
use crate::error::EngineError;

impl Engine {
    /// Notes what is to be run. Nothing happens in the container yet.
    ///
    /// # Errors
    /// The container does not run, or there is no command.
    pub fn exec_create(&self, reference: &str, config: ExecConfig) -> Result<ExecId, EngineError> {
        let container = self.0.containers.find(reference)?;
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(ExecError::NoCommand.into());
        }
        if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
            return Err(ExecError::WorkingDir.into());
        }
        let keys = detach_keys(&config.detach_keys)?;
        {
            let cell = container.cell();
            if !cell.is_alive() {
                return Err(ContainerError::NotRunning(container.id.to_string()).into());
            }
            if cell.is_paused_for_good() {
                return Err(ContainerError::Paused(container.id.to_string(), "exec").into());
            }
        }
        let id = ExecId::random().map_err(ExecError::Random)?;
        let exec = Exec::new(id.clone(), container.id.clone(), config, keys, Phase::Created);
        self.0.execs.add(&exec);
        let action = format!("exec_create: {}", exec.command());
        self.emit(container.event(&action, &[("execID", id.to_string())]));
        Ok(id)
    }
}
