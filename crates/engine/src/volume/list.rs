//! `GET /volumes` and one of them.

use std::collections::BTreeMap;

use seacow_spec::docker::volume::{Volume, VolumeList, VolumeUsage};

use super::{VolumeError, document, plugged};
use crate::error::EngineError;
use crate::filter::Filters;
use crate::{Engine, blocking};

const KEYS: &[&str] = &["dangling", "driver", "label", "name"];

impl Engine {
    /// Volumes, sorted by name.
    ///
    /// # Errors
    /// A filter is unknown or its value is not.
    pub async fn volume_list(&self, filters: Filters) -> Result<VolumeList, EngineError> {
        filters.only(KEYS)?;
        let dangling = filters.boolean("dangling")?;
        let users = self.volume_users();
        let wanted = |volume: &Volume| {
            dangling.is_none_or(|dangling| dangling != users.contains_key(&volume.name))
                && filters.exact("driver", &volume.driver)
                && filters.labels("label", volume.labels.as_ref().unwrap_or(&BTreeMap::new()))
                && (!filters.contains("name")
                    || filters.values("name").any(|part| volume.name.contains(part)))
        };
        let (mut volumes, warnings) = self.list_plugged().await;
        let own = self.store().volumes().list();
        volumes.extend(own.iter().filter(|volume| volume.plugin.is_none()).map(document));
        volumes.retain(wanted);
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(VolumeList { volumes, warnings: Some(warnings).filter(|warnings| !warnings.is_empty()) })
    }

    /// One volume.
    ///
    /// # Errors
    /// There is none of that name, or its plug-in does not answer.
    pub async fn volume_inspect(&self, name: &str) -> Result<Volume, EngineError> {
        let none = match self.store().volumes().get(name) {
            Ok(known) => {
                return Ok(match &known.plugin {
                    None => document(&known),
                    Some(plugin) => self.show_plugged(&known, plugin).await?,
                });
            }
            Err(none) => VolumeError::from(none),
        };
        // Made by somebody else.
        let Some(driver) = self.whose(name).await else { return Err(none.into()) };
        let failed = |source| VolumeError::Plugin { verb: "get", name: name.to_owned(), source };
        let listed = driver.get(name).await.map_err(failed)?;
        let scope = self.0.plugins.scope(&driver).await.to_owned();
        Ok(plugged::told(listed, Volume { driver: driver.name().to_owned(), scope, ..Volume::default() }))
    }

    /// All volumes of the store with what they take and how many containers use them.
    pub(crate) async fn volumes_with_usage(&self) -> Result<Vec<Volume>, EngineError> {
        let engine = self.clone();
        let counted = blocking::run("count volumes", move || {
            let users = engine.volume_users();
            let volumes = engine.store().volumes();
            let with_usage = |volume: &seacow_store::volume::Volume| {
                // One that is removed meanwhile takes nothing.
                let size = volumes.size(&volume.name).unwrap_or(0);
                let usage = VolumeUsage {
                    ref_count: users
                        .get(&volume.name)
                        .map_or(0, |ids| i64::try_from(ids.len()).unwrap_or(i64::MAX)),
                    size: i64::try_from(size).unwrap_or(i64::MAX),
                };
                Volume { usage_data: Some(usage), ..document(volume) }
            };
            volumes.list().iter().filter(|volume| volume.plugin.is_none()).map(with_usage).collect()
        });
        Ok(counted.await?)
    }
}
