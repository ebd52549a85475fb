//! A container's files at one moment, as a frozen layer: what snapshots, clones and commits are made of.
//!
//! Of a container that does not run, its upper directory becomes the layer. Of one that runs, the
//! changed files are copied while it is frozen, by sharing their extents where the file system can: a
//! mounted upper directory cannot become a lower layer. [`Engine::capture_still`] is that step alone,
//! for whoever holds the container still by other means.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seacow_spec::ChainId;
use seacow_spec::lifecycle::State;
use seacow_store::layer::{Layer, UpperMode};
use seacow_store::snapshot::SnapshotKey;

use super::{Container, ContainerError};
use crate::error::EngineError;
use crate::{Engine, blocking};

/// In the exec directory of a container that the engine froze for a moment: a later engine thaws it.
const FROZEN: &str = "frozen";

/// What a container's files were.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Keeps them.
    pub(crate) layer: Layer,
    /// Those of the layers that are the image's.
    pub(crate) base: Option<ChainId>,
}

/// How they are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    /// Hold a running container still meanwhile.
    pub(crate) pause: bool,
    /// They are on the disk when it is done.
    pub(crate) durable: bool,
}

impl Engine {
    /// Captures a container's files; the caller holds `ops`.
    pub(crate) async fn capture(
        &self,
        container: &Arc<Container>,
        how: Capture,
    ) -> Result<Files, EngineError> {
        let state = container.cell().record.state.clone();
        if container.cell().removed || matches!(state, State::Removing) {
            return Err(ContainerError::Gone(container.id.to_string()).into());
        }
        if !state.is_alive() {
            self.let_go(container).await;
            super::exit::await_teardown(container).await;
            let files = self.capture_still(container, UpperMode::Move).await;
            return if how.durable { self.synced(files).await } else { files };
        }
        if how.durable {
            // What can be written before is not waited for while it is frozen.
            self.sync().await?;
        }
        let files = if how.pause && matches!(state, State::Running { .. }) {
            self.capture_frozen(container).await
        } else {
            self.capture_still(container, UpperMode::Copy).await
        };
        if how.durable { self.synced(files).await } else { files }
    }

    /// Captures the files of a container in which nothing writes: with [`UpperMode::Copy`] one that is
    /// frozen or whose processes are stopped, with [`UpperMode::Move`] one that does not run and has no
    /// shim. The caller holds `ops`. Takes as long as there are changed files.
    pub(crate) async fn capture_still(
        &self,
        container: &Container,
        mode: UpperMode,
    ) -> Result<Files, EngineError> {
        let (store, key) = (Arc::clone(self.store()), SnapshotKey::from(&container.id));
        let captured = blocking::run("capture a container's files", move || {
            let snapshots = store.snapshots();
            let base = snapshots.info(&key)?.base;
            Ok::<_, EngineError>(Files { layer: snapshots.freeze(&key, mode)?, base })
        });
        captured.await?
    }

    async fn capture_frozen(&self, container: &Arc<Container>) -> Result<Files, EngineError> {
        let _still = container.still.write().await;
        container.cell().held = true;
        let files = match self.freeze_marked(container).await {
            Ok(()) => self.capture_still(container, UpperMode::Copy).await,
            Err(error) => Err(error),
        };
        self.thaw_marked(container).await;
        container.cell().held = false;
        files
    }

    /// Runs `work` while none of these containers does anything. They are in the order of their ids: two
    /// who want several wait for each other in one direction.
    pub(crate) async fn while_still<T>(
        &self,
        containers: &[Arc<Container>],
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mut held = Vec::new();
        let mut stopped = Ok(());
        for container in containers {
            let guards =
                (Arc::clone(&container.ops).lock_owned().await, container.still.clone().write_owned().await);
            if !matches!(container.cell().record.state, State::Running { .. }) {
                // Nothing is started while this is held.
                held.push((container, guards, false));
                continue;
            }
            container.cell().held = true;
            stopped = self.freeze_marked(container).await;
            held.push((container, guards, true));
            if stopped.is_err() {
                break;
            }
        }
        let done = match stopped {
            Ok(()) => work.await,
            Err(error) => Err(error),
        };
        for (container, _guards, froze) in held {
            if froze {
                self.thaw_marked(container).await;
                container.cell().held = false;
            }
        }
        done
    }

    /// Freezes for a moment; one that ended just now is as still.
    async fn freeze_marked(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        let mark = self.mark(container);
        std::fs::write(&mark, []).map_err(|error| ContainerError::io("write", &mark, error))?;
        match self.freeze_locked(container, true).await {
            Err(error) if container.cell().is_alive() => {
                remove_mark(&mark);
                Err(error)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Thaws a container that an engine froze for a moment; this one, or an earlier one that was killed.
    pub(crate) async fn thaw_marked(&self, container: &Arc<Container>) {
        let mark = self.mark(container);
        if !mark.exists() {
            return;
        }
        let frozen = container.cell().is_paused();
        if frozen
            && let Err(error) = self.freeze_locked(container, false).await
            && container.cell().is_paused()
        {
            tracing::warn!(id = container.id.short(), %error, "thaw after a capture");
        }
        remove_mark(&mark);
    }

    fn mark(&self, container: &Container) -> PathBuf {
        self.config().exec_dir(&container.id).join(FROZEN)
    }

    /// Lets go of captured files; they go as far as nobody else has them.
    pub(crate) async fn let_files_go(&self, files: Files) {
        let store = Arc::clone(self.store());
        let released = blocking::run("let go of files", move || store.layers().release(files.layer)).await;
        if let Ok(Err(error)) = released {
            tracing::warn!(%error, "let go of a container's captured files");
        }
    }

    async fn synced(&self, files: Result<Files, EngineError>) -> Result<Files, EngineError> {
        let files = files?;
        self.sync().await?;
        Ok(files)
    }

    async fn sync(&self) -> Result<(), EngineError> {
        let store = Arc::clone(self.store());
        let synced = blocking::run("write containers' files out", move || store.sync_snapshots()).await?;
        Ok(synced.map_err(seacow_store::SnapshotError::from)?)
    }
}

/// Not there is fine: the directory goes with the container's run.
fn remove_mark(path: &Path) {
    let _ = std::fs::remove_file(path);
}
