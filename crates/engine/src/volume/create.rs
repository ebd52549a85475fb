//! `POST /volumes/create`.

use seacow_spec::docker::volume::{Volume, VolumeCreate};
use seacow_store::NewVolume;

use super::{LOCAL, VolumeError, document, local};
use crate::error::EngineError;
use crate::{Engine, blocking};

/// Docker's mark of volumes that nobody named.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

impl Engine {
    /// Makes a volume, or finds that there is one of that name.
    ///
    /// # Errors
    /// The name is malformed, or driver or options are not there.
    pub async fn volume_create(&self, request: VolumeCreate) -> Result<Volume, EngineError> {
        check(&request)?;
        let VolumeCreate { mut name, driver, mut labels, driver_opts: options, .. } = request;
        let anonymous = name.is_empty();
        if anonymous {
            name = seacow_spec::id::random_hex().map_err(VolumeError::Random)?;
            labels.insert(ANONYMOUS_LABEL.into(), String::new());
        }
        if plugin_named(&driver).is_some() {
            let new = NewVolume { labels, anonymous, options, plugin: Some(driver), ..NewVolume::default() };
            let engine = self.clone();
            return self
                .finish("make a volume", async move {
                    engine.make_plugged(&name, new).await?;
                    engine.volume_inspect(&name).await
                })
                .await;
        }
        let known = self.store().volumes().get(&name).ok();
        if let Some(plugin) = known.as_ref().and_then(|known| known.plugin.clone()) {
            if driver == LOCAL {
                return Err(VolumeError::NameTaken { name, driver: plugin }.into());
            }
            return self.volume_inspect(&name).await;
        }
        let engine = self.clone();
        let size = local::size(&options)?;
        let made = blocking::run("make a volume", move || {
            let new = NewVolume { labels, anonymous, options, size, ..NewVolume::default() };
            engine.store().volumes().make(&name, new)
        });
        let volume = made.await?.map_err(VolumeError::from)?;
        if known.is_none() {
            self.volume_event("create", &volume.name, LOCAL);
        }
        Ok(document(&volume))
    }
}

/// The plug-in that a driver's name means.
pub(crate) fn plugin_named(driver: &str) -> Option<&str> {
    Some(driver).filter(|driver| !matches!(*driver, "" | LOCAL))
}

fn check(request: &VolumeCreate) -> Result<(), VolumeError> {
    if request.cluster_volume_spec.as_ref().is_some_and(|spec| !spec.is_null()) {
        return Err(VolumeError::Cluster);
    }
    // A plug-in's options are its own.
    if plugin_named(&request.driver).is_some() {
        return Ok(());
    }
    local::backing(&request.driver_opts).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(check(&VolumeCreate { driver: "local".into(), ..VolumeCreate::default() }).is_ok());
        let options: std::collections::BTreeMap<_, _> = [("typo".to_owned(), "tmpfs".to_owned())].into();
        let plugged =
            VolumeCreate { driver: "nfs".into(), driver_opts: options.clone(), ..VolumeCreate::default() };
        assert!(check(&plugged).is_ok());
        assert!(check(&VolumeCreate { driver_opts: options, ..VolumeCreate::default() }).is_err());
    }
}
