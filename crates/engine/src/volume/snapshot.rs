//! `POST /volumes/{name}/snapshots`, rollback and clone: seacow's own, beside Docker's paths.
//!
//! Containers that run and use the volume are held still while it is copied.

use std::collections::BTreeMap;
use std::sync::Arc;

use seacow_spec::docker::snapshot::VolumeSnapshot;
use seacow_spec::docker::volume::Volume;
use seacow_store::volume::{CopyFor, Saved, VolumeCopy};

use super::{LOCAL, VolumeError, document};
use crate::container::Container;
use crate::error::EngineError;
use crate::event::event;
use crate::{Engine, blocking};

impl Engine {
    /// Keeps what a volume holds now, durably.
    ///
    /// # Errors
    /// There is no such volume, its data are elsewhere, it has a snapshot of that name, or the disk failed.
    pub async fn volume_snapshot(
        &self,
        volume: &str,
        name: Option<String>,
    ) -> Result<VolumeSnapshot, EngineError> {
        let (engine, volume) = (self.clone(), volume.to_owned());
        self.finish("snapshot a volume", async move {
            if let Some(name) = &name {
                engine.store().volumes().check_snapshot(&volume, name).map_err(VolumeError::from)?;
            }
            let copy = engine.copy_volume(&volume, None, CopyFor::Snapshot).await?;
            let (store, of) = (Arc::clone(engine.store()), volume.clone());
            let saved = blocking::run("keep a volume's snapshot", move || {
                store.volumes().save(&of, name.as_deref(), &copy)
            });
            let saved = saved.await?.map_err(VolumeError::from)?;
            engine.tell_snapshot("snapshot", &volume, &saved.name);
            Ok(snapshot_document(&volume, &saved))
        })
        .await
    }

    /// Snapshots of a volume, oldest first.
    ///
    /// # Errors
    /// There is no such volume.
    pub fn volume_snapshots(&self, volume: &str) -> Result<Vec<VolumeSnapshot>, EngineError> {
        let found = self.store().volumes().get(volume).map_err(VolumeError::from)?;
        Ok(found.saved.iter().map(|saved| snapshot_document(volume, saved)).collect())
    }

    /// Removes a snapshot of a volume.
    ///
    /// # Errors
    /// There is no such volume or snapshot, or the disk failed.
    pub async fn volume_snapshot_remove(&self, volume: &str, snapshot: &str) -> Result<(), EngineError> {
        let (store, of, name) = (Arc::clone(self.store()), volume.to_owned(), snapshot.to_owned());
        let removed = blocking::run("remove a volume's snapshot", move || store.volumes().forget(&of, &name));
        removed.await?.map_err(VolumeError::from)?;
        self.tell_snapshot("snapshot-remove", volume, snapshot);
        Ok(())
    }

    /// Has a volume hold again what it held at a snapshot.
    ///
    /// # Errors
    /// There is no such volume or snapshot, a container that runs uses it, or the disk failed.
    pub async fn volume_rollback(&self, volume: &str, snapshot: &str) -> Result<(), EngineError> {
        let (engine, volume, snapshot) = (self.clone(), volume.to_owned(), snapshot.to_owned());
        self.finish("roll a volume back", async move {
            engine.store().volumes().get(&volume).map_err(VolumeError::from)?;
            let mut guards = Vec::new();
            let mut users = Vec::new();
            // Always in the order of their ids: two who want several wait for each other in one direction.
            for container in engine.users_of(&volume) {
                // One that is ready to start has the old directory mounted.
                guards.push(engine.settle(&container).await);
                let cell = container.cell();
                if cell.is_alive() {
                    users.push(cell.record.name.clone());
                }
            }
            if !users.is_empty() {
                return Err(VolumeError::Busy { name: volume, users }.into());
            }
            let (store, of, name) = (Arc::clone(engine.store()), volume.clone(), snapshot.clone());
            let done = blocking::run("roll a volume back", move || store.volumes().roll_back(&of, &name));
            done.await?.map_err(VolumeError::from)?;
            drop(guards);
            engine.tell_snapshot("rollback", &volume, &snapshot);
            Ok(())
        })
        .await
    }

    /// Makes a volume that holds what another one holds, or held at a snapshot; with its labels.
    ///
    /// # Errors
    /// There is no such volume or snapshot, the new name is malformed or taken, or the disk failed.
    pub async fn volume_clone(
        &self,
        volume: &str,
        name: &str,
        snapshot: Option<String>,
    ) -> Result<Volume, EngineError> {
        let (engine, volume, name) = (self.clone(), volume.to_owned(), name.to_owned());
        self.finish("clone a volume", async move {
            let labels = engine.store().volumes().get(&volume).map_err(VolumeError::from)?.labels;
            let copy = engine.copy_volume(&volume, snapshot, CopyFor::Volume).await?;
            let store = Arc::clone(engine.store());
            let made = blocking::run("make a volume", move || store.volumes().adopt(&name, &copy, labels));
            let made = made.await?.map_err(VolumeError::from)?;
            engine.volume_event("create", &made.name, LOCAL);
            Ok(document(&made))
        })
        .await
    }

    /// Copies a volume, or a snapshot of it.
    async fn copy_volume(
        &self,
        volume: &str,
        snapshot: Option<String>,
        purpose: CopyFor,
    ) -> Result<VolumeCopy, EngineError> {
        let (store, of) = (Arc::clone(self.store()), volume.to_owned());
        let from_snapshot = snapshot.is_some();
        let copy = blocking_copy(store, of, snapshot, purpose);
        if from_snapshot {
            return copy.await;
        }
        let users = self.users_of(volume);
        self.while_still(&users, copy).await
    }

    /// Containers that mount a volume, in the order of their ids.
    fn users_of(&self, volume: &str) -> Vec<Arc<Container>> {
        let mut all = self.0.containers.all();
        all.retain(|container| {
            let cell = container.cell();
            let mounts = cell.record.mounts.iter();
            mounts.filter(|mount| mount.point.kind == "volume").any(|mount| mount.point.name == volume)
        });
        all
    }

    fn tell_snapshot(&self, action: &str, volume: &str, snapshot: &str) {
        let attributes = [("driver", LOCAL), ("snapshotName", snapshot)];
        let attributes: BTreeMap<String, String> =
            attributes.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.emit(event("volume", action, volume, attributes));
    }
}

async fn blocking_copy(
    store: Arc<seacow_store::Store>,
    volume: String,
    snapshot: Option<String>,
    purpose: CopyFor,
) -> Result<VolumeCopy, EngineError> {
    let copied = blocking::run("copy a volume", move || {
        store.volumes().copy_of(&volume, snapshot.as_deref(), purpose)
    });
    Ok(copied.await?.map_err(VolumeError::from)?)
}

fn snapshot_document(volume: &str, saved: &Saved) -> VolumeSnapshot {
    VolumeSnapshot { name: saved.name.clone(), volume: volume.to_owned(), created: saved.created.to_string() }
}
