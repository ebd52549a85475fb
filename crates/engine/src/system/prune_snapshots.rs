//! `POST /snapshots/prune`: seacow's own, as Docker has no snapshots.

use std::collections::BTreeMap;

use seacow_spec::Timestamp;
use seacow_spec::docker::snapshot::SnapshotsPruned;

use crate::error::EngineError;
use crate::event::event;
use crate::filter::Filters;
use crate::{Engine, blocking};

const KEYS: &[&str] = &["container", "label", "label!", "until", "volume"];

/// One that goes.
enum Doomed {
    OfContainer { container: String, snapshot: String, name: String },
    OfVolume { volume: String, snapshot: String },
}

impl Doomed {
    fn name(&self) -> String {
        match self {
            Self::OfContainer { name, .. } => name.clone(),
            Self::OfVolume { volume, snapshot } => format!("{volume}@{snapshot}"),
        }
    }
}

impl Engine {
    /// Removes snapshots: those of the containers and volumes that are named, or without such a filter those
    /// of all containers, and with `volumes` of all volumes. Labels are the containers' and volumes'.
    ///
    /// # Errors
    /// A filter is unknown or its value is not. One that cannot be removed stays and is logged.
    pub async fn prune_snapshots(
        &self,
        filters: Filters,
        volumes: bool,
    ) -> Result<SnapshotsPruned, EngineError> {
        filters.only(KEYS)?;
        let until = filters.until()?;
        let mut doomed = Vec::new();
        let named = filters.contains("container") || filters.contains("volume");
        if filters.contains("container") || !named {
            doomed.extend(self.doomed_of_containers(&filters, until)?);
        }
        if filters.contains("volume") || (volumes && !named) {
            doomed.extend(self.doomed_of_volumes(&filters, until));
        }
        let before = self.standing_bytes().await?;
        let mut pruned = SnapshotsPruned::default();
        for one in doomed {
            let removed = match &one {
                Doomed::OfContainer { container, snapshot, .. } => {
                    self.snapshot_remove(container, snapshot).await
                }
                Doomed::OfVolume { volume, snapshot } => self.volume_snapshot_remove(volume, snapshot).await,
            };
            match removed {
                Ok(()) => pruned.snapshots_deleted.get_or_insert_default().push(one.name()),
                Err(error) => tracing::warn!(snapshot = one.name(), %error, "prune a snapshot"),
            }
        }
        if pruned.snapshots_deleted.is_some() {
            pruned.space_reclaimed = before.saturating_sub(self.standing_bytes().await?);
        }
        let reclaimed = [("reclaimed".to_owned(), pruned.space_reclaimed.to_string())];
        self.emit(event("snapshot", "prune", "", BTreeMap::from(reclaimed)));
        Ok(pruned)
    }

    fn doomed_of_containers(
        &self,
        filters: &Filters,
        until: Option<Timestamp>,
    ) -> Result<Vec<Doomed>, EngineError> {
        let named = filters.values("container").map(|name| Ok(self.0.containers.find(name)?.id.to_string()));
        let named = named.collect::<Result<Vec<_>, EngineError>>()?;
        let mut doomed = Vec::new();
        for point in self.store().points().list(None) {
            let container = point.container.parse().ok().and_then(|id| self.0.containers.get(&id));
            let Some(container) = container else { continue };
            let (name, labels) = {
                let cell = container.cell();
                (cell.record.name.clone(), cell.record.config.labels.clone().unwrap_or_default())
            };
            let wanted = (named.is_empty() || named.contains(&point.container))
                && until.is_none_or(|until| point.created < until)
                && filters.labels("label", &labels)
                && filters.labels_absent("label!", &labels);
            if wanted {
                doomed.push(Doomed::OfContainer {
                    container: point.container.clone(),
                    snapshot: point.id.clone(),
                    name: format!("{name}@{}", point.name),
                });
            }
        }
        Ok(doomed)
    }

    fn doomed_of_volumes(&self, filters: &Filters, until: Option<Timestamp>) -> Vec<Doomed> {
        let mut doomed = Vec::new();
        for volume in self.store().volumes().list() {
            let wanted = filters.exact("volume", &volume.name)
                && filters.labels("label", &volume.labels)
                && filters.labels_absent("label!", &volume.labels);
            let saved = volume.saved.iter().filter(|saved| wanted && until.is_none_or(|t| saved.created < t));
            doomed.extend(
                saved.map(|saved| Doomed::OfVolume {
                    volume: volume.name.clone(),
                    snapshot: saved.name.clone(),
                }),
            );
        }
        doomed
    }

    /// Bytes of the store that are not on their way out.
    async fn standing_bytes(&self) -> Result<u64, EngineError> {
        let engine = self.clone();
        blocking::run("count what the store takes", move || {
            let totals = engine.disk()?.0;
            Ok(totals.total_bytes.saturating_sub(totals.passing_bytes))
        })
        .await?
    }
}
