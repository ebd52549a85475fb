//! Plug-ins by Docker's protocol: programs beside the engine that serve HTTP on a socket.
//!
//! Vocabulary
//! - *plug-in*: a program that listens somewhere and says at `Plugin.Activate` what it implements. The
//!   engine neither starts nor stops it.
//! - *discovery*: a plug-in is known by the name of its socket or specification file; see [`discover`].
//! - *managed plug-ins* (`docker plugin install`) are another thing, and not built.
//!
//! Nothing is asked before somebody uses a plug-in by name, or wants all of a kind. Its answers are bounded
//! in size and time, and what they say is checked where it is used.

mod call;
mod discover;
mod error;
mod retry;
mod volume_driver;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

pub use error::PluginError;
pub(crate) use volume_driver::{Listed, VolumeDriver};

use crate::blocking::lock;
use call::Client;
use discover::{Address, Places};

/// How long whoever wants to see all drivers waits for those that have not been asked before.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// What a volume plug-in says that it implements.
const VOLUME_DRIVER: &str = "VolumeDriver";
/// The first call to any plug-in.
const ACTIVATE: &str = "Plugin.Activate";
/// More are not looked at when all are wanted: each may hold its answer back.
const MAX_PLUGINS: usize = 64;

/// The plug-ins of this host.
#[derive(Debug)]
pub(crate) struct Plugins {
    places: Places,
    /// What was said at activation, by name, and where.
    active: Mutex<HashMap<String, Active>>,
}

#[derive(Clone, Debug)]
struct Active {
    address: Address,
    implements: Vec<String>,
    /// What it said of the reach of its volumes.
    scope: Option<&'static str>,
}

/// `Plugin.Activate`'s answer.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    #[serde(default)]
    implements: Option<Vec<String>>,
}

impl Plugins {
    /// Those in Docker's directories, and in one of the engine's own.
    pub(crate) fn new(exec_root: &Path) -> Self {
        Self { places: Places::of_host(exec_root), active: Mutex::default() }
    }

    /// The volume driver of a name, activated if it was not.
    ///
    /// # Errors
    /// There is no such plug-in, it does not answer, or is none for volumes.
    pub(crate) async fn volume_driver(&self, name: &str) -> Result<VolumeDriver, PluginError> {
        let client = self.activated(name, None).await?;
        Ok(VolumeDriver::new(client))
    }

    /// All volume drivers that answer, sorted by name. Others are left out: who names them is told why.
    pub(crate) async fn volume_drivers(&self) -> Vec<VolumeDriver> {
        let names: Vec<String> = self.places.names().into_iter().take(MAX_PLUGINS).collect();
        let found = names.iter().map(|name| self.activated(name, Some(FIRST_LOOK)));
        let found = futures_util::future::join_all(found).await;
        found.into_iter().filter_map(Result::ok).map(VolumeDriver::new).collect()
    }

    /// Whether a driver's volumes are those of one machine (`local`) or of several (`global`); asked once.
    pub(crate) async fn scope(&self, driver: &VolumeDriver) -> &'static str {
        if let Some(scope) = lock(&self.active).get(driver.name()).and_then(|active| active.scope) {
            return scope;
        }
        let Some(scope) = driver.scope().await else { return volume_driver::LOCAL_SCOPE };
        if let Some(active) = lock(&self.active).get_mut(driver.name()) {
            active.scope = Some(scope);
        }
        scope
    }

    /// A connection to a plug-in that said it implements volumes. With a limit it is asked once only.
    async fn activated(&self, name: &str, limit: Option<Duration>) -> Result<Client, PluginError> {
        let before = lock(&self.active).get(name).cloned();
        let address = match (self.places.find(name), &before) {
            (Ok(address), _) => address,
            // It is being restarted: its socket comes back.
            (Err(PluginError::NotFound(_)), Some(before)) => before.address.clone(),
            (Err(error), _) => return Err(error),
        };
        let client = Client::new(name, address.clone());
        let implements = match before {
            Some(before) if before.address == address => before.implements,
            Some(_) | None => {
                let answer = match limit {
                    Some(limit) => client.once::<Manifest>(ACTIVATE, &serde_json::json!({}), limit).await,
                    None => client.call::<Manifest>(ACTIVATE, &serde_json::json!({}), retry::SHORT).await,
                };
                let implements = answer?.implements.unwrap_or_default();
                let active = Active { address, implements: implements.clone(), scope: None };
                lock(&self.active).insert(name.to_owned(), active);
                implements
            }
        };
        if implements.iter().any(|what| what == VOLUME_DRIVER) {
            Ok(client)
        } else {
            Err(PluginError::OtherKind { name: name.to_owned(), implements })
        }
    }
}

#[cfg(test)]
mod tests;
