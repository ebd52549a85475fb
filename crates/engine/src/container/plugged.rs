//! Volumes of plug-ins, mounted while a container runs: by the plug-in, at the start, until the end.
//!
//! Before a plug-in is asked, a file in the exec root says so (`plugged/<container>.json`). It goes when the
//! plug-in knows that the container needs its volumes no more, whichever engine tells it: one that is
//! killed meanwhile leaves the file to the next. After a boot of the machine nothing is mounted, and
//! there are no files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seacow_spec::ContainerId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::record::{MountRecord, Record};
use super::{Container, ContainerError};
use crate::blocking::lock;
use crate::error::EngineError;
use crate::volume::plugin_named;
use crate::{Engine, blocking};

/// How long a volume's removal waits for those who are about to give it back.
const GIVING_BACK: Duration = Duration::from_secs(60);

/// One volume of a plug-in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Held {
    plugin: String,
    volume: String,
}

/// What plug-ins have mounted for whom.
#[derive(Debug)]
pub(crate) struct Plugged {
    dir: PathBuf,
    held: Mutex<HashMap<ContainerId, BTreeSet<Held>>>,
    /// Counts what was given back.
    changes: watch::Sender<u64>,
}

impl Plugged {
    /// Reads what an earlier engine had mounted.
    pub(crate) fn open(exec_root: &Path) -> std::io::Result<Self> {
        let dir = exec_root.join("plugged");
        std::fs::create_dir_all(&dir)?;
        let mut held = HashMap::new();
        for entry in std::fs::read_dir(&dir)?.filter_map(Result::ok) {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|id| id.parse().ok());
            // A draft was written before the plug-in was asked.
            let read = std::fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
            match (id, read) {
                (Some(id), Some(volumes)) => drop(held.insert(id, volumes)),
                _ => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(Self { dir, held: Mutex::new(held), changes: watch::Sender::new(0) })
    }

    /// Returns when no container holds a volume, or when it takes too long.
    pub(crate) async fn free(&self, volume: &str) {
        let is_free = || !lock(&self.held).values().flatten().any(|held| held.volume == volume);
        let mut changes = self.changes.subscribe();
        if tokio::time::timeout(GIVING_BACK, changes.wait_for(|_| is_free())).await.is_err() {
            tracing::warn!(volume, "a container has not given it back");
        }
    }

    fn file(&self, id: &ContainerId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Notes that plug-ins will be asked.
    fn note(&self, id: &ContainerId, volumes: BTreeSet<Held>) -> std::io::Result<()> {
        let mut held = lock(&self.held);
        // What could not be given back at an earlier end is still held.
        let all: BTreeSet<Held> = held.get(id).into_iter().flatten().cloned().chain(volumes).collect();
        self.write(id, &all)?;
        held.insert(id.clone(), all);
        Ok(())
    }

    fn of(&self, id: &ContainerId) -> BTreeSet<Held> {
        lock(&self.held).get(id).cloned().unwrap_or_default()
    }

    /// Notes what was given back. What was not stays in the file, for the next engine.
    fn given_back(&self, id: &ContainerId, kept: &BTreeSet<Held>) -> std::io::Result<()> {
        lock(&self.held).remove(id);
        self.changes.send_modify(|count| *count += 1);
        match kept.is_empty() {
            true => std::fs::remove_file(self.file(id)),
            false => self.write(id, kept),
        }
    }

    /// The old or the new list, whenever this engine is killed.
    fn write(&self, id: &ContainerId, volumes: &BTreeSet<Held>) -> std::io::Result<()> {
        let draft = self.dir.join(format!("{id}.new"));
        std::fs::write(&draft, serde_json::to_vec(volumes)?)?;
        std::fs::rename(&draft, self.file(id))
    }
}

impl MountRecord {
    /// The plug-in whose volume it is.
    pub(crate) fn plugin(&self) -> Option<&str> {
        plugin_named(&self.point.driver).filter(|_| self.point.kind == "volume")
    }
}

impl Record {
    /// Whether a plug-in has to mount something before it can run.
    pub(crate) fn is_plugged(&self) -> bool {
        self.mounts.iter().any(|mount| mount.plugin().is_some())
    }

    fn set_sources(&mut self, places: &BTreeMap<String, PathBuf>) {
        for mount in self.mounts.iter_mut().filter(|mount| mount.plugin().is_some()) {
            if let Some(place) = places.get(&mount.point.name) {
                mount.point.source = place.display().to_string();
                mount.source.clone_from(place);
            }
        }
    }
}

impl Engine {
    /// Finds out which of a new container's volumes are a plug-in's, where the request does not say.
    pub(super) async fn settle_volume_drivers(&self, record: &mut Record) {
        for mount in &mut record.mounts {
            let named = mount.point.kind == "volume" && !mount.point.name.is_empty();
            if named
                && mount.plugin().is_none()
                && mount.source.as_os_str().is_empty()
                && let Some(plugin) = self.plugin_of_volume(&mount.point.name).await
            {
                mount.point.driver = plugin;
            }
        }
    }

    /// Has plug-ins mount the volumes of a container, and notes in its record where they are.
    ///
    /// # Errors
    /// One of them failed; then none is held any more.
    pub(super) async fn hold_plugged(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        let record = container.record();
        if record.is_plugged() {
            let places = self.mount_plugged(&record).await?;
            container.cell().record.set_sources(&places);
        }
        Ok(())
    }

    /// The same for a container that is not there yet.
    pub(super) async fn with_plugged(&self, record: &Record) -> Result<Record, EngineError> {
        let places = self.mount_plugged(record).await?;
        let mut record = record.clone();
        record.set_sources(&places);
        Ok(record)
    }

    async fn mount_plugged(&self, record: &Record) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        let held = record.mounts.iter().filter_map(|mount| {
            let plugin = mount.plugin()?.to_owned();
            Some(Held { plugin, volume: mount.point.name.clone() })
        });
        let held: BTreeSet<Held> = held.collect();
        let (engine, id, noted) = (self.clone(), record.id.clone(), held.clone());
        let note = blocking::run("note what is mounted", move || engine.0.plugged.note(&id, noted));
        let failed = |error| ContainerError::io("write", &self.0.plugged.file(&record.id), error);
        note.await?.map_err(failed)?;
        let mut places = BTreeMap::new();
        for Held { plugin, volume } in held {
            match self.mount_one(record, &plugin, &volume).await {
                Ok(place) => drop(places.insert(volume, place)),
                Err(error) => {
                    self.release_plugged(&record.id).await;
                    return Err(error);
                }
            }
        }
        Ok(places)
    }

    async fn mount_one(&self, record: &Record, plugin: &str, volume: &str) -> Result<PathBuf, EngineError> {
        let driver = self.volume_plugin("mount", volume, plugin).await?;
        let mounted = driver.mount(volume, record.id.as_str()).await;
        Ok(mounted.map_err(|source| ContainerError::MountVolume { volume: volume.to_owned(), source })?)
    }

    /// Tells the plug-ins that a container needs its volumes no more. What one of them does not answer to is
    /// said to the next engine.
    pub(crate) async fn release_plugged(&self, id: &ContainerId) {
        let held = self.0.plugged.of(id);
        if held.is_empty() {
            return;
        }
        let mut kept = BTreeSet::new();
        for one in held {
            if let Err(error) = self.unmount_one(id, &one).await {
                tracing::warn!(id = id.short(), volume = one.volume, %error, "give a plug-in's volume back");
                kept.insert(one);
            }
        }
        let (engine, owned) = (self.clone(), id.clone());
        let noted =
            blocking::run("note what is mounted", move || engine.0.plugged.given_back(&owned, &kept)).await;
        if let Ok(Err(error)) = noted {
            tracing::warn!(id = id.short(), %error, "note that a plug-in's volumes were given back");
        }
    }

    async fn unmount_one(&self, id: &ContainerId, held: &Held) -> Result<(), EngineError> {
        let driver = self.volume_plugin("unmount", &held.volume, &held.plugin).await?;
        let done = driver.unmount(&held.volume, id.as_str()).await;
        let failed = |source| crate::volume::VolumeError::Plugin {
            verb: "unmount",
            name: held.volume.clone(),
            source,
        };
        Ok(done.map_err(failed)?)
    }

    /// What an earlier engine had mounted for containers that do not run any more is given back.
    pub(crate) fn release_left_plugged(&self) {
        let ids: Vec<ContainerId> = lock(&self.0.plugged.held).keys().cloned().collect();
        let runs = |id: &ContainerId| {
            self.0.containers.get(id).is_some_and(|container| {
                let cell = container.cell();
                // One that has just been found to have ended gives them back with the rest.
                cell.is_alive() || cell.teardown.is_some()
            })
        };
        for id in ids.into_iter().filter(|id| !runs(id)) {
            let (piece, engine) = (self.0.clearing.begin(), self.clone());
            tokio::spawn(async move {
                engine.release_plugged(&id).await;
                drop(piece);
            });
        }
    }
}
