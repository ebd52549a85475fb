//! `POST /containers/{id}/wait`.

use std::future::Future;

use seacow_spec::docker::container::{WaitError, WaitResponse};

use super::{ContainerError, Life};
use crate::Engine;
use crate::error::EngineError;

/// What a client waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run, now or once it has ended.
    #[default]
    NotRunning,
    /// The next end after this moment, even if it does not run yet.
    NextExit,
    /// It is gone.
    Removed,
}

impl std::str::FromStr for WaitCondition {
    type Err = ContainerError;
    fn from_str(text: &str) -> Result<Self, ContainerError> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(ContainerError::WaitCondition(other.to_owned())),
        }
    }
}

impl Engine {
    /// Registers a wait at once and gives the future of its answer: what happens after this call
    /// is seen, however late the future is first polled.
    ///
    /// # Errors
    /// There is no such container.
    pub fn wait(
        &self,
        reference: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = WaitResponse> + Send + use<>, EngineError> {
        let container = self.0.containers.find(reference)?;
        let mut life = container.watch();
        let (begun, begin) = {
            let life = life.borrow();
            (life.begun, life.ended)
        };
        Ok(async move {
            let _keep = container;
            let over = |life: &Life| match condition {
                WaitCondition::NotRunning => life.is_over(begun),
                // A container that is gone has no next exit.
                WaitCondition::NextExit => life.ended > begin || life.removed,
                WaitCondition::Removed => life.removed || life.error.is_some(),
            };
            match life.wait_for(over).await {
                Ok(life) => answer(&life),
                // Its container is kept by `_keep`, so the sender is there.
                Err(_) => WaitResponse::default(),
            }
        })
    }
}

fn answer(life: &Life) -> WaitResponse {
    WaitResponse {
        error: life.error.clone().map(|message| WaitError { message }),
        status_code: i64::from(life.code),
    }
}
