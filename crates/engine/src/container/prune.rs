//! `POST /containers/prune`.

use std::collections::BTreeMap;

use seacow_spec::docker::container::ContainersPruned;

use super::remove::RemoveOptions;
use crate::Engine;
use crate::error::EngineError;
use crate::event::event;
use crate::filter::Filters;

const FILTERS: &[&str] = &["label", "label!", "until"];

impl Engine {
    /// Removes all containers that do not run and match.
    ///
    /// # Errors
    /// A filter is unknown or malformed. A container that cannot be removed stays and is logged.
    pub async fn prune_containers(&self, filters: &Filters) -> Result<ContainersPruned, EngineError> {
        filters.only(FILTERS)?;
        let until = filters.until()?;
        let snapshots = self.counted_layers();
        let mut pruned = ContainersPruned { containers_deleted: None, space_reclaimed: 0 };
        for container in self.0.containers.all() {
            let wanted = {
                let cell = container.cell();
                let labels = cell.record.config.labels.clone().unwrap_or_default();
                !cell.is_alive()
                    && !matches!(cell.record.state, seacow_spec::lifecycle::State::Starting)
                    && until.is_none_or(|until| cell.record.created < until)
                    && filters.labels("label", &labels)
                    && filters.labels_absent("label!", &labels)
            };
            if !wanted {
                continue;
            }
            let size = self.sizes(&container).await.map_or(0, |sizes| u64::try_from(sizes.own).unwrap_or(0));
            match self.remove(container.id.as_str(), RemoveOptions::default()).await {
                Ok(()) => {
                    pruned.containers_deleted.get_or_insert_default().push(container.id.to_string());
                    pruned.space_reclaimed += size;
                }
                Err(error) => tracing::warn!(id = container.id.short(), %error, "prune a container"),
            }
        }
        // Snapshots go with their container.
        pruned.space_reclaimed += snapshots.saturating_sub(self.counted_layers());
        let reclaimed = [("reclaimed".to_owned(), pruned.space_reclaimed.to_string())];
        self.emit(event("container", "prune", "", BTreeMap::from(reclaimed)));
        Ok(pruned)
    }

    /// As far as it was counted.
    fn counted_layers(&self) -> u64 {
        self.store().layers().list().iter().map(|layer| layer.size).sum()
    }
}
