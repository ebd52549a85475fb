//! Freezing and thawing.

use seacow_spec::lifecycle::{Event, State};
use seacow_spec::shim::Request;

use super::{Container, ContainerError};
use crate::Engine;
use crate::error::EngineError;

impl Engine {
    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// It does not run or is paused already.
    pub async fn pause(&self, reference: &str) -> Result<(), EngineError> {
        self.freeze(reference, true).await
    }

    /// Thaws them.
    ///
    /// # Errors
    /// It is not paused.
    pub async fn unpause(&self, reference: &str) -> Result<(), EngineError> {
        self.freeze(reference, false).await
    }

    async fn freeze(&self, reference: &str, freeze: bool) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("pause or unpause a container", async move {
            let _one = container.ops.lock().await;
            engine.freeze_locked(&container, freeze).await
        })
        .await
    }

    /// Freezes or thaws; the caller holds `ops`.
    pub(super) async fn freeze_locked(&self, container: &Container, freeze: bool) -> Result<(), EngineError> {
        let _freezing = container.freezing.lock().await;
        let id = container.id.to_string();
        match (&container.cell().record.state, freeze) {
            (State::Running { .. }, true) | (State::Paused { .. }, false) => {}
            (State::Paused { .. }, true) => return Err(ContainerError::AlreadyPaused(id).into()),
            (State::Running { .. }, false) => return Err(ContainerError::NotPaused(id).into()),
            (State::Created { .. } | State::Starting | State::Exited { .. } | State::Removing, _) => {
                return Err(ContainerError::NotRunning(id).into());
            }
        }
        let (shim, run) = container.live_run()?;
        let (request, event, action) = if freeze {
            (Request::Pause, Event::Paused, "pause")
        } else {
            (Request::Resume, Event::Resumed, "unpause")
        };
        let answered = match shim.send(request, None) {
            Ok(pending) => pending.done().await,
            Err(error) => Err(error),
        };
        if answered.is_err() && container.watch().borrow().is_over(run) {
            return Err(ContainerError::NotRunning(id).into());
        }
        answered?;
        container.cell().apply(event).map_err(ContainerError::from)?;
        self.emit(container.event(action, &[]));
        self.save_later(container);
        Ok(())
    }
}
