//! `GET /exec/{id}/json` and `POST /exec/{id}/resize`.

use std::time::Duration;

use seacow_spec::docker::exec::{ExecInspect, ProcessConfig};
use seacow_spec::shim::{Request, Target};

use super::{ExecError, Phase};
use crate::Engine;
use crate::error::EngineError;

/// How long a resize waits for the process that it comes before: clients send it together with
/// the start.
const START_GRACE: Duration = Duration::from_secs(10);

impl Engine {
    /// Everything about an exec.
    ///
    /// # Errors
    /// There is no such exec.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect, EngineError> {
        let exec = self.0.execs.find(id)?;
        if matches!(exec.phase(), Phase::Running { .. } | Phase::Starting) {
            // The client may have seen the end of the stream before the engine was told of the end
            // of the process. The shim sends the latter first, so one question brings it here.
            if let Ok(container) = self.0.containers.find(exec.container.as_str())
                && let Ok(shim) = container.live_shim()
            {
                let _ = shim.status().await;
            }
        }
        let (running, exit_code, pid) = match exec.phase() {
            Phase::Created | Phase::Starting => (false, None, 0),
            Phase::Running { pid } => (true, None, pid),
            Phase::Ended { pid, code, .. } => (false, Some(code), pid),
        };
        let config = &exec.config;
        let mut command = config.cmd.clone().unwrap_or_default().into_iter();
        Ok(ExecInspect {
            id: exec.id.to_string(),
            running,
            exit_code,
            process_config: ProcessConfig {
                tty: config.tty,
                entrypoint: command.next().unwrap_or_default(),
                arguments: command.collect(),
                privileged: config.privileged,
                user: config.user.clone(),
            },
            open_stdin: config.attach_stdin,
            open_stderr: config.attach_stderr,
            open_stdout: config.attach_stdout,
            can_remove: false,
            container_id: exec.container.to_string(),
            detach_keys: String::new(),
            pid,
        })
    }

    /// Sets the size of an exec's terminal; waits for an exec that is being started.
    ///
    /// # Errors
    /// There is no such exec, or it does not run.
    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<(), EngineError> {
        let exec = self.0.execs.find(id)?;
        let mut phase = exec.phase.subscribe();
        let started = phase.wait_for(|phase| !matches!(phase, Phase::Created | Phase::Starting));
        let running = match tokio::time::timeout(START_GRACE, started).await {
            Ok(Ok(phase)) => matches!(*phase, Phase::Running { .. }),
            Ok(Err(_)) | Err(_) => false,
        };
        if !running {
            return Err(ExecError::NotRunning(exec.id.to_string()).into());
        }
        let container = self.0.containers.find(exec.container.as_str())?;
        let target = Target::Exec(exec.id.clone());
        Ok(container.live_shim()?.send(Request::Resize { target, rows, cols }, None)?.done().await?)
    }
}
