//! Volumes of a container in the making: created, filled from the image, taken back on failure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use seacow_spec::ChainId;
use seacow_spec::docker::host_config::HostConfig;
use seacow_store::VolumeError;

use super::record::{MountRecord, Record};
use super::{ContainerError, mounts};
use crate::error::EngineError;
use crate::event::event;
use crate::{Engine, blocking};

/// Makes the volumes of a new container that are not there, and fills in where they are. Gives the
/// names of those that were made for it alone; on failure they are removed again.
pub(super) async fn make(engine: &Engine, record: &mut Record) -> Result<Vec<String>, EngineError> {
    let mut anonymous = Vec::new();
    for index in 0..record.mounts.len() {
        let Some(mount) = record.mounts.get_mut(index).filter(|mount| mount.point.kind == "volume") else {
            continue;
        };
        if !mount.source.as_os_str().is_empty() {
            // Taken over from another container.
            continue;
        }
        if mount.anonymous {
            mount.point.name = seacow_spec::id::random_hex().map_err(super::ContainerError::Random)?;
        }
        match one(engine, mount, record.id.as_str()).await {
            Ok(()) if record.mounts[index].anonymous => {
                anonymous.push(record.mounts[index].point.name.clone())
            }
            Ok(()) => {}
            Err(error) => {
                for name in &anonymous {
                    discard(engine, name).await;
                }
                return Err(error);
            }
        }
    }
    Ok(anonymous)
}

impl Engine {
    /// The mounts that `--volumes-from` names.
    pub(super) fn volumes_of_others(&self, host: &HostConfig) -> Result<Vec<MountRecord>, ContainerError> {
        let mut taken = Vec::new();
        for spec in host.volumes_from.iter().flatten() {
            let (name, mode) = spec.split_once(':').unwrap_or((spec, ""));
            let other = self.0.containers.find(name)?;
            let mounts = other.cell().record.mounts.clone();
            taken.extend(mounts::take_over(mounts, mode)?);
        }
        Ok(taken)
    }
}

async fn one(engine: &Engine, mount: &mut MountRecord, container: &str) -> Result<(), EngineError> {
    let (store, name, anonymous) = (Arc::clone(&engine.0.store), mount.point.name.clone(), mount.anonymous);
    let (volume, new) = blocking::run("make a volume", move || {
        let new = store.volumes().get(&name).is_err();
        Ok::<_, VolumeError>((store.volumes().create(&name, BTreeMap::new(), anonymous)?, new))
    })
    .await??;
    if new {
        let attributes = [("driver".to_owned(), super::mounts::LOCAL.to_owned())];
        engine.emit(event("volume", "create", &volume.name, BTreeMap::from(attributes)));
    }
    tracing::debug!(container, volume = volume.name, new, "a container's volume");
    mount.point.source = volume.path.display().to_string();
    mount.source = volume.path;
    Ok(())
}

/// Fills empty volumes with what the image has where they are mounted.
pub(super) async fn fill(
    engine: &Engine,
    record: &Record,
    image: Option<&ChainId>,
) -> Result<(), EngineError> {
    let wanted = record.mounts.iter().filter(|mount| mount.point.kind == "volume" && mount.copy);
    let empty = |mount: &&MountRecord| {
        std::fs::read_dir(&mount.source).is_ok_and(|mut entries| entries.next().is_none())
    };
    let volumes: Vec<(String, PathBuf)> = wanted
        .filter(empty)
        .map(|mount| (mount.point.name.clone(), PathBuf::from(&mount.point.destination)))
        .collect();
    if volumes.is_empty() {
        return Ok(());
    }
    let (store, image) = (Arc::clone(&engine.0.store), image.cloned());
    blocking::run("fill volumes from the image", move || {
        let view = store.snapshots().view(image.as_ref())?;
        store.with_mounted(&view, &[], |root| {
            for (name, path) in &volumes {
                store.volumes().populate(name, root.root(), path)?;
            }
            Ok::<_, EngineError>(())
        })?
    })
    .await?
}

/// Copies what is in another container's anonymous volumes into the new container's, which stand at the
/// same places of the list.
pub(super) async fn copy(engine: &Engine, from: &[MountRecord], to: &Record) -> Result<(), EngineError> {
    let pairs = from.iter().zip(&to.mounts).filter(|(_, new)| new.anonymous);
    let pairs: Vec<(String, String)> =
        pairs.map(|(old, new)| (old.point.name.clone(), new.point.name.clone())).collect();
    if pairs.is_empty() {
        return Ok(());
    }
    let store = Arc::clone(&engine.0.store);
    blocking::run("copy anonymous volumes", move || {
        for (old, new) in &pairs {
            store.volumes().copy(old, new)?;
        }
        Ok::<_, EngineError>(())
    })
    .await?
}

/// Removes a volume that belongs to nobody any more. What cannot be removed stays and is logged.
pub(super) async fn discard(engine: &Engine, name: &str) {
    let (store, volume) = (Arc::clone(&engine.0.store), name.to_owned());
    match blocking::run("remove a volume", move || store.volumes().remove(&volume)).await {
        Ok(Ok(())) => {
            let attributes = [("driver".to_owned(), super::mounts::LOCAL.to_owned())];
            engine.emit(event("volume", "destroy", name, BTreeMap::from(attributes)));
        }
        Ok(Err(error)) => tracing::warn!(volume = name, %error, "remove a volume"),
        Err(error) => tracing::warn!(volume = name, %error, "remove a volume"),
    }
}
