//! `docker diff`.

use std::sync::Arc;

use seacow_spec::docker::container::FilesystemChange;
use seacow_store::snapshot::SnapshotKey;

use crate::error::EngineError;
use crate::{Engine, blocking};

impl Engine {
    /// What a container changed, sorted by path.
    ///
    /// # Errors
    /// There is no such container, or the disk failed.
    pub async fn changes(&self, reference: &str) -> Result<Vec<FilesystemChange>, EngineError> {
        let container = self.0.containers.find(reference)?;
        let (store, key) = (Arc::clone(self.store()), SnapshotKey::from(&container.id));
        let changes =
            blocking::run("compare a container's files", move || store.snapshots().changes(&key)).await??;
        let row = |change: &seacow_store::snapshot::Change| FilesystemChange {
            path: change.path.to_string_lossy().into_owned(),
            kind: change.kind.number(),
        };
        Ok(changes.iter().map(row).collect())
    }
}
