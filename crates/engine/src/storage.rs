//! What the engine keeps in the store about containers: records, snapshots, and what it asks of
//! images.
//!
//! Two kinds of record. A normal container's is in the database, where changes of state are written
//! behind. A `--rm` container's is a file in the exec root, never synced: it is gone with the machine,
//! as the container is.
//!
//! A disk's sync takes most of a millisecond, and a client that has just created a container or
//! removed one needs no more than that a killed engine remembers. So a create and a removal are noted
//! in the exec root, answered, and written durably some milliseconds later: `<id>.json` is a record on
//! its way to the database, `<id>.gone` a removal, with the names of the volumes that go too. What a killed engine has noted the next one writes.
//! Files are removed after the record only.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::shim::Rootfs;
use seacow_spec::{ChainId, ContainerId, Digest, Reference};
use seacow_store::snapshot::PrepareOptions;
use seacow_store::{Durability, RecordKind, SnapshotKey};
use tokio::sync::Notify;

use crate::blocking::lock;
use crate::container::capture::Files;
use crate::container::{Container, ContainerError, Record, normalize};
use crate::error::EngineError;
use crate::{Engine, blocking};

/// How far behind a change its record is written. The container's shim knows better meanwhile.
const BEHIND: Duration = Duration::from_millis(3);

/// Extensions of the files in the exec root.
const RECORD: &str = "json";
const GONE: &str = "gone";

/// What a container takes from its image.
pub(crate) struct BaseImage {
    pub(crate) id: Digest,
    pub(crate) chain: Option<ChainId>,
    pub(crate) config: ContainerConfig,
    /// Its lowest layer is this machine's root file system.
    pub(crate) host: bool,
    /// It has a name: a step of a build has none.
    pub(crate) named: bool,
}

/// Bytes of a container.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    /// Its own.
    pub(crate) own: i64,
    /// With its image's.
    pub(crate) root: i64,
}

/// Containers whose record has changed since it was written.
#[derive(Default)]
pub(crate) struct Dirty {
    ids: Mutex<HashSet<ContainerId>>,
    changed: Notify,
}

impl Engine {
    /// Finds an image for a create. Only the `host` image can take time.
    pub(crate) async fn base_image(
        &self,
        name: &str,
        platform: Option<&str>,
    ) -> Result<BaseImage, EngineError> {
        let is_host = name.parse::<Reference>().is_ok_and(|name| name.is_host());
        let image = if is_host {
            let (store, name) = (Arc::clone(&self.0.store), name.to_owned());
            blocking::run("look up an image", move || store.images().resolve(&name)).await??
        } else {
            self.0.store.images().resolve(name)?
        };
        let config = &image.config;
        if let Some(wanted) = platform.filter(|platform| !platform.is_empty())
            && !fits(wanted, &config.os, &config.architecture)
        {
            return Err(ContainerError::Platform {
                image: name.to_owned(),
                wanted: wanted.to_owned(),
                actual: format!("{}/{}", config.os, config.architecture),
            }
            .into());
        }
        Ok(BaseImage {
            id: image.id.clone(),
            chain: image.chain.clone(),
            config: config.config.clone().unwrap_or_default(),
            host: image.on_host,
            named: !image.names.is_empty(),
        })
    }

    /// The image a name means now.
    pub(crate) fn image_id_of(&self, name: &Reference) -> Option<Digest> {
        // The host image may be made by being asked for, which a list must not do.
        if name.is_host() {
            return None;
        }
        self.0.store.images().resolve(&name.to_string()).ok().map(|image| image.id)
    }

