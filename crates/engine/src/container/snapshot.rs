//! `POST /containers/{id}/snapshots` and what belongs to it: moments of a container's files, kept.
//!
//! They belong to the container and go with it. What was cloned from one holds the files itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use seacow_spec::ChainId;
use seacow_spec::docker::snapshot::Snapshot;
use seacow_spec::lifecycle::State;
use seacow_store::Point;
use seacow_store::snapshot::SnapshotKey;

use super::capture::{Capture, Files};
use super::{Container, ContainerError};
use crate::error::EngineError;
use crate::{Engine, blocking};

impl Engine {
    /// Keeps what a container's files are now, durably; it may run.
    ///
    /// # Errors
    /// There is no such container, it has a snapshot of that name, or the disk failed.
    pub async fn snapshot(&self, reference: &str, name: Option<String>) -> Result<Snapshot, EngineError> {
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("snapshot a container", async move {
            let _one = container.ops.lock().await;
            let id = container.id.to_string();
            if let Some(name) = &name {
                engine.store().points().check(&id, name)?;
            }
            let files = engine.capture(&container, Capture { pause: true, durable: true }).await?;
            let store = Arc::clone(engine.store());
            let kept = files.clone();
            let made = blocking::run("keep a snapshot", move || {
                store.points().create(&id, name.as_deref(), &kept.layer, kept.base.as_ref())
            });
            let made = made.await;
            engine.let_files_go(files).await;
            let point = made??;
            let attributes = [("snapshot", point.id.clone()), ("snapshotName", point.name.clone())];
            engine.emit(container.event("snapshot", &attributes));
            let mut told = engine.told(vec![Arc::new(point)]).await?;
            told.pop().ok_or_else(|| ContainerError::Gone(container.id.to_string()).into())
        })
        .await
    }

    /// Snapshots of one container or of all, oldest first.
    ///
    /// # Errors
    /// There is no such container, or the disk failed.
    pub async fn snapshots(&self, reference: Option<&str>) -> Result<Vec<Snapshot>, EngineError> {
        let container = reference.map(|reference| self.0.containers.find(reference)).transpose()?;
        let mut points =
            self.store().points().list(container.as_ref().map(|container| container.id.as_str()));
        // Those of one that was removed are going.
        points.retain(|point| point.container.parse().is_ok_and(|id| self.0.containers.get(&id).is_some()));
        self.told(points).await
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// There is no such container or snapshot, or the disk failed.
    pub async fn snapshot_remove(&self, reference: &str, snapshot: &str) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let point = self.store().points().find(container.id.as_str(), snapshot)?;
        let (store, id) = (Arc::clone(self.store()), point.id.clone());
        blocking::run("remove a snapshot", move || store.points().remove(&id)).await??;
        let attributes = [("snapshot", point.id.clone()), ("snapshotName", point.name.clone())];
        self.emit(container.event("snapshot-remove", &attributes));
        Ok(())
    }

    /// Has a container go back to one of its snapshots; what it did since is gone. One that runs is
    /// killed first and started again, if that is wanted (`force`).
    ///
    /// # Errors
    /// There is no such container or snapshot, it runs, or the disk failed; then it is as it was.
    pub async fn rollback(&self, reference: &str, snapshot: &str, force: bool) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let (engine, snapshot) = (self.clone(), snapshot.to_owned());
        self.finish("roll a container back", async move {
            let _busy = engine.0.pool.busy();
            let _one = container.ops.lock().await;
            let point = engine.store().points().find(container.id.as_str(), &snapshot)?;
            let again = engine.bring_to_rest(&container, force).await?;
            let (store, key) = (Arc::clone(engine.store()), SnapshotKey::from(&container.id));
            let layer = point.layer.clone();
            let reset = blocking::run("roll files back", move || store.snapshots().reset(&key, &layer));
            let reset = reset.await?;
            if reset.is_ok() {
                let attributes = [("snapshot", point.id.clone()), ("snapshotName", point.name.clone())];
                engine.emit(container.event("rollback", &attributes));
            }
            // Also when nothing came of it.
            if again {
                engine.start_locked(&container).await?;
            }
            Ok(reset?)
        })
        .await
    }

    /// Ends a container that runs and may be ended, and has nothing mount its files. Tells whether it
    /// was running. The caller holds `ops`.
    async fn bring_to_rest(&self, container: &Arc<Container>, force: bool) -> Result<bool, EngineError> {
        let (state, auto_remove, name) = {
            let cell = container.cell();
            if cell.removed {
                return Err(ContainerError::Gone(container.id.to_string()).into());
            }
            (cell.record.state.clone(), cell.record.auto_remove(), cell.record.name.clone())
        };
        let again = match state {
            State::Removing => return Err(ContainerError::RemovalInProgress(container.id.to_string()).into()),
            State::Running { .. } | State::Paused { .. } if auto_remove => {
                return Err(ContainerError::RollbackAutoRemove(name).into());
            }
            State::Running { .. } | State::Paused { .. } if force => {
                container.cell().restarting += 1;
                let killed = self.kill_and_wait(container).await;
                container.cell().restarting -= 1;
                killed?;
                true
            }
            State::Running { .. } | State::Paused { .. } => {
                return Err(ContainerError::RollbackRunning { name, status: state.status() }.into());
            }
            State::Created { .. } | State::Starting | State::Exited { .. } => false,
        };
        self.let_go(container).await;
        super::exit::await_teardown(container).await;
        Ok(again)
    }

    /// The files of a snapshot.
    pub(super) fn files_of(&self, container: &Container, snapshot: &str) -> Result<Files, EngineError> {
        let point = self.store().points().find(container.id.as_str(), snapshot)?;
        let layer = self.store().layers().pin(&point.layer).map_err(seacow_store::SnapshotError::from)?;
        Ok(Files { layer, base: point.base.clone() })
    }

    /// Removes the snapshots of a container that is gone. What cannot be removed goes at the next boot.
    pub(super) async fn drop_snapshots(&self, container: &Container) {
        let (store, id) = (Arc::clone(self.store()), container.id.to_string());
        let removed = blocking::run("remove snapshots", move || store.points().remove_of(&id)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(id = container.id.short(), %error, "remove a container's snapshots");
        }
    }

    /// As the API shows them.
    async fn told(&self, points: Vec<Arc<Point>>) -> Result<Vec<Snapshot>, EngineError> {
        if points.is_empty() {
            return Ok(Vec::new());
        }
        let engine = self.clone();
        blocking::run("look at snapshots", move || {
            engine.store().measure_frozen()?;
            let users = engine.layer_users();
            Ok(points.iter().map(|point| engine.snapshot_document(point, &users)).collect())
        })
        .await?
    }

    pub(crate) fn snapshot_document(
        &self,
        point: &Point,
        users: &HashMap<ChainId, BTreeSet<String>>,
    ) -> Snapshot {
        let container = point.container.parse().ok().and_then(|id| self.0.containers.get(&id));
        let layer = self.store().layers().get(&point.layer).filter(|layer| layer.frozen.is_some());
        let shared_with = users.get(&point.layer).map(|names| names.iter().cloned().collect());
        Snapshot {
            id: point.id.clone(),
            name: point.name.clone(),
            container: point.container.clone(),
            container_name: container.map(|one| one.cell().record.name.clone()).unwrap_or_default(),
            created: point.created.to_string(),
            own_bytes: layer.map_or(0, |layer| layer.disk),
            shared_bytes: None,
            shared_with: shared_with.unwrap_or_default(),
        }
    }
}
