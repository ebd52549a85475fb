//! `POST /exec/{id}/wait`.

use std::future::Future;

use seacow_spec::docker::container::WaitResponse;

use super::Phase;
use crate::Engine;
use crate::error::EngineError;

impl Engine {
    /// Gives the future of an exec's exit status, whether it runs, has ended or is yet to be started.
    ///
    /// # Errors
    /// There is no such exec.
    pub fn exec_wait(
        &self,
        id: &str,
    ) -> Result<impl Future<Output = WaitResponse> + Send + use<>, EngineError> {
        let exec = self.0.execs.find(id)?;
        let mut phase = exec.phase.subscribe();
        Ok(async move {
            let _keep = exec;
            let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended { .. })).await;
            match ended.as_deref() {
                Ok(Phase::Ended { code, .. }) => {
                    WaitResponse { status_code: i64::from(*code), ..WaitResponse::default() }
                }
                // Its exec is kept by `_keep`, so the sender is there.
                Ok(_) | Err(_) => WaitResponse::default(),
            }
        })
    }
}