    /// The named images and everything built on them.
    pub(crate) fn descendants<'a>(&self, names: impl Iterator<Item = &'a str>) -> HashSet<String> {
        let images = self.0.store.images();
        let mut found = HashSet::new();
        let mut next: Vec<Digest> =
            names.filter_map(|name| images.resolve(name).ok()).map(|image| image.id).collect();
        let all = images.list();
        while let Some(id) = next.pop() {
            if !found.insert(id.to_string()) {
                continue;
            }
            // By parent where the builder knew it, by layers otherwise.
            let base = all.iter().find(|image| image.id == id);
            let layers = base.map(|image| image.config.rootfs.diff_ids.clone()).unwrap_or_default();
            let built_on = |image: &&seacow_store::Image| {
                image.parent.as_ref() == Some(&id)
                    || (!layers.is_empty()
                        && image.config.rootfs.diff_ids.len() > layers.len()
                        && image.config.rootfs.diff_ids.starts_with(&layers))
            };
            next.extend(all.iter().filter(built_on).map(|image| image.id.clone()));
        }
        found
    }

    /// Makes directories for the writable layer of a container that will be.
    pub(crate) async fn reserve_root(&self, id: &ContainerId) -> Result<(), EngineError> {
        let (store, key) = (Arc::clone(&self.0.store), SnapshotKey::from(id));
        Ok(blocking::run("reserve a container's files", move || store.snapshots().reserve(&key)).await??)
    }

    /// Makes the writable layer of a new container, on the image's layers or on the files of another
    /// container.
    pub(crate) async fn make_root(
        &self,
        record: &Record,
        chain: Option<&ChainId>,
        from: Option<Files>,
    ) -> Result<Rootfs, EngineError> {
        let (store, key) = (Arc::clone(&self.0.store), SnapshotKey::from(&record.id));
        let size = normalize::storage_size(&record.host_config)?;
        let options = PrepareOptions { volatile: record.auto_remove(), size };
        let (chain, logs) = (chain.cloned(), self.config().container_dir(&record.id));
        let made = blocking::run("make a container's files", move || {
            crate::slot::make_directory(&logs)?;
            let made = match from {
                None => store.snapshots().prepare(&key, chain.as_ref(), &options),
                Some(Files { layer, base }) => {
                    store.snapshots().branch(&key, layer.chain_id(), base.as_ref(), &options)
                }
            };
            Ok::<_, EngineError>(made?)
        });
        let rootfs = made.await??;
        self.label_root(record, &rootfs).await?;
        Ok(rootfs)
    }

    /// How a container's files are mounted; nothing may have them mounted.
    pub(crate) async fn rootfs(&self, id: &ContainerId) -> Result<Rootfs, EngineError> {
        let (store, key) = (Arc::clone(&self.0.store), SnapshotKey::from(id));
        Ok(blocking::run("look up a container's files", move || store.snapshots().get(&key)).await??)
    }

    /// The same for showing it, mounted or not.
    pub(crate) fn rootfs_shown(&self, id: &ContainerId) -> Option<Rootfs> {
        self.0.store.snapshots().look(&SnapshotKey::from(id)).ok()
    }

    /// Counts what frozen layers take that nobody has counted yet.
    pub(crate) async fn measure_frozen(&self) -> Result<(), EngineError> {
        if !self.store().layers().list().iter().any(|layer| layer.is_unmeasured()) {
            return Ok(());
        }
        let store = Arc::clone(self.store());
        Ok(blocking::run("count what layers take", move || store.measure_frozen()).await??)
    }

    /// Removes a container's files. What cannot be removed goes at the next boot.
    pub(crate) async fn drop_root(&self, id: &ContainerId) {
        let (store, key) = (Arc::clone(&self.0.store), SnapshotKey::from(id));
        match blocking::run("remove a container's files", move || store.snapshots().remove(&key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(id = id.short(), %error, "remove a container's files"),
            Err(error) => tracing::warn!(id = id.short(), %error, "remove a container's files"),
        }
    }

    /// Bytes of a container's files, counted anew.
    pub(crate) async fn sizes(&self, container: &Container) -> Result<Sizes, EngineError> {
        let (store, key) = (Arc::clone(&self.0.store), SnapshotKey::from(&container.id));
        let measure = move || -> Result<_, EngineError> {
            let mut usage = store.snapshots().usage(&key)?;
            let info = store.snapshots().info(&key)?;
            if info.parent != info.base {
                store.measure_frozen()?;
                let stack = info.parent.and_then(|top| store.layers().stack(&top).ok()).unwrap_or_default();
                let frozen = stack.iter().take_while(|layer| Some(&layer.chain_id) != info.base.as_ref());
                usage.size += frozen.map(|layer| layer.size).sum::<u64>();
            }
            Ok(usage)
        };
        let usage = blocking::run("measure a container", measure).await??;
        let image = container.cell().record.image_id.clone();
        let below = self.0.store.images().get(&image).map_or(0, |image| image.size);
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Sizes { own: signed(usage.size), root: signed(usage.size.saturating_add(below)) })
    }

    fn ephemeral_path(&self, id: &ContainerId) -> PathBuf {
        self.config().records_dir().join(format!("{id}.{RECORD}"))
    }

    fn gone_path(&self, id: &ContainerId) -> PathBuf {
        self.config().records_dir().join(format!("{id}.{GONE}"))
    }

    /// Writes a new container's record: what is answered outlives the engine at once, and the machine
    /// a moment later.
    pub(crate) fn save_new(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        let (bytes, ephemeral) = {
            let cell = container.cell();
            (encode(&cell.record)?, cell.record.auto_remove())
        };
        // Memory, not a disk: 10 µs, less than a hop to another thread.
        put_file(&self.ephemeral_path(&container.id), &bytes)?;
        if ephemeral {
            return Ok(());
        }
        container.noted.store(true, Ordering::Release);
        self.save_later(container);
        Ok(())
    }

    /// Notes that a container is gone, and these volumes with it. [`Engine::forget_record`] follows, with
    /// nobody waiting, and at last [`Engine::drop_gone`].
    pub(crate) fn note_gone(&self, container: &Container, volumes: &[String]) -> Result<(), EngineError> {
        lock(&self.0.dirty.ids).remove(&container.id);
        let ephemeral = container.cell().record.auto_remove();
        let path = self.gone_path(&container.id);
        if !volumes.is_empty() {
            put_file(&path, volumes.join("\n").as_bytes())?;
        } else if !ephemeral {
            std::fs::write(&path, []).map_err(|error| ContainerError::io("write", &path, error))?;
        }
        if ephemeral { delete_file(&self.ephemeral_path(&container.id)) } else { Ok(()) }
    }

    /// Nothing is left of a container, its volumes included.
    pub(crate) fn drop_gone(&self, id: &ContainerId) {
        if let Err(error) = delete_file(&self.gone_path(id)) {
            tracing::warn!(id = id.short(), %error, "a removal stays noted");
        }
    }

    /// Containers that an earlier engine removed, and the volumes that were to go with each.
    pub(crate) async fn left_gone(&self) -> Result<Vec<(ContainerId, Vec<String>)>, EngineError> {
        let engine = self.clone();
        blocking::run("read what removals left", move || {
            let read = |id: ContainerId| {
                let path = engine.gone_path(&id);
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| ContainerError::io("read", &path, error))?;
                Ok((id, text.lines().map(str::to_owned).collect()))
            };
            engine.read_notes()?.0.into_iter().map(read).collect()
        })
        .await?
    }

    /// Writes a container's record as it is when it is written; a normal container's is safe from a
    /// crash when this returns. Nothing is written about a removed one.
    pub(crate) async fn save(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        if container.cell().record.auto_remove() {
            return self.write_now(container);
        }
        let (engine, container) = (self.clone(), Arc::clone(container));
        blocking::run("write a record", move || engine.write_now(&container)).await?
    }

    /// Has the record written soon.
    pub(crate) fn save_later(&self, container: &Container) {
        lock(&self.0.dirty.ids).insert(container.id.clone());
        self.0.dirty.changed.notify_one();
    }

    /// Deletes the record, for good. The container is marked as removed already.
    pub(crate) async fn forget_record(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        lock(&self.0.dirty.ids).remove(&container.id);
        self.release_labels(&container.id);
        let (engine, container) = (self.clone(), Arc::clone(container));
        blocking::run("delete a record", move || {
            let _writing = lock(&container.writing);
            if container.cell().record.auto_remove() {
                return delete_file(&engine.ephemeral_path(&container.id));
            }
            let id = container.id.as_str();
            engine.0.store.records().delete(RecordKind::Container, id, Durability::Durable)?;
            engine.drop_note(&container)
        })
        .await?
    }

    /// Writes what [`Engine::save_later`] was told, for as long as the engine lives.
    pub(crate) async fn write_behind(dirty: Arc<Dirty>, inner: std::sync::Weak<crate::Inner>) {
        loop {
            dirty.changed.notified().await;
            // Whoever caused it is answered first, and a short life is written once.
            tokio::time::sleep(BEHIND).await;
            let Some(inner) = inner.upgrade() else { return };
            Engine(inner).write_dirty().await;
        }
    }

    /// Writes every record that changed.
    pub(crate) async fn write_dirty(&self) {
        let ids = std::mem::take(&mut *lock(&self.0.dirty.ids));
        let containers = ids.iter().filter_map(|id| self.0.containers.get(id));
        // All at a time, so that those for the disk share its sync.
        let writes = containers.map(|container| async move {
            if let Err(error) = self.save(&container).await {
                tracing::warn!(id = container.id.short(), %error, "write a record");
            }
        });
        futures_util::future::join_all(writes).await;
    }

    fn write_now(&self, container: &Container) -> Result<(), EngineError> {
        let _writing = lock(&container.writing);
        let (bytes, ephemeral) = {
            let cell = container.cell();
            if cell.removed {
                return Ok(());
            }
            (encode(&cell.record)?, cell.record.auto_remove())
        };
        if ephemeral {
            return Ok(put_file(&self.ephemeral_path(&container.id), &bytes)?);
        }
        // Durable although nobody may wait: what is not synced is lost with the process, too.
        let id = container.id.as_str();
        self.0.store.records().put(RecordKind::Container, id, bytes, Durability::Durable)?;
        self.drop_note(container)
    }

    /// The database knows better now.
    fn drop_note(&self, container: &Container) -> Result<(), EngineError> {
        if container.noted.swap(false, Ordering::AcqRel) {
            delete_file(&self.ephemeral_path(&container.id))?;
        }
        Ok(())
    }

    /// Every record there is, of both kinds. What an earlier engine has only noted is written first.
    pub(crate) async fn load_records(&self) -> Result<Vec<Record>, EngineError> {
        let engine = self.clone();
        blocking::run("read records", move || {
            let (gone, noted) = engine.read_notes()?;
            let kept = engine.0.store.records();
            for id in gone {
                kept.delete(RecordKind::Container, id.as_str(), Durability::Durable)?;
                delete_file(&engine.ephemeral_path(&id))?;
            }
            let mut records = Vec::new();
            for (id, bytes) in kept.all(RecordKind::Container)? {
                keep_readable(&mut records, &id, &bytes);
            }
            for record in noted {
                if record.auto_remove() {
                    records.push(record);
                    continue;
                }
                // Written meanwhile, and changed perhaps: the database knows better.
                if !records.iter().any(|known| known.id == record.id) {
                    let bytes = encode(&record)?;
                    kept.put(RecordKind::Container, record.id.as_str(), bytes, Durability::Durable)?;
                    records.push(record.clone());
                }
                delete_file(&engine.ephemeral_path(&record.id))?;
            }
            Ok(records)
        })
        .await?
    }

    /// What is in the exec root: containers that are gone, and records of others.
    fn read_notes(&self) -> Result<(Vec<ContainerId>, Vec<Record>), EngineError> {
        let dir = self.config().records_dir();
        let (mut gone, mut records) = (Vec::new(), Vec::new());
        let entries = std::fs::read_dir(&dir).map_err(|error| ContainerError::io("list", &dir, error))?;
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let id = path.file_stem().and_then(|stem| stem.to_str()?.parse::<ContainerId>().ok());
            match (path.extension().and_then(|kind| kind.to_str()), id) {
                (Some(GONE), Some(id)) => gone.push(id),
                (Some(RECORD), Some(_)) => match std::fs::read(&path) {
                    Ok(bytes) => keep_readable(&mut records, &path.display().to_string(), &bytes),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "read a record"),
                },
                // Half-written by an engine that died.
                _ => drop(std::fs::remove_file(&path)),
            }
        }
        records.retain(|record| !gone.contains(&record.id));
        Ok((gone, records))
    }
}

