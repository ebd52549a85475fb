//! Prepared shims: everything about a container that can be done before it is asked for.
//!
//! [`prepare`] is the first half of every start: exec directory, shim, namespaces, cgroups, staged
//! mounts, address, link. The [`Pool`] runs it ahead of time for the two ordinary kinds of
//! container; a `create` that fits takes the slot with its id. An empty or broken pool costs a cold
//! start and nothing else.
//!
//! Slots are made when nobody waits: after [`PAUSE`] without a create or start, one at a time, and
//! never while one is under way (an immediate refill slowed starts from 3.7 to 4.4 ms in the lab).
//! A slot whose engine dies notices the lost connection and removes itself.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seacow_spec::shim::{PROTOCOL_VERSION, Request};
use seacow_spec::{ContainerId, ErrorReport};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::blocking::{self, lock};
use crate::config::PoolSizes;
use crate::container::ContainerError;
use crate::container::spec_build::Template;
use crate::error::EngineError;
use crate::network::Endpoint;
use crate::network::bridge::Link;
use crate::network::files::Names;
use crate::shim::{self, Pending, ShimClient, ShimError};
use crate::{Config, Engine};

/// Quiet time before a slot is made.
const PAUSE: Duration = Duration::from_millis(15);
/// Time before another attempt after one failed, doubled each time up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

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
        Ok((shim, connecting)) => Ok(Slot { id, template, shim, endpoint, connecting, names }),
        Err(error) => {
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
    let (stream, child) = blocking::run("start a shim", move || {
        let dir = config.config.exec_dir(&target);
        make_directory(&dir)?;
        make_directory(&config.config.container_dir(&target))?;
        let started = shim::spawn(&config.program, &dir, config.config.open_files)?;
        // While the new program is loaded.
        files.write(&dir, address.as_ref(), &config.config)?;
        crate::network::files::give(&dir, owner)?;
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
    let pid = shim.send(Request::Prepare(Box::new(template.prepare(id))), None)?.made().await?;
    crate::step!("prepare: namespaces made");
    let Some(endpoint) = endpoint else { return Ok((shim, None)) };
    let link = engine.bridge().connect(pid, endpoint).await?;
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
        if let Err(error) = self.shim.delete().await {
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

/// The slots that wait for a `create`.
pub(crate) struct Pool {
    kinds: Vec<Kind>,
    /// Creates and starts under way.
    busy: AtomicUsize,
    /// When the last of them ended.
    last: Mutex<Instant>,
    changed: Notify,
    closed: std::sync::atomic::AtomicBool,
    /// Held while a slot is made and put, so that closing can wait for it.
    making: tokio::sync::Mutex<()>,
}

struct Kind {
    template: Template,
    size: usize,
    slots: Mutex<VecDeque<Slot>>,
}

/// While it lives, no slot is made.
pub(crate) struct Busy(Arc<Pool>);

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.last) = Instant::now();
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_one();
        }
    }
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let kind = |bridged, size| Kind {
            template: Template::common(config, bridged),
            size,
            slots: Mutex::new(VecDeque::with_capacity(size)),
        };
        // Another runtime's containers have nothing that could be prepared for them.
        let sizes = if config.runtimes.is_ours_default() { config.pool } else { PoolSizes::OFF };
        Arc::new(Self {
            kinds: vec![kind(true, sizes.bridge), kind(false, sizes.none)],
            busy: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            changed: Notify::new(),
            closed: std::sync::atomic::AtomicBool::new(false),
            making: tokio::sync::Mutex::new(()),
        })
    }

    /// Keeps the pool from making slots for now.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// A slot for a container of that kind, if one is there and alive.
    pub(crate) fn take(&self, template: &Template, engine: &Engine) -> Option<Slot> {
        let kind = self.kinds.iter().find(|kind| kind.template == *template)?;
        loop {
            let slot = lock(&kind.slots).pop_front()?;
            if !slot.shim.is_lost() {
                return Some(slot);
            }
            let engine = engine.clone();
            tokio::spawn(async move {
                engine.clean_up_lost(&slot.id).await;
                slot.take_back(&engine).await;
            });
        }
    }

    /// How many slots wait.
    pub(crate) fn len(&self) -> usize {
        self.kinds.iter().map(|kind| lock(&kind.slots).len()).sum()
    }

    /// How many there would be at most.
    pub(crate) fn capacity(&self) -> usize {
        self.kinds.iter().map(|kind| kind.size).sum()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The kind that lacks a slot.
    fn wanting(&self) -> Option<&Kind> {
        self.kinds.iter().find(|kind| lock(&kind.slots).len() < kind.size)
    }

    /// Whether nobody has created or started anything for [`PAUSE`]; otherwise how long to wait.
    fn rest(&self) -> Option<Duration> {
        if self.busy.load(Ordering::Acquire) > 0 {
            return Some(PAUSE);
        }
        let quiet = lock(&self.last).elapsed();
        (quiet < PAUSE).then(|| PAUSE - quiet)
    }

    /// Makes slots for as long as the engine lives.
    pub(crate) async fn fill(self: Arc<Self>, engine: std::sync::Weak<crate::Inner>) {
        let mut retry = RETRY;
        while !self.is_closed() {
            let Some(kind) = self.wanting() else {
                self.changed.notified().await;
                continue;
            };
            if let Some(rest) = self.rest() {
                tokio::time::sleep(rest).await;
                continue;
            }
            let Some(engine) = engine.upgrade().map(Engine) else { return };
            let making = self.making.lock().await;
            match make(&engine, kind.template.clone()).await {
                Ok(slot) => {
                    retry = RETRY;
                    self.put(kind, slot, &engine).await;
                }
                Err(error) => {
                    drop(making);
                    tracing::warn!(error = %ErrorReport::of(&error), "prepare a container");
                    drop(engine);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn put(&self, kind: &Kind, slot: Slot, engine: &Engine) {
        let unwanted = {
            let mut slots = lock(&kind.slots);
            if self.is_closed() {
                Some(slot)
            } else {
                slots.push_back(slot);
                None
            }
        };
        if let Some(slot) = unwanted {
            slot.destroy(engine).await;
        }
    }

    /// Makes no more slots and removes those that wait.
    pub(crate) async fn close(&self, engine: &Engine) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
        drop(self.making.lock().await);
        let slots: Vec<Slot> =
            self.kinds.iter().flat_map(|kind| std::mem::take(&mut *lock(&kind.slots))).collect();
        futures_util::future::join_all(slots.into_iter().map(|slot| slot.destroy(engine))).await;
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
