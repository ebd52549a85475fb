//! Volumes of a container in the making: created, filled from the image, taken back on failure.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::shim::{Lower, Rootfs};
use seacow_spec::{ChainId, ContainerId};
use seacow_store::NewVolume;

use super::record::{MountRecord, Record};
use super::{ContainerError, mounts};
use crate::error::EngineError;
use crate::event::event;
use crate::volume::local::{self, Backing};
use crate::{Engine, blocking};

/// Makes the volumes of a new container that are not there, and fills in where they are. Gives the
/// names of those that were made for it alone; on failure they are removed again.
pub(super) async fn make(engine: &Engine, record: &mut Record) -> Result<Vec<String>, EngineError> {
    let mut anonymous = Vec::new();
    images(engine, record).await?;
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
        let made = match mount.plugin() {
            Some(plugin) => {
                let plugin = plugin.to_owned();
                plugged(engine, mount, plugin, record.id.as_str()).await
            }
            None => one(engine, mount, record.id.as_str()).await,
        };
        match made {
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
    /// Notes that the container is there for which volumes without a name were made.
    pub(super) fn settle_volumes(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.store().volumes().settle(name) {
                tracing::warn!(volume = name, %error, "note that a volume's container is there");
            }
        }
    }

    /// Removes volumes of containers that an earlier engine was killed over before they were there.
    pub(crate) fn remove_half_made_volumes(&self) {
        for (name, container) in self.store().volumes().half_made() {
            let is_there = container.parse().is_ok_and(|id| self.0.containers.get(&id).is_some());
            if is_there {
                self.settle_volumes(&[name]);
            } else {
                // A plug-in may take its time.
                let engine = self.clone();
                tokio::spawn(async move { discard(&engine, &name).await });
            }
        }
    }

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
    let (store, name) = (Arc::clone(&engine.0.store), mount.point.name.clone());
    let wanted = NewVolume {
        labels: mount.labels.clone(),
        anonymous: mount.anonymous,
        options: mount.driver_options.clone(),
        plugin: None,
        size: local::size(&mount.driver_options)?,
        made_for: mount.anonymous.then(|| container.to_owned()),
    };
    local::backing(&wanted.options)?;
    let (volume, backing, new) = blocking::run("make a volume", move || {
        let new = store.volumes().get(&name).is_err();
        let volume = store.volumes().make(&name, wanted).map_err(crate::volume::VolumeError::from)?;
        let backing = match local::backing(&volume.options)? {
            Backing::FileSystem(fs) => Backing::FileSystem(local::resolve(fs)?),
            other @ (Backing::Store | Backing::Directory { .. }) => other,
        };
        Ok::<_, crate::volume::VolumeError>((volume, backing, new))
    })
    .await??;
    if new {
        let attributes = [("driver".to_owned(), super::mounts::LOCAL.to_owned())];
        engine.emit(event("volume", "create", &volume.name, BTreeMap::from(attributes)));
    }
    tracing::debug!(container, volume = volume.name, new, "a container's volume");
    mount.point.source = volume.path.display().to_string();
    match backing {
        Backing::Store => mount.source = volume.path,
        Backing::Directory { path, read_only, recursive } => {
            mount.source = path;
            mount.point.rw &= !read_only;
            (mount.non_recursive, mount.hosts_ids) = (!recursive, true);
        }
        Backing::FileSystem(_) if !mount.subpath.is_empty() || mount.scratch => {
            let what = "a subpath or overlay of a volume with a file system of its own";
            return Err(ContainerError::Unsupported(what.into()).into());
        }
        Backing::FileSystem(fs) => mount.filesystem = Some(fs),
    }
    Ok(())
}

/// The same for a plug-in's volume, of which nobody knows where it is before it is mounted.
async fn plugged(
    engine: &Engine,
    mount: &mut MountRecord,
    plugin: String,
    container: &str,
) -> Result<(), EngineError> {
    let wanted = NewVolume {
        labels: mount.labels.clone(),
        anonymous: mount.anonymous,
        options: mount.driver_options.clone(),
        plugin: Some(plugin),
        size: None,
        made_for: mount.anonymous.then(|| container.to_owned()),
    };
    engine.make_plugged(&mount.point.name, wanted).await.map_err(|error| match error {
        EngineError::Volume(error) => ContainerError::Volume(error).into(),
        other => other,
    })?;
    // Its ids are the plug-in's business.
    mount.hosts_ids = true;
    Ok(())
}

/// Finds the files of images that are mounted.
async fn images(engine: &Engine, record: &mut Record) -> Result<(), EngineError> {
    for mount in record.mounts.iter_mut().filter(|mount| mount.point.kind == "image") {
        let image = engine.base_image(&mount.point.source, None).await?;
        if image.host {
            return Err(ContainerError::Unsupported("mounting the image host".into()).into());
        }
        let store = Arc::clone(&engine.0.store);
        let view = blocking::run("look at an image", move || store.snapshots().view(image.chain.as_ref()));
        mount.image = Some(image.id);
        match view.await?? {
            Rootfs::Directory(path) => mount.source = path,
            Rootfs::Overlay { lowers, .. } => {
                mount.lowers = lowers.into_iter().filter_map(directory).collect();
                let length: usize = mount.lowers.iter().map(|path| path.as_os_str().len() + 1).sum();
                if length > MAX_LOWERS {
                    let what = format!("mounting an image of {} layers", mount.lowers.len());
                    return Err(ContainerError::Unsupported(what).into());
                }
                if !mount.subpath.is_empty() {
                    let what = "image-subpath of an image of several layers";
                    return Err(ContainerError::Unsupported(what.into()).into());
                }
            }
        }
    }
    Ok(())
}

