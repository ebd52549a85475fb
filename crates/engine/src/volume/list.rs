//! `GET /volumes` and one of them.

use seacow_spec::docker::volume::{Volume, VolumeList, VolumeUsage};

use super::{LOCAL, VolumeError, document};
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
        let wanted = |volume: &seacow_store::volume::Volume| {
            dangling.is_none_or(|dangling| dangling != users.contains_key(&volume.name))
                && filters.exact("driver", LOCAL)
                && filters.labels("label", &volume.labels)
                && (!filters.contains("name")
                    || filters.values("name").any(|part| volume.name.contains(part)))
        };
        let volumes =
            self.store().volumes().list().iter().filter(|volume| wanted(volume)).map(document).collect();
        Ok(VolumeList { volumes, warnings: None })
    }

    /// One volume.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn volume_inspect(&self, name: &str) -> Result<Volume, EngineError> {
        Ok(document(&self.store().volumes().get(name).map_err(VolumeError::from)?))
    }

    /// All volumes with what they take and how many containers use them.
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
            volumes.list().iter().map(with_usage).collect()
        });
        Ok(counted.await?)
    }
}
