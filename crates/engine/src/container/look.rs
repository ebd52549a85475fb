//! Looking into a container's files from outside, whatever state it is in.
//!
//! A running container is entered through its process's root, so that volumes, tmpfs and whatever
//! it mounted itself are there. One that does not run is mounted for the purpose, and held still
//! meanwhile: two mounts of one writable layer would corrupt it.

use std::path::PathBuf;
use std::sync::Arc;

use seacow_spec::ContainerId;
use seacow_spec::shim::Rootfs;
use seacow_store::archive::{ArchiveError, Bind, ContainerRoot};
use seacow_store::snapshot::SnapshotKey;
use tokio::runtime::Handle;

use super::Container;
use super::error::ContainerError;
use crate::Engine;
use crate::error::EngineError;

impl Engine {
    /// Calls `work` with the container's root. Must be called on a thread that may block.
    ///
    /// # Errors
    /// The container is gone, or its files cannot be mounted.
    pub(super) fn look_into<T: Send>(
        &self,
        container: &Arc<Container>,
        work: impl FnOnce(&ContainerRoot) -> T + Send,
    ) -> Result<T, EngineError> {
        self.enter(self.hold(container)?, work)
    }

    /// The same with the roots of two containers, in the order in which they are named.
    pub(super) fn look_into_both<T: Send>(
        &self,
        one: &Arc<Container>,
        other: &Arc<Container>,
        work: impl FnOnce(&ContainerRoot, &ContainerRoot) -> T + Send,
    ) -> Result<T, EngineError> {
        if one.id == other.id {
            return self.look_into(one, |root| work(root, root));
        }
        // Always in the order of their ids: two who want both wait for each other in one direction.
        let first = one.id < other.id;
        let (held, next) = if first { (one, other) } else { (other, one) };
        let held = self.hold(held)?;
        let next = match self.hold(next) {
            Ok(next) => next,
            Err(error) => {
                self.let_root_go(&held);
                return Err(error);
            }
        };
        // Before the first root is entered: in there is no runtime to wait with.
        let runtime = Handle::current();
        self.enter(held, |root| {
            let _runtime = runtime.enter();
            self.enter(next, |second| if first { work(root, second) } else { work(second, root) })
        })?
    }

    /// Holds a container's root as it is: one that does not run stays so.
    fn hold(&self, container: &Arc<Container>) -> Result<Held, EngineError> {
        if let Some(root) = running_root(container)? {
            return Ok(Held::Running(root));
        }
        let still = Handle::current().block_on(self.settle(container));
        // It may have been started while we waited.
        if let Some(root) = running_root(container)? {
            return Ok(Held::Running(root));
        }
        if container.cell().removed {
            return Err(ContainerError::Gone(container.id.to_string()).into());
        }
        let rootfs = self.store().snapshots().get(&SnapshotKey::from(&container.id))?;
        Handle::current().block_on(self.hold_plugged(container))?;
        Ok(Held::Still { rootfs, binds: binds(container), id: container.id.clone(), _still: still })
    }

    fn enter<T: Send>(
        &self,
        held: Held,
        work: impl FnOnce(&ContainerRoot) -> T + Send,
    ) -> Result<T, EngineError> {
        let done = match &held {
            Held::Running(root) => Ok(work(root)),
            Held::Still { rootfs, binds, .. } => self.store().with_mounted(rootfs, binds, work),
        };
        self.let_root_go(&held);
        Ok(done?)
    }

    fn let_root_go(&self, held: &Held) {
        if let Held::Still { id, .. } = held {
            Handle::current().block_on(self.release_plugged(id));
        }
    }
}

/// A container's root, held.
enum Held {
    /// Its process's.
    Running(ContainerRoot),
    /// To be mounted; nothing is started meanwhile.
    Still { rootfs: Rootfs, binds: Vec<Bind>, id: ContainerId, _still: tokio::sync::OwnedMutexGuard<()> },
}

/// The root of a container's main process, if there is one.
fn running_root(container: &Container) -> Result<Option<ContainerRoot>, ArchiveError> {
    let pid = || container.cell().record.state.pid();
    let Some(before) = pid() else { return Ok(None) };
    let root = ContainerRoot::of_process(before);
    // Still the same after the root was opened: it was that process's and not a later one's.
    if pid() == Some(before) { root.map(Some) } else { Ok(None) }
}

/// Volumes and bind mounts, which belong to what the user sees.
fn binds(container: &Container) -> Vec<Bind> {
    let cell = container.cell();
    let mounts =
        cell.record.mounts.iter().filter(|mount| matches!(mount.point.kind.as_str(), "bind" | "volume"));
    mounts
        // A source that is gone cannot be shown; the start would say so.
        .filter(|mount| mount.source.exists())
        .map(|mount| Bind {
            source: mount.source.clone(),
            destination: PathBuf::from(&mount.point.destination),
            read_only: !mount.point.rw,
        })
        .collect()
}
