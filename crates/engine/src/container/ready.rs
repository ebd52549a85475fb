//! Shims that have been told everything but the start, and how long they are kept.
//!
//! `docker run` is create, attach, start in a row: between the first and the last the shim mounts.
//! A container that is not started within [`KEPT_READY`] gives its shim back and starts cold; so a
//! thousand created containers hold no thousand shims.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use seacow_spec::ErrorReport;
use seacow_spec::shim::{Program, Request, Rootfs};
use tokio::sync::{OwnedMutexGuard, watch};

use super::record::Record;
use super::spec_build::{self, Parts, Template};
use super::{Container, ContainerError, Link, Ready, userns};
use crate::error::EngineError;
use crate::network::files::Names;
use crate::network::{Endpoint, Mode};
use crate::remap::Remap;
use crate::shim::{ShimClient, ShimError, Signal, Sink};
use crate::slot::{self, Slot};
use crate::{Engine, blocking};

/// How long a container that was created but not started keeps its shim.
const KEPT_READY: Duration = Duration::from_secs(5);
/// How many may keep one at a time: 110 kB each.
const MAX_READY: usize = 64;

/// Counts the shims that are kept for containers that were not started.
#[derive(Debug, Default)]
pub(crate) struct ReadyCount(AtomicUsize);

impl Engine {
    /// Whether one more container may be kept ready.
    pub(super) fn may_keep_ready(&self) -> bool {
        self.0.ready.0.load(Ordering::Relaxed) < MAX_READY
    }

    /// Gives a prepared shim its container. The shim works while the caller goes on; what comes
    /// of it is in [`Ready::outcome`].
    async fn adopt(&self, container: &Arc<Container>, slot: Slot, rootfs: Rootfs) -> Result<(), EngineError> {
        let record = container.record();
        let Slot { template, shim, endpoint, connecting, .. } = slot;
        shim.listen(self.sink(container));
        let request = self.create_request(&record, &template, rootfs)?;
        let sources = sources(&record).await;
        let pending = shim.send(Request::Create(Box::new(request)), None)?;
        let (sender, outcome) = watch::channel(None);
        tokio::spawn(async move {
            // What failed first is what went wrong.
            let connected = match connecting {
                Some(connecting) => connecting.done().await,
                None => Ok(()),
            };
            let made = match connected {
                Ok(()) => pending.made().await.map(|_| ()),
                Err(error) => Err(error),
            };
            sender.send_replace(Some(made.map_err(ShimError::into_report)));
        });
        self.is_ready(container, endpoint, Ready { shim, outcome, sources });
        Ok(())
    }

    /// What a prepared shim is told to become this container.
    pub(crate) fn create_request(
        &self,
        record: &Record,
        template: &Template,
        rootfs: Rootfs,
    ) -> Result<seacow_spec::shim::Create, EngineError> {
        let files = match &record.network {
            // Address and names are the other container's.
            Mode::Container(other) => self.config().exec_dir(other),
            Mode::Bridge | Mode::None | Mode::Host => self.config().exec_dir(&record.id),
        };
        let shm = self.ipc_donor(record)?.map(super::ipc::Donor::mount);
        let record = &self.with_shared_memory(record);
        let parts = Parts { config: self.config(), template, rootfs, files: &files, shm };
        Ok(spec_build::create(record, parts)?)
    }

    /// Gives a shim that is this container already what it executes.
    pub(super) async fn adopt_guessed(
        &self,
        container: &Arc<Container>,
        slot: Slot,
        program: Program,
    ) -> Result<(), EngineError> {
        let Slot { shim, endpoint, .. } = slot;
        shim.listen(self.sink(container));
        let pending = match shim.send(Request::Program(Box::new(program)), None) {
            Ok(pending) => pending,
            Err(error) => return self.not_adopted(container, endpoint, error.into()).await,
        };
        let (sender, outcome) = watch::channel(None);
        tokio::spawn(async move {
            sender.send_replace(Some(pending.done().await.map_err(ShimError::into_report)));
        });
        self.is_ready(container, endpoint, Ready { shim, outcome, sources: Vec::new() });
        Ok(())
    }

