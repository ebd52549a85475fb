//! Volumes of plug-ins: who has which, made and shown.

use seacow_spec::docker::volume::Volume;
use seacow_store::NewVolume;
use seacow_store::volume::Volume as Known;

use super::{LOCAL, VolumeError, document};
use crate::error::EngineError;
use crate::plugin::{Listed, VolumeDriver};
use crate::{Engine, blocking};

impl Engine {
    /// The plug-in whose volume this is: of one that the engine knows, or that a plug-in says it has.
    pub(crate) async fn plugin_of_volume(&self, name: &str) -> Option<String> {
        match self.store().volumes().get(name) {
            Ok(known) => known.plugin,
            Err(_) => self.whose(name).await.map(|driver| driver.name().to_owned()),
        }
    }

    /// The first plug-in that says it has a volume.
    pub(super) async fn whose(&self, name: &str) -> Option<VolumeDriver> {
        let drivers = self.0.plugins.volume_drivers().await;
        let answers = futures_util::future::join_all(drivers.iter().map(|driver| driver.has(name))).await;
        drivers.into_iter().zip(answers).find(|(_, has)| *has).map(|(driver, _)| driver)
    }

    /// A plug-in by its name, to do something with a volume.
    pub(crate) async fn volume_plugin(
        &self,
        verb: &'static str,
        name: &str,
        driver: &str,
    ) -> Result<VolumeDriver, VolumeError> {
        self.0.plugins.volume_driver(driver).await.map_err(|source| VolumeError::Driver {
            verb,
            name: name.to_owned(),
            driver: driver.to_owned(),
            source,
        })
    }

    /// Has a plug-in make a volume that it does not have, and notes whose it is.
    ///
    /// # Errors
    /// The name is malformed or another driver's, or the plug-in is not there or refused.
    pub(crate) async fn make_plugged(&self, name: &str, new: NewVolume) -> Result<Known, EngineError> {
        let plugin = new.plugin.clone().unwrap_or_default();
        if !seacow_store::volume::is_name(name) {
            let invalid = seacow_store::VolumeError::InvalidName(name.to_owned());
            return Err(VolumeError::from(invalid).into());
        }
        if let Ok(known) = self.store().volumes().get(name) {
            if known.plugin.as_ref() == Some(&plugin) {
                return Ok(known);
            }
            let driver = known.plugin.unwrap_or_else(|| LOCAL.to_owned());
            return Err(VolumeError::NameTaken { name: name.to_owned(), driver }.into());
        }
        let driver = self.volume_plugin("create", name, &plugin).await?;
        if !driver.has(name).await {
            let failed = |source| VolumeError::Plugin { verb: "create", name: name.to_owned(), source };
            driver.create(name, &new.options).await.map_err(failed)?;
        }
        let (engine, owned) = (self.clone(), name.to_owned());
        let made = blocking::run("note a volume", move || engine.store().volumes().make(&owned, new));
        let made = made.await?.map_err(VolumeError::from)?;
        self.volume_event("create", name, &plugin);
        Ok(made)
    }

    /// A volume of a plug-in as it is now.
    ///
    /// # Errors
    /// The plug-in is not there, or does not know the volume.
    pub(super) async fn show_plugged(&self, known: &Known, plugin: &str) -> Result<Volume, VolumeError> {
        let driver = self.volume_plugin("get", &known.name, plugin).await?;
        let failed = |source| VolumeError::Plugin { verb: "get", name: known.name.clone(), source };
        let listed = driver.get(&known.name).await.map_err(failed)?;
        let scope = self.0.plugins.scope(&driver).await;
        Ok(Volume { scope: scope.to_owned(), ..told(listed, document(known)) })
    }

    /// All volumes of plug-ins, and what could not be found out. A plug-in that does not answer has those
    /// that the engine knows of it.
    pub(super) async fn list_plugged(&self) -> (Vec<Volume>, Vec<String>) {
        let mut known: Vec<Known> = self.store().volumes().list();
        known.retain(|volume| volume.plugin.is_some());
        let drivers = self.0.plugins.volume_drivers().await;
        let asked = drivers.iter().map(|driver| async {
            (driver.name().to_owned(), self.0.plugins.scope(driver).await, driver.list().await)
        });
        let (mut volumes, mut warnings) = (Vec::new(), Vec::new());
        for (name, scope, listed) in futures_util::future::join_all(asked).await {
            match listed {
                Ok(listed) => {
                    for volume in listed {
                        let is_it = |known: &&Known| {
                            known.name == volume.name && known.plugin.as_ref() == Some(&name)
                        };
                        let base = known.iter().find(is_it).map(document).unwrap_or_default();
                        let base = Volume { scope: scope.to_owned(), driver: name.clone(), ..base };
                        volumes.push(told(volume, base));
                    }
                    known.retain(|volume| volume.plugin.as_ref() != Some(&name));
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
        volumes.extend(known.iter().map(document));
        (volumes, warnings)
    }
}

/// What the engine knows of a volume, with what its plug-in tells.
pub(super) fn told(listed: Listed, base: Volume) -> Volume {
    Volume {
        name: listed.name,
        mountpoint: listed.mountpoint,
        created_at: listed.created.unwrap_or(base.created_at),
        status: listed.status,
        // Docker shows what a plug-in lists of its own accord with nothing beside.
        ..base
    }
}
