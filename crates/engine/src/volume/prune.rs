//! `POST /volumes/prune`.

use std::collections::BTreeMap;

use seacow_spec::docker::volume::VolumesPruned;

use crate::Engine;
use crate::error::EngineError;
use crate::event::event;
use crate::filter::Filters;

const KEYS: &[&str] = &["all", "label", "label!"];

impl Engine {
    /// Removes volumes that no container uses: anonymous ones, or all with `all=true`.
    ///
    /// # Errors
    /// A filter is unknown or its value is not.
    pub async fn volume_prune(&self, filters: Filters) -> Result<VolumesPruned, EngineError> {
        filters.only(KEYS)?;
        let all = filters.boolean("all")?.unwrap_or(false);
        let users = self.volume_users();
        let mut pruned = VolumesPruned { volumes_deleted: Some(Vec::new()), space_reclaimed: 0 };
        for volume in self.volumes_with_usage().await? {
            let labels = volume.labels.clone().unwrap_or_default();
            let anonymous = self.store().volumes().get(&volume.name).is_ok_and(|volume| volume.anonymous);
            let wanted = (all || anonymous)
                && !users.contains_key(&volume.name)
                && filters.labels("label", &labels)
                && filters.labels_absent("label!", &labels);
            // One that a container took meanwhile stays.
            if wanted && self.volume_remove(&volume.name, false).await.is_ok() {
                pruned.space_reclaimed +=
                    volume.usage_data.and_then(|usage| u64::try_from(usage.size).ok()).unwrap_or(0);
                pruned.volumes_deleted.get_or_insert_default().push(volume.name);
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
        self.emit(event("volume", "prune", "", attributes));
        Ok(pruned)
    }
}