/// Bytes of the layers' paths: mount(2) takes one page of options.
const MAX_LOWERS: usize = 3800;

fn directory(lower: Lower) -> Option<PathBuf> {
    match lower {
        Lower::Dir(path) => Some(path),
        Lower::HostView { .. } => None,
    }
}

/// Makes the directories that take what is written over a source which stays as it is.
pub(super) async fn make_scratch(engine: &Engine, record: &Record) -> Result<(), EngineError> {
    let mounts = record.mounts.iter().enumerate().filter(|(_, mount)| mount.scratch);
    let dir = engine.config().container_dir(&record.id);
    let wanted: Vec<(PathBuf, PathBuf)> =
        mounts.map(|(index, mount)| (mount.source.clone(), mounts::scratch_dir(&dir, index))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    blocking::run("make directories for what is written", move || {
        for (source, scratch) in &wanted {
            make_upper(source, scratch).map_err(|error| ContainerError::io("make", scratch, error))?;
        }
        Ok(())
    })
    .await?
}

/// Overlayfs shows the upper directory's own look as the mount's.
fn make_upper(source: &Path, scratch: &Path) -> std::io::Result<()> {
    let upper = scratch.join("upper");
    std::fs::create_dir_all(&upper)?;
    std::fs::create_dir_all(scratch.join("work"))?;
    let look = std::fs::metadata(source)?;
    std::os::unix::fs::chown(&upper, Some(look.uid()), Some(look.gid()))?;
    std::fs::set_permissions(&upper, look.permissions())
}

impl Engine {
    /// Whether a container mounts a volume in memory, which is one for all that run.
    pub(super) fn uses_shared_memory(&self, record: &Record) -> bool {
        record.mounts.iter().filter(|mount| mount.point.kind == "volume").any(|mount| {
            let known = self.store().volumes().get(&mount.point.name).map(|volume| volume.options);
            let options = known.unwrap_or_else(|_| mount.driver_options.clone());
            matches!(local::backing(&options), Ok(Backing::FileSystem(fs)) if fs.is_ram())
        })
    }

    /// A record whose volumes in memory are those of containers that have them already.
    pub(super) fn with_shared_memory(&self, record: &Record) -> Record {
        let mut record = record.clone();
        for mount in &mut record.mounts {
            if mount.filesystem.as_ref().is_some_and(local::FileSystem::is_ram)
                && let Some(path) = self.mounted_in_another(&record.id, &mount.point.name)
            {
                (mount.source, mount.filesystem, mount.hosts_ids) = (path, None, true);
            }
        }
        record
    }

    /// A volume in memory, seen through a process that has it.
    fn mounted_in_another(&self, own: &ContainerId, volume: &str) -> Option<PathBuf> {
        self.0.containers.all().iter().filter(|other| other.id != *own).find_map(|other| {
            let cell = other.cell();
            let pid = cell.record.state.pid()?;
            let mount = cell.record.mounts.iter().find(|mount| mount.point.name == volume)?;
            Some(PathBuf::from(format!("/proc/{pid}/root{}", mount.point.destination)))
        })
    }
}

/// Fills empty volumes with what the image has where they are mounted.
pub(super) async fn fill(
    engine: &Engine,
    record: &Record,
    image: Option<&ChainId>,
) -> Result<(), EngineError> {
    if !record.mounts.iter().any(|mount| mount.copy && mount.plugin().is_some()) {
        return fill_mounted(engine, record, image).await;
    }
    let mounted = engine.with_plugged(record).await?;
    let filled = fill_mounted(engine, &mounted, image).await;
    engine.release_plugged(&record.id).await;
    filled
}

async fn fill_mounted(engine: &Engine, record: &Record, image: Option<&ChainId>) -> Result<(), EngineError> {
    let wanted = record.mounts.iter().filter(|mount| mount.point.kind == "volume" && mount.copy);
    let empty = |mount: &&MountRecord| {
        std::fs::read_dir(&mount.source).is_ok_and(|mut entries| entries.next().is_none())
    };
    let volumes: Vec<(PathBuf, PathBuf)> = wanted
        .filter(empty)
        .map(|mount| (mount.source.clone(), PathBuf::from(&mount.point.destination)))
        .collect();
    if volumes.is_empty() {
        return Ok(());
    }
    let (store, image) = (Arc::clone(&engine.0.store), image.cloned());
    blocking::run("fill volumes from the image", move || {
        for (volume, path) in &volumes {
            store.populate(volume, image.as_ref(), path)?;
        }
        Ok::<_, EngineError>(())
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
    let plugin = engine.store().volumes().get(name).ok().and_then(|known| known.plugin);
    if let Err(error) = engine.destroy_volume(name, plugin, false).await {
        tracing::warn!(volume = name, %error, "remove a volume");
    }
}
