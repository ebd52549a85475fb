//! `DELETE /volumes/{name}`.

use super::{LOCAL, VolumeError};
use crate::error::EngineError;
use crate::{Engine, blocking};

impl Engine {
    /// Removes a volume with its data. With `force`, one that is not there is fine.
    ///
    /// # Errors
    /// There is none of that name, or containers use it.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<(), EngineError> {
        match self.remove_volume(name, force).await {
            Err(EngineError::Volume(VolumeError::Store(seacow_store::volume::VolumeError::NotFound(_))))
                if force =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn remove_volume(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let known = self.store().volumes().get(name).map_err(VolumeError::from);
        let plugin = match known {
            Ok(known) => known.plugin,
            // A plug-in may have it that was never used here.
            Err(none) => Some(self.whose(name).await.ok_or(none)?.name().to_owned()),
        };
        if let Some(users) = self.volume_users().remove(name) {
            return Err(VolumeError::InUse { name: name.to_owned(), users }.into());
        }
        self.destroy_volume(name, plugin, force).await
    }

    /// Removes a volume that nobody uses. With `force` one is forgotten whose plug-in did not remove it.
    pub(crate) async fn destroy_volume(
        &self,
        name: &str,
        plugin: Option<String>,
        force: bool,
    ) -> Result<(), EngineError> {
        let refused = match &plugin {
            None => None,
            Some(plugin) => self.remove_plugged(name, plugin).await.err(),
        };
        if let Some(error) = refused {
            if force {
                drop(self.forget_volume(name).await?);
            }
            return Err(error.into());
        }
        match (self.forget_volume(name).await?, &plugin) {
            // One that the engine had not known.
            (Err(seacow_store::VolumeError::NotFound(_)), Some(_)) => {}
            (other, _) => other.map_err(VolumeError::from)?,
        }
        self.volume_event("destroy", name, plugin.as_deref().unwrap_or(LOCAL));
        Ok(())
    }

    async fn forget_volume(&self, name: &str) -> Result<Result<(), seacow_store::VolumeError>, EngineError> {
        let (engine, name) = (self.clone(), name.to_owned());
        Ok(blocking::run("remove a volume", move || engine.store().volumes().remove(&name)).await?)
    }

    async fn remove_plugged(&self, name: &str, plugin: &str) -> Result<(), VolumeError> {
        // A container that was removed a moment ago may not have given it back yet.
        self.0.plugged.free(name).await;
        let driver = self.volume_plugin("remove", name, plugin).await?;
        let failed = |source| VolumeError::Plugin { verb: "remove", name: name.to_owned(), source };
        driver.remove(name).await.map_err(failed)
    }
}
