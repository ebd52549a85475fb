//! Looking into a container's files from outside, whatever state it is in.
//!
//! A running container is entered through its process's root, so that volumes, tmpfs and whatever
//! it mounted itself are there. One that does not run is mounted for the purpose, and held still
//! meanwhile: two mounts of one writable layer would corrupt it.

use std::path::PathBuf;
use std::sync::Arc;

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
        if let Some(root) = running_root(container)? {
            return Ok(work(&root));
        }
        let _still = Handle::current().block_on(self.settle(container));
        // It may have been started while we waited.
        if let Some(root) = running_root(container)? {
            return Ok(work(&root));
        }
        if container.cell().removed {
            return Err(ContainerError::Gone(container.id.to_string()).into());
        }
        let rootfs = self.store().snapshots().get(&SnapshotKey::from(&container.id))?;
        let runtime = Handle::current();
        runtime.block_on(self.hold_plugged(container))?;
        let done = self.store().with_mounted(&rootfs, &binds(container), work);
        runtime.block_on(self.release_plugged(&container.id));
        Ok(done?)
    }
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
