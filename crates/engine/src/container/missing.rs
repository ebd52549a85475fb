//! Containers whose files a crash of the machine took away: made anew at boot.
//!
//! A create waits for no disk. When the power fails seconds later, the record may be on the disk and the
//! directory of the writable layer not; whatever the container wrote was in memory then as well. What it
//! had was its image's files, and these are there.

use std::sync::Arc;

use seacow_store::{SnapshotError, SnapshotKey};

use super::{Container, ContainerError, volumes};
use crate::error::EngineError;
use crate::{Engine, blocking};

impl Engine {
    /// Prepares the files of every container that has none and does not run.
    pub(crate) async fn prepare_missing(&self) -> Result<(), EngineError> {
        let engine = self.clone();
        let missing = blocking::run("look for containers' files", move || {
            let mut all = engine.0.containers.all();
            all.retain(|container| {
                let key = SnapshotKey::from(&container.id);
                let is_idle = {
                    let cell = container.cell();
                    !cell.is_alive() && !cell.removed
                };
                is_idle && matches!(engine.store().snapshots().info(&key), Err(SnapshotError::NotFound(_)))
            });
            all
        });
        for container in missing.await? {
            match self.prepare_anew(&container).await {
                Ok(()) => tracing::warn!(
                    id = container.id.short(),
                    "a container had no files, as after a power cut right after it was created: they were made anew"
                ),
                // It stays, and whoever starts it is told that it has none.
                Err(error) => {
                    tracing::error!(id = container.id.short(), %error, "a container has no files");
                }
            }
        }
        Ok(())
    }

    async fn prepare_anew(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        let record = container.record();
        let image = self.store().images().get(&record.image_id);
        let image = image.ok_or_else(|| ContainerError::ImageGone(record.image_id.to_string()))?;
        // A directory that lacks its description: the rest was on the disk already.
        self.drop_root(&record.id).await;
        drop(self.make_root(&record, image.chain.as_ref(), None).await?);
        volumes::make_scratch(self, &record).await
    }
}
