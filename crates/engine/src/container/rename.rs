//! `POST /containers/{id}/rename`.

use super::{ContainerError, Invalid};
use crate::Engine;
use crate::error::EngineError;

impl Engine {
    /// Gives a container another name.
    ///
    /// # Errors
    /// The name is malformed, taken, or the one it has.
    pub async fn rename(&self, reference: &str, name: &str) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let name = name.strip_prefix('/').unwrap_or(name).to_owned();
        let engine = self.clone();
        self.finish("rename a container", async move {
            let _one = container.ops.lock().await;
            let old = container.cell().record.name.clone();
            if name.is_empty() {
                return Err(ContainerError::RenameArgument("Neither old nor new names may be empty").into());
            }
            if name == old {
                return Err(ContainerError::RenameArgument(
                    "Renaming a container with the same name as its current name",
                )
                .into());
            }
            if !seacow_spec::names::is_valid(&name) {
                return Err(ContainerError::Rename(Box::new(Invalid::Name(name).into())).into());
            }
            let registry = &engine.0.containers;
            registry
                .reserve(&name, &container.id)
                .map_err(|error| ContainerError::Rename(Box::new(error)))?;
            container.cell().record.name.clone_from(&name);
            if let Err(error) = engine.save(&container).await {
                container.cell().record.name = old;
                registry.release(&name, &container.id);
                return Err(error);
            }
            registry.release(&old, &container.id);
            engine.emit(container.event("rename", &[("oldName", format!("/{old}"))]));
            Ok(())
        })
        .await
    }
}
