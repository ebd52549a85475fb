//! Which containers use which volume.

use std::collections::BTreeMap;

use crate::Engine;

impl Engine {
    /// Ids of containers by the names of the volumes that they mount.
    pub(crate) fn volume_users(&self) -> BTreeMap<String, Vec<String>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.0.containers.all() {
            let cell = container.cell();
            for mount in cell.record.mounts.iter().filter(|mount| mount.point.kind == "volume") {
                users.entry(mount.point.name.clone()).or_default().push(container.id.to_string());
            }
        }
        users
    }
}
