//! Prepared shims: everything about a container that can be done before it is asked for.
//!
//! [`prepare`] is the first half of every start: exec directory, shim, namespaces, cgroups, staged
//! mounts, address, link. The [`Pool`] runs it ahead of time for the two ordinary kinds of
//! container; a `create` that fits takes the slot with its id. An empty or broken pool costs a cold
//! start and nothing else. Two of the slots are made into whole containers ([`guess`]).
//! A slot whose engine dies notices the lost connection and removes itself.

mod guess;
mod pool;

use std::path::Path;

use seacow_spec::ContainerId;
use seacow_spec::shim::{PROTOCOL_VERSION, Request};

use crate::Engine;
use crate::blocking;
use crate::container::ContainerError;
use crate::container::spec_build::Template;
use crate::error::EngineError;
use crate::network::Endpoint;
use crate::network::bridge::Link;
use crate::network::files::Names;
use crate::shim::{self, Pending, ShimClient, ShimError};

pub(crate) use guess::Likeness;
pub(crate) use pool::Pool;

/// A shim with namespaces, cgroups, staged mounts and link, and no container yet.
pub(crate) struct Slot {
    pub(crate) id: ContainerId,
    pub(crate) template: Template,
    pub(crate) shim: ShimClient,
    pub(crate) endpoint: Option<Endpoint>,
    /// Its link on the way to be used, unless it is there.
    pub(crate) connecting: Option<Connecting>,
    /// What the files in the exec directory say.
    pub(crate) names: Names,
    /// The container that it is already.
    pub(crate) guess: Option<guess::Guess>,
}

/// A link that exists, while init raises its end and the bridge begins to forward.
pub(crate) struct Connecting {
    raised: Pending,
    link: Link,
}

impl Connecting {
    /// Waits until packets pass.
    ///
    /// # Errors
    /// The link could not be raised, or the shim is gone.
    pub(crate) async fn done(self) -> Result<(), ShimError> {
        self.raised.done().await?;
        crate::network::bridge::await_forwarding(self.link).await;
        Ok(())
    }
}

/// Makes a slot for `id`. What fails half-way leaves nothing.
///
/// # Errors
/// The shim cannot be started, the kernel refuses, or no address is free.
pub(crate) async fn prepare(
    engine: &Engine,
    template: Template,
    id: ContainerId,
    names: Names,
) -> Result<Slot, EngineError> {
    let endpoint = if template.bridged { Some(engine.bridge().lease(template.mac_address)?) } else { None };
    match launch(engine, &template, &id, endpoint.as_ref(), &names).await {
        Ok((shim, connecting)) => Ok(Slot { id, template, shim, endpoint, connecting, names, guess: None }),
        Err(error) => {
            // One that fails takes everything back itself, one that was killed does not.
            if matches!(error, EngineError::Shim(ShimError::Lost)) {
                engine.clean_up_lost(&id).await;
            }
            discard(engine, &id, endpoint.as_ref());
            Err(error)
        }
    }
}

async fn launch(
    engine: &Engine,
    template: &Template,
    id: &ContainerId,
    endpoint: Option<&Endpoint>,
    names: &Names,
) -> Result<(ShimClient, Option<Connecting>), EngineError> {
    tracing::trace!(id = id.short(), "start a shim");
    let (config, target) = (engine.0.clone(), id.clone());
    let (files, address, owner) = (names.clone(), endpoint.cloned(), template.owner);
    let label = template.mount_label(id)?;
    let (stream, child) = blocking::run("start a shim", move || {
        let dir = config.config.exec_dir(&target);
        make_directory(&dir)?;
        make_directory(&config.config.container_dir(&target))?;
        let started = shim::spawn(&config.program, &dir, config.config.open_files)?;
        // While the new program is loaded.
        files.write(&dir, address.as_ref(), &config.config)?;
        crate::network::files::give(&dir, owner, &label)?;
        if let Some(endpoint) = &address {
            crate::network::keep(endpoint, &dir)?;
        }
        Ok::<_, EngineError>(started)
    })
    .await??;
    crate::step!("prepare: shim spawned");
    let stream = tokio::net::UnixStream::from_std(stream)
        .map_err(|source| ContainerError::io("watch the socket of", &engine.config().exec_dir(id), source))?;
    let shim = ShimClient::new(stream, Some(child));
    // Nothing of the greeting's answer is needed: the shim is of our own version.
    drop(shim.send(Request::Hello { version: PROTOCOL_VERSION }, None)?);
    let pid = shim.send(Request::Prepare(Box::new(template.prepare(id)?)), None)?.made().await?;
    crate::step!("prepare: namespaces made");
    let Some(endpoint) = endpoint else { return Ok((shim, None)) };
    let link = match engine.bridge().connect(pid, endpoint).await {
        Ok(link) => link,
        Err(error) => {
            // Its process may be gone because the shim was killed, which takes nothing back then.
            if shim.delete().await.is_err() {
                engine.clean_up_lost(id).await;
            }
            return Err(error.into());
        }
    };
    crate::step!("prepare: link made");
    let raised = shim.send(Request::Connect(Box::new(endpoint.config())), None)?;
    Ok((shim, Some(Connecting { raised, link })))
}

pub(crate) fn make_directory(path: &Path) -> Result<(), ContainerError> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(ContainerError::io("make directory", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes back what a slot holds besides its shim, which ends with its connection.
fn discard(engine: &Engine, id: &ContainerId, endpoint: Option<&Endpoint>) {
    tracing::trace!(id = id.short(), "discard what was prepared");
    if let Some(endpoint) = endpoint {
        engine.bridge().release(endpoint.address);
    }
    // A container that could not be started keeps its own.
    if engine.0.containers.get(id).is_none() {
        engine.release_labels(id);
    }
    let (exec, data) = (engine.config().exec_dir(id), engine.config().container_dir(id));
    tokio::task::spawn_blocking(move || {
        for dir in [exec, data] {
            remove_tree(&dir);
        }
    });
}

/// Removes a directory of ours; what cannot be removed is said and found again at the next boot.
pub(crate) fn remove_tree(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), %error, "remove directory");
        }
        Ok(()) | Err(_) => {}
    }
}

impl Slot {
    /// Gives everything back. The shim removes cgroups and namespaces before it answers.
    pub(crate) async fn destroy(self, engine: &Engine) {
        if self.shim.is_lost() {
            engine.clean_up_lost(&self.id).await;
        } else if let Err(error) = self.shim.delete().await {
            tracing::warn!(id = self.id.short(), %error, "remove a prepared container");
        }
        self.take_back(engine).await;
    }

    /// Takes back what it holds besides its shim.
    async fn take_back(&self, engine: &Engine) {
        engine.drop_root(&self.id).await;
        discard(engine, &self.id, self.endpoint.as_ref());
    }
}

async fn make(engine: &Engine, template: Template) -> Result<Slot, EngineError> {
    let id = ContainerId::random().map_err(ContainerError::Random)?;
    let names = Names::default_of(&id);
    let mut slot = prepare(engine, template, id, names).await?;
    match complete(engine, &mut slot).await {
        Ok(()) => Ok(slot),
        Err(error) => {
            slot.destroy(engine).await;
            Err(error)
        }
    }
}

/// What a slot has, and a container that is made cold does not wait for.
async fn complete(engine: &Engine, slot: &mut Slot) -> Result<(), EngineError> {
    engine.reserve_root(&slot.id).await?;
    if let Some(connecting) = slot.connecting.take() {
        connecting.done().await?;
    }
    Ok(())
}
