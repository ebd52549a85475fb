//! What builds leave behind when their daemon is killed.

use crate::Engine;
use crate::container::remove::RemoveOptions;

/// Marks the container of a build step. Its value says nothing.
pub(super) const STEP_LABEL: &str = "seacow.build-step";

impl Engine {
    /// Removes steps that nobody waits for any more, and contexts that nobody builds from. The
    /// container of a step that has ended stays, as after a failed build.
    pub(crate) async fn clear_away_builds(&self) {
        for root in [&self.config().data_root, &self.config().exec_root] {
            let temporary = root.join(super::context::DIRECTORY);
            if let Err(error) = std::fs::remove_dir_all(&temporary)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!("cannot remove {}: {error}", temporary.display());
            }
        }
        if let Err(error) = super::contexts::forget_other_boots(&self.config().data_root) {
            tracing::warn!("look for build contexts of another boot: {error}");
        }
        if let Err(error) = super::Caches::sweep(&self.config().data_root) {
            tracing::warn!("look for caches of builds that were being removed: {error}");
        }
        for container in self.0.containers.all() {
            let unfinished = {
                let cell = container.cell();
                let labels = cell.record.config.labels.as_ref();
                let step = labels.is_some_and(|labels| labels.contains_key(STEP_LABEL));
                step && cell.record.state.exit().is_none()
            };
            if !unfinished {
                continue;
            }
            let options = RemoveOptions { force: true, volumes: true, link: false };
            match self.remove(container.id.as_str(), options).await {
                Ok(()) => tracing::info!(id = container.id.short(), "the step of a killed build was removed"),
                Err(error) => {
                    tracing::warn!(id = container.id.short(), %error, "remove the step of a killed build")
                }
            }
        }
    }
}
