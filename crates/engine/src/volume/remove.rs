//! `DELETE /volumes/{name}`.

use super::VolumeError;
use crate::error::EngineError;
use crate::{Engine, blocking};

impl Engine {
    /// Removes a volume with its data. With `force`, one that is not there is fine.
    ///
    /// # Errors
    /// There is none of that name, or containers use it.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<(), EngineError> {
        match self.remove_volume(name).await {
            Err(EngineError::Volume(VolumeError::Store(seacow_store::volume::VolumeError::NotFound(_))))
                if force =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.store().volumes().get(name).map_err(VolumeError::from)?;
        if let Some(users) = self.volume_users().remove(name) {
            return Err(VolumeError::InUse { name: name.to_owned(), users }.into());
        }
        let (engine, owned) = (self.clone(), name.to_owned());
        let removed = blocking::run("remove a volume", move || engine.store().volumes().remove(&owned));
        removed.await?.map_err(VolumeError::from)?;
        self.volume_event("destroy", name);
        Ok(())
    }
}
