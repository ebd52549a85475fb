//! Volumes: data that outlives containers.

mod create;
mod error;
mod list;
pub mod local;
mod prune;
mod remove;
mod snapshot;
mod users;

use std::collections::BTreeMap;

use seacow_spec::docker::volume::Volume;

pub use error::VolumeError;

use crate::Engine;
use crate::event::event;

/// The only driver.
pub(crate) const LOCAL: &str = "local";

impl Engine {
    pub(crate) fn volume_event(&self, action: &str, name: &str) {
        self.emit(event("volume", action, name, BTreeMap::from([("driver".to_owned(), LOCAL.to_owned())])));
    }
}

/// As the API shows it.
fn document(volume: &seacow_store::volume::Volume) -> Volume {
    Volume {
        // Docker tells whole seconds.
        created_at: seacow_spec::Timestamp::from_unix(volume.created.unix_seconds(), 0).to_string(),
        driver: LOCAL.into(),
        labels: Some(volume.labels.clone()).filter(|labels| !labels.is_empty()),
        mountpoint: volume.path.to_string_lossy().into_owned(),
        name: volume.name.clone(),
        options: Some(volume.options.clone()).filter(|options| !options.is_empty()),
        scope: "local".into(),
        usage_data: None,
    }
}
