//! `POST /containers/{id}/resize`.

use seacow_spec::shim::{Request, Target};

use crate::Engine;
use crate::error::EngineError;

impl Engine {
    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// It does not run.
    pub async fn resize(&self, reference: &str, rows: u16, cols: u16) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let shim = container.live_shim()?;
        Ok(shim.send(Request::Resize { target: Target::Init, rows, cols }, None)?.done().await?)
    }
}