    fn is_ready(&self, container: &Container, endpoint: Option<Endpoint>, ready: Ready) {
        let mut cell = container.cell();
        cell.record.endpoint = endpoint;
        cell.link = Link::Ready(Arc::new(ready));
        self.0.ready.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins the cold path for a container that will, in all likelihood, be started next: what is
    /// done by then, the start need not wait for. A failure is the start's to meet again and report.
    pub(super) fn make_ready_meanwhile(&self, container: &Arc<Container>) {
        let Ok(guard) = Arc::clone(&container.ops).try_lock_owned() else { return };
        if container.cell().removed {
            // By somebody who has seen it before its creator got here.
            return;
        }
        let (engine, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let _busy = engine.0.pool.busy();
            if let Err(error) = engine.make_ready(&container).await {
                let error = ErrorReport::of(&error);
                tracing::debug!(id = container.id.short(), %error, "prepare a container before its start");
            }
            drop(guard);
            engine.keep_ready_for_a_while(&container);
        });
    }

    /// Makes the missing directories of `-v` mounts, as Docker does, and labels what is to be labelled.
    pub(super) async fn make_sources(&self, record: &Record) -> Result<(), EngineError> {
        let mounts = record.mounts.iter().filter(|mount| mount.create_source);
        let paths: Vec<PathBuf> = mounts.map(|mount| mount.source.clone()).collect();
        if paths.is_empty() {
            return self.label_mounts(record).await;
        }
        let owner = userns::remap(record, self.config()).map(Remap::root);
        blocking::run("make bind mount sources", move || {
            for path in paths.iter().filter(|path| std::fs::symlink_metadata(path).is_err()) {
                make_source(path, owner).map_err(|error| {
                    ContainerError::io("error while creating mount source path", path, error)
                })?;
            }
            Ok::<_, ContainerError>(())
        })
        .await??;
        self.label_mounts(record).await
    }

    /// Prepares a shim for a container that has none: the cold path.
    pub(super) async fn make_ready(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        let record = container.record();
        // Before its pid is looked up: it may run and not share.
        self.ipc_donor(&record)?;
        let template = Template::of(&record, self.config(), |other| self.pid_of(other))?;
        self.make_sources(&record).await?;
        let rootfs = self.rootfs(&record.id).await?;
        let slot = slot::prepare(self, template, record.id.clone(), Names::of(&record)).await?;
        self.adopt_or_undo(container, slot, rootfs).await
    }

    pub(super) async fn adopt_or_undo(
        &self,
        container: &Arc<Container>,
        slot: Slot,
        rootfs: Rootfs,
    ) -> Result<(), EngineError> {
        let endpoint = slot.endpoint.clone();
        match self.adopt(container, slot, rootfs).await {
            Ok(()) => Ok(()),
            Err(error) => self.not_adopted(container, endpoint, error).await,
        }
    }

    /// Takes back what a slot brought that could not be adopted. Its shim goes with the connection; where
    /// it had gone before, nobody is to blame, and the container starts without.
    async fn not_adopted(
        &self,
        container: &Container,
        endpoint: Option<Endpoint>,
        error: EngineError,
    ) -> Result<(), EngineError> {
        let lost = matches!(error, EngineError::Shim(ShimError::Lost));
        if lost {
            self.clean_up_lost(&container.id).await;
        }
        if let Some(endpoint) = endpoint {
            self.bridge().release(endpoint.address);
        }
        container.cell().record.endpoint = None;
        self.remove_exec_dir(container).await;
        if lost { Ok(()) } else { Err(error) }
    }

    /// Main process of a running container whose namespaces are to be joined.
    fn pid_of(&self, reference: &str) -> Result<i32, ContainerError> {
        let other = self.0.containers.find(reference)?;
        let pid = other.cell().record.state.pid();
        pid.ok_or_else(|| ContainerError::JoinNotRunning(other.id.to_string()))
    }

    /// The ready shim of a container that is being started, if it has one that is still good.
    /// Waits for what is under way.
    pub(super) async fn take_ready(
        &self,
        container: &Arc<Container>,
    ) -> Option<Result<ShimClient, ErrorReport>> {
        let ready = match &container.cell().link {
            Link::Ready(ready) => Arc::clone(ready),
            Link::None | Link::Live(_) => return None,
        };
        let mut outcome = ready.outcome.clone();
        let made = match outcome.wait_for(Option::is_some).await {
            Ok(made) => made.clone(),
            Err(_) => return None,
        };
        let now = sources(&container.record()).await;
        if ready.shim.is_lost() || ready.sources != now {
            return None;
        }
        made.map(|made| made.map(|()| ready.shim.clone()))
    }

