//! `POST /containers/{id}/start`.

use std::sync::Arc;
use std::time::Duration;

use seacow_spec::lifecycle::{Event, Exit, State};
use seacow_spec::shim::Request;
use seacow_spec::{Classified, ErrorReport, Timestamp};

use super::{Container, ContainerError, Link};
use crate::Engine;
use crate::error::EngineError;
use crate::shim::{ShimClient, ShimError};

/// How long a start waits for an attachment that was announced: the client has its 101 already and
/// only the hand-over of its socket is outstanding.
const ATTACH_GRACE: Duration = Duration::from_secs(2);
/// Exit status of a container that could not be made at all.
const NOT_MADE: i32 = 128;

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// It runs already (not modified), is paused or being removed, cannot be made, or its program
    /// cannot be executed; in the last two cases it stays created, with the exit status kept.
    pub async fn start(&self, reference: &str) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("start a container", async move {
            let _busy = engine.0.pool.busy();
            let _one = container.ops.lock().await;
            engine.start_locked(&container).await
        })
        .await
    }

    /// Starts; the caller holds `ops`.
    pub(super) async fn start_locked(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        // Who starts first makes the memory, and the others take it over.
        let memory = self.uses_shared_memory(&container.record());
        let _in_turn = if memory { Some(self.0.memory.lock().await) } else { None };
        begin(container)?;
        container.tell(|life| life.begun += 1);
        match self.bring_up(container).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(container, error).await),
        }
    }

    async fn bring_up(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        crate::step!("start: begun");
        // What the last run held is given back before it is asked for again.
        super::exit::await_teardown(container).await;
        self.hold_plugged(container).await?;
        let shim = self.made(container).await?;
        self.publish(container).await?;
        crate::step!("start: container made");
        super::attach::await_announced(container, ATTACH_GRACE).await;
        hand_over_clients(container, &shim);
        crate::step!("start: clients there");
        let (pid, at) = match shim.send(Request::Start, None)?.started().await {
            Ok(started) => started,
            Err(ShimError::Refused(report)) => return Err(ContainerError::StartFailed(report).into()),
            Err(error) => return Err(error.into()),
        };
        crate::step!("start: program runs");
        self.no_longer_ready();
        self.started(container, shim, pid, at)
    }

    /// A shim that has the container made: the one kept ready, or a new one.
    async fn made(&self, container: &Arc<Container>) -> Result<ShimClient, EngineError> {
        super::exit::await_teardown(container).await;
        if let Some(Ok(shim)) = self.take_ready(container).await {
            return Ok(shim);
        }
        // A ready one that failed may have met what is mended by now; a cold start tells.
        self.let_go(container).await;
        self.make_ready(container).await?;
        match self.take_ready(container).await {
            Some(Ok(shim)) => Ok(shim),
            Some(Err(report)) => Err(ContainerError::StartFailed(report).into()),
            None => Err(ShimError::Lost.into()),
        }
    }

    /// The program runs.
    pub(super) fn started(
        &self,
        container: &Arc<Container>,
        shim: ShimClient,
        pid: i32,
        at: Timestamp,
    ) -> Result<(), EngineError> {
        let early = {
            let mut cell = container.cell();
            let pid = cell.early_move.take().unwrap_or(pid);
            cell.apply(Event::Started { pid, at }).map_err(ContainerError::from)?;
            cell.record.error.clear();
            cell.link = Link::Live(shim.clone());
            cell.early_exit.take()
        };
        // Clients that came while the start was under way.
        hand_over_clients(container, &shim);
        self.emit_connected(container);
        self.emit(container.event("start", &[]));
        if let Some(exit) = early {
            self.exited(container, exit);
        }
        self.save_later(container);
        Ok(())
    }

    /// Puts a container back whose start failed; gives back the error for the client.
    async fn fail(&self, container: &Arc<Container>, error: EngineError) -> EngineError {
        let report = ErrorReport::of(&error);
        let code = match &error {
            EngineError::Container(ContainerError::StartFailed(report)) => {
                report.exit_code.unwrap_or(NOT_MADE)
            }
            _ => NOT_MADE,
        };
        let exit = Exit { code, at: Timestamp::now(), oom_killed: false, reason: Some(report.to_string()) };
        let remove = {
            let mut cell = container.cell();
            // Their sockets close with them.
            cell.queue.clear();
            (cell.early_exit, cell.early_move) = (None, None);
            cell.record.error = report.to_string();
            cell.record.finished_at = Some(exit.at);
            if let Err(illegal) = cell.apply(Event::StartFailed(exit)) {
                tracing::error!(%illegal, "a failed start");
            }
            cell.record.auto_remove()
        };
        self.let_go(container).await;
        self.release_plugged(&container.id).await;
        if remove {
            if let Err(error) = self.remove_now(container, true, Some(code)).await {
                tracing::warn!(id = container.id.short(), %error, "remove a container that did not start");
            }
        } else {
            self.save_later(container);
        }
        container.tell(|life| life.end(code));
        tracing::debug!(id = container.id.short(), class = ?error.class(), "start failed");
        error
    }
}

/// Claims the start.
fn begin(container: &Container) -> Result<(), ContainerError> {
    let mut cell = container.cell();
    match &cell.record.state {
        State::Running { .. } | State::Starting => {
            return Err(ContainerError::NotModified(container.id.to_string(), "started"));
        }
        State::Paused { .. } => return Err(ContainerError::StartPaused),
        State::Removing => return Err(ContainerError::StartRemoving),
        State::Created { .. } | State::Exited { .. } => {}
    }
    (cell.early_exit, cell.early_move) = (None, None);
    cell.oom = false;
    cell.apply(Event::Start)?;
    Ok(())
}

/// Gives waiting clients to the shim. It works off requests in order, so a start that follows
/// finds them attached.
pub(super) fn hand_over_clients(container: &Container, shim: &ShimClient) {
    let waiting = std::mem::take(&mut container.cell().queue);
    for client in waiting {
        client.hand_over(shim);
    }
}
