//! Volumes: data that outlives containers.

mod create;
mod error;
mod list;
pub mod local;
mod plugged;
mod prune;
mod remove;
mod snapshot;
mod users;

use std::collections::BTreeMap;

use seacow_spec::docker::volume::Volume;

pub(crate) use create::plugin_named;
pub use error::VolumeError;

use crate::Engine;
use crate::event::event;

/// The driver of volumes that no plug-in has.
pub(crate) const LOCAL: &str = "local";

impl Engine {
    pub(crate) fn volume_event(&self, action: &str, name: &str, driver: &str) {
        self.emit(event("volume", action, name, BTreeMap::from([("driver".to_owned(), driver.to_owned())])));
    }
}

/// As the API shows it.
fn document(volume: &seacow_store::volume::Volume) -> Volume {
    Volume {
        // Docker tells whole seconds.
        created_at: seacow_spec::Timestamp::from_unix(volume.created.unix_seconds(), 0).to_string(),
        driver: volume.plugin.clone().unwrap_or_else(|| LOCAL.into()),
        labels: Some(volume.labels.clone()).filter(|labels| !labels.is_empty()),
        mountpoint: volume.path.to_string_lossy().into_owned(),
        name: volume.name.clone(),
        options: Some(volume.options.clone()).filter(|options| !options.is_empty()),
        scope: "local".into(),
        // Docker's inspect has no place for it besides.
        status: volume.size.map(|bytes| [("Size".to_owned(), bytes.into())].into_iter().collect()),
        usage_data: None,
    }
}
