//! `POST /containers/{id}/clone`: new containers that go on from the files of another one.
//!
//! A clone has the other's configuration, with an id, a name, an address and a log of its own. Named
//! volumes and bind mounts are the same ones; of anonymous volumes it gets copies. It is created, not
//! started.

use std::sync::Arc;

use seacow_spec::lifecycle::State;
use seacow_spec::{ContainerId, Timestamp};

use super::capture::{Capture, Files};
use super::create::{Origin, Plan};
use super::record::Record;
use super::{Container, ContainerError, Invalid};
use crate::error::EngineError;
use crate::storage::BaseImage;
use crate::{Caller, Engine};

/// Clones that one call may make: as many as one bridge connects.
const MAX_CLONES: usize = 1000;

/// What is cloned how.
#[derive(Clone, Debug, Default)]
pub struct CloneOptions {
    /// How many; one at least.
    pub count: usize,
    /// Name of the one, or what the names of several begin with; invented if absent.
    pub name: Option<String>,
    /// From this snapshot; from the present files if absent.
    pub snapshot: Option<String>,
}

impl CloneOptions {
    /// What the clone of this number is to be called.
    fn name_of(&self, number: usize) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(if self.count == 1 { name.clone() } else { format!("{name}-{number}") })
    }
}

impl Engine {
    /// Makes containers from another one's files, all of the same moment. Gives their ids.
    ///
    /// # Errors
    /// There is no such container or snapshot, a name is malformed or taken, or the disk failed; then
    /// there is none of them.
    pub async fn clone_container(
        &self,
        reference: &str,
        options: CloneOptions,
        caller: Caller,
    ) -> Result<Vec<String>, EngineError> {
        if options.count == 0 || options.count > MAX_CLONES {
            return Err(Invalid::CloneCount(MAX_CLONES).into());
        }
        let name = options.name_of(1);
        if let Some(name) = name.filter(|name| !seacow_spec::names::is_valid(name)) {
            return Err(Invalid::Name(name).into());
        }
        let source = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("clone a container", async move {
            let _busy = engine.0.pool.busy();
            let files = {
                let _one = source.ops.lock().await;
                match &options.snapshot {
                    Some(snapshot) => engine.files_of(&source, snapshot)?,
                    None => engine.capture(&source, Capture { pause: true, durable: false }).await?,
                }
            };
            let made = match engine.may_clone(&files, caller) {
                Ok(()) => engine.make_clones(&source, &files, &options).await,
                Err(error) => Err(error),
            };
            engine.let_files_go(files).await;
            made
        })
        .await
    }

    pub(super) fn may_clone(&self, files: &Files, caller: Caller) -> Result<(), EngineError> {
        let stack = self.store().layers().stack(files.layer.chain_id());
        let stack = stack.map_err(seacow_store::SnapshotError::from)?;
        let on_host = stack.last().is_some_and(|layer| layer.kind == seacow_store::layer::LayerKind::Host);
        if on_host && !caller.may_use_host_image() {
            return Err(ContainerError::HostImage.into());
        }
        Ok(())
    }

    async fn make_clones(
        &self,
        source: &Arc<Container>,
        files: &Files,
        options: &CloneOptions,
    ) -> Result<Vec<String>, EngineError> {
        let record = source.record();
        let mut ids = Vec::new();
        for number in 1..=options.count {
            match self.make_clone(&record, files, options.name_of(number)).await {
                Ok(id) => ids.push(id),
                Err(error) => {
                    for id in ids {
                        if let Err(error) = self.remove(&id, super::remove::ALL).await {
                            tracing::warn!(id, %error, "take a clone back");
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(ids)
    }

    async fn make_clone(
        &self,
        source: &Record,
        files: &Files,
        name: Option<String>,
    ) -> Result<String, EngineError> {
        let record = record_of(source, name.as_deref())?;
        let image = BaseImage {
            id: record.image_id.clone(),
            chain: files.base.clone(),
            config: record.config.clone(),
            host: false,
            named: false,
        };
        let template = self.own_template(&record)?;
        let origin = Origin { files: files.clone(), mounts: source.mounts.clone() };
        let plan = Plan { record, template, image, warnings: Vec::new(), origin: Some(origin) };
        Ok(self.build(name, plan).await?.id)
    }
}

/// What a clone has of its own.
pub(super) fn record_of(source: &Record, name: Option<&str>) -> Result<Record, ContainerError> {
    let mut record = Record {
        // Replaced when a prepared container is taken.
        id: ContainerId::random().map_err(ContainerError::Random)?,
        name: name.unwrap_or_default().to_owned(),
        created: Timestamp::now(),
        // Two of one hardware address on one bridge would lose each other's packets.
        mac_address: None,
        endpoint: None,
        state: State::Created { failure: None },
        finished_at: None,
        error: String::new(),
        // Of its own id.
        labels: None,
        restart_count: 0,
        secret_env: Vec::new(),
        ..source.clone()
    };
    record.config.mac_address = None;
    // The host's ports are the source's; a clone's are any that are free.
    for binding in record.host_config.port_bindings.values_mut().flatten().flatten() {
        binding.host_port.clear();
    }
    if record.config.hostname == source.id.short() {
        record.config.hostname.clear();
    }
    for mount in record.mounts.iter_mut().filter(|mount| mount.anonymous) {
        if mount.plugin().is_some() {
            let what = format!("cloning the anonymous volume at {} of a plug-in", mount.point.destination);
            return Err(ContainerError::Unsupported(what));
        }
        mount.point.name.clear();
        mount.source = std::path::PathBuf::new();
    }
    Ok(record)
}