/// Writes a file whole or not at all: a crash of the engine must not leave half of one.
fn put_file(path: &Path, bytes: &[u8]) -> Result<(), ContainerError> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, bytes)
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|error| ContainerError::io("write", path, error))
}

fn delete_file(path: &Path) -> Result<(), EngineError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ContainerError::io("delete", path, error).into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn encode(record: &Record) -> Result<Vec<u8>, ContainerError> {
    serde_json::to_vec(record).map_err(|source| ContainerError::Record {
        step: "write",
        id: record.id.to_string(),
        source,
    })
}

/// A record that cannot be read is left where it is, and said so: a newer engine may read it.
fn keep_readable(records: &mut Vec<Record>, key: &str, bytes: &[u8]) {
    match serde_json::from_slice::<Record>(bytes) {
        Ok(record) if record.version <= crate::container::record::VERSION => records.push(record),
        Ok(record) => {
            tracing::warn!(key, version = record.version, "a container of a newer seacow is left alone")
        }
        Err(error) => tracing::warn!(key, %error, "a container's record cannot be read and is left alone"),
    }
}

/// `linux/amd64[/variant]`, or the architecture alone.
fn fits(wanted: &str, os: &str, architecture: &str) -> bool {
    let normal = |text: &str| match text {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    let parts: Vec<&str> = wanted.split('/').collect();
    match parts.as_slice() {
        [only] => *only == os || normal(only) == architecture,
        [wanted_os, wanted_architecture, ..] => {
            *wanted_os == os && normal(wanted_architecture) == architecture
        }
        [] => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        for fit in ["linux/amd64", "linux", "amd64", "linux/x86_64", "linux/amd64/v2"] {
            assert!(fits(fit, "linux", "amd64"), "{fit}");
        }
        assert!(!fits("linux/arm64", "linux", "amd64") && !fits("windows/amd64", "linux", "amd64"));
    }
}
