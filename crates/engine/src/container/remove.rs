//! `DELETE /containers/{id}`, and the removal of `--rm` containers at their end.
//!
//! The removal is noted first; then name and id are free, listeners and waiters are told. The rest
//! happens in the background: the record is deleted durably, then go the files, after the shim has
//! unmounted them. A crash in between leaves files without a record, which the next boot removes.

use std::sync::Arc;

use seacow_spec::lifecycle::{Event, State};

use super::{Container, ContainerError, volumes};
use crate::error::EngineError;
use crate::{Engine, blocking, slot};

/// What `DELETE` may be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// Its anonymous volumes as well.
    pub volumes: bool,
    /// Remove a link instead (not implemented).
    pub link: bool,
}

/// Whatever it does, and all that is its own.
pub(super) const ALL: RemoveOptions = RemoveOptions { force: true, volumes: true, link: false };

impl Engine {
    /// Removes a container.
    ///
    /// # Errors
    /// It does not exist, runs and is not to be killed, or its removal cannot be noted.
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<(), EngineError> {
        if options.link {
            return Err(ContainerError::RemoveLink.into());
        }
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("remove a container", async move {
            let _one = container.ops.lock().await;
            engine.remove_locked(&container, options).await
        })
        .await
    }

    async fn remove_locked(
        &self,
        container: &Arc<Container>,
        options: RemoveOptions,
    ) -> Result<(), EngineError> {
        let state = container.cell().record.state.clone();
        match state {
            State::Removing => return Err(ContainerError::RemovalInProgress(container.id.to_string()).into()),
            State::Running { .. } | State::Paused { .. } if options.force => {
                self.kill_and_wait(container).await?
            }
            State::Running { .. } | State::Paused { .. } => {
                let name = container.cell().record.name.clone();
                return Err(ContainerError::RemoveRunning { name, status: state.status() }.into());
            }
            State::Created { .. } | State::Starting | State::Exited { .. } => {}
        }
        if container.cell().removed {
            // It was killed, and being a `--rm` container it went by itself.
            return Ok(());
        }
        self.remove_now(container, options.volumes, None).await
    }

    /// Removes a container without a process; the caller holds `ops`. `code` is for those who wait
    /// for a removal that a failed start caused.
    pub(crate) async fn remove_now(
        &self,
        container: &Arc<Container>,
        volumes: bool,
        code: Option<i32>,
    ) -> Result<(), EngineError> {
        let before = {
            let mut cell = container.cell();
            let before = cell.record.state.clone();
            cell.apply(Event::Remove).map_err(ContainerError::from)?;
            cell.removed = true;
            before
        };
        if let Err(error) = self.note_gone(container, &own_volumes(container, volumes)) {
            let mut cell = container.cell();
            cell.removed = false;
            cell.record.state = before;
            return Err(error);
        }
        self.vanish(container, code);
        self.remove_files(container, volumes);
        Ok(())
    }

    /// Removes an ended `--rm` container. Runs on the reading task: nothing here waits.
    pub(super) fn remove_ended(&self, container: &Arc<Container>, code: i32) {
        {
            let mut cell = container.cell();
            if cell.apply(Event::Remove).is_err() {
                return;
            }
            cell.removed = true;
        }
        // Where there are volumes: the record that tells of them goes first.
        let volumes = own_volumes(container, true);
        if !volumes.is_empty()
            && let Err(error) = self.note_gone(container, &volumes)
        {
            tracing::warn!(id = container.id.short(), %error, "note that a container and its volumes go");
        }
        self.vanish(container, Some(code));
        let piece = self.0.clearing.begin();
        let (engine, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            await_remains(&container).await;
            engine.remove_files(&container, true);
            drop(piece);
        });
    }

    /// Ends what an earlier engine had begun: volumes go that were to go with their containers.
    pub(crate) async fn finish_removals(&self) -> Result<(), EngineError> {
        for (id, volumes) in self.left_gone().await? {
            for name in volumes.iter().filter(|name| self.store().volumes().get(name).is_ok()) {
                volumes::discard(self, name).await;
            }
            self.drop_gone(&id);
        }
        Ok(())
    }

    /// From here on nobody finds it.
    fn vanish(&self, container: &Arc<Container>, code: Option<i32>) {
        let name = container.cell().record.name.clone();
        self.0.containers.remove(&container.id, &name);
        self.forget_execs(container);
        self.emit(container.event("destroy", &[]));
        container.tell(|life| {
            life.removed = true;
            if let Some(code) = code {
                life.code = code;
            }
        });
    }

    /// Removes what is on disk: the record, and the files once nothing is mounted any more.
    fn remove_files(&self, container: &Arc<Container>, volumes: bool) {
        let piece = self.0.clearing.begin();
        let (engine, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            if let Err(error) = engine.forget_record(&container).await {
                // The note stays as well: the next boot tries again, with the files still there.
                tracing::warn!(id = container.id.short(), %error, "delete a container's record");
                return;
            }
            engine.let_go(&container).await;
            await_remains(&container).await;
            engine.remove_exec_dir(&container).await;
            engine.drop_snapshots(&container).await;
            engine.drop_root(&container.id).await;
            let logs = engine.config().container_dir(&container.id);
            let _ = blocking::run("remove logs", move || slot::remove_tree(&logs)).await;
            for name in own_volumes(&container, volumes) {
                volumes::discard(&engine, &name).await;
            }
            engine.drop_gone(&container.id);
            drop(piece);
        });
    }
}

/// Names of the volumes that go with a container, if they do.
fn own_volumes(container: &Container, wanted: bool) -> Vec<String> {
    let cell = container.cell();
    let own = cell.record.mounts.iter().filter(|mount| wanted && mount.anonymous);
    own.map(|mount| mount.point.name.clone()).collect()
}

/// Waits until the last run's remains are gone, in their own time.
async fn await_remains(container: &Container) {
    let teardown = container.cell().teardown.clone();
    if let Some(teardown) = teardown {
        teardown.finished().await;
    }
}