    /// Forgets the count of a shim that is started or given back.
    pub(super) fn no_longer_ready(&self) {
        self.0.ready.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a shim back from a container that was not started. Its root file system is unmounted
    /// when this returns.
    pub(crate) async fn let_go(&self, container: &Arc<Container>) {
        let (ready, endpoint, held) = {
            let mut cell = container.cell();
            let held = std::mem::take(&mut cell.held_ports);
            match std::mem::replace(&mut cell.link, Link::None) {
                Link::Ready(ready) => (ready, cell.record.endpoint.take(), held),
                other @ (Link::None | Link::Live(_)) => {
                    (cell.link, cell.held_ports) = (other, held);
                    return;
                }
            }
        };
        self.no_longer_ready();
        ready.shim.mute();
        if ready.shim.is_lost() {
            self.clean_up_lost(&container.id).await;
        } else if let Err(error) = ready.shim.delete().await {
            tracing::warn!(id = container.id.short(), %error, "give back an unstarted container's shim");
        }
        if let Some(endpoint) = endpoint {
            self.disconnect(&endpoint, held);
        }
        self.remove_exec_dir(container).await;
    }

    /// Removes the exec directory after its shim is gone.
    pub(crate) async fn remove_exec_dir(&self, container: &Container) {
        tracing::trace!(id = container.id.short(), "remove the exec directory");
        let dir = self.config().exec_dir(&container.id);
        let _ = blocking::run("remove an exec directory", move || slot::remove_tree(&dir)).await;
    }

    /// Lets go of the shim if the container is not started in time.
    pub(super) fn keep_ready_for_a_while(&self, container: &Arc<Container>) {
        if !matches!(container.cell().link, Link::Ready(_)) {
            return;
        }
        let (engine, container) = (Arc::downgrade(&self.0), Arc::downgrade(container));
        tokio::spawn(async move {
            tokio::time::sleep(KEPT_READY).await;
            give_back(&engine, &container).await;
        });
    }

    /// Waits until nothing is under way on this container and, if it does not run, until no shim
    /// has its root file system mounted. While the guard lives, nothing is started.
    pub(crate) async fn settle(&self, container: &Arc<Container>) -> OwnedMutexGuard<()> {
        let guard = Arc::clone(&container.ops).lock_owned().await;
        self.let_go(container).await;
        super::exit::await_teardown(container).await;
        guard
    }

    /// What happens when this container's shim says something.
    pub(crate) fn sink(&self, container: &Arc<Container>) -> Sink {
        let (engine, container) = (Arc::downgrade(&self.0), Arc::downgrade(container));
        Arc::new(move |signal: Signal| {
            if let (Some(engine), Some(container)) = (engine.upgrade(), container.upgrade()) {
                Engine(engine).on_signal(&container, signal);
            }
        })
    }
}

/// Makes a directory and its parents, which belong to the container's root where they are new.
fn make_source(path: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|level| std::fs::symlink_metadata(level).is_err()).collect();
    std::fs::create_dir_all(path)?;
    let Some((uid, gid)) = owner else { return Ok(()) };
    missing.iter().try_for_each(|level| std::os::unix::fs::lchown(level, Some(uid), Some(gid)))
}

async fn give_back(engine: &Weak<crate::Inner>, container: &Weak<Container>) {
    let (Some(engine), Some(container)) = (engine.upgrade(), container.upgrade()) else { return };
    // Somebody is at it: a start, which needs the shim, or a removal, which takes it.
    if let Ok(_guard) = container.ops.try_lock() {
        Engine(engine).let_go(&container).await;
    }
}

/// Device and inode of every bind mount's source. On a thread that may block: it may lie on a file
/// system of the network.
async fn sources(record: &Record) -> Vec<Option<(u64, u64)>> {
    let binds = record.mounts.iter().filter(|mount| mount.point.kind == "bind");
    let paths: Vec<PathBuf> = binds.map(|mount| mount.source.clone()).collect();
    if paths.is_empty() {
        return Vec::new();
    }
    let look = |path: &PathBuf| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    blocking::run("look at bind mount sources", move || paths.iter().map(look).collect())
        .await
        .unwrap_or_default()
}
