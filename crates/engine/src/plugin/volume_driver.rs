//! The calls of a volume plug-in, each with what is checked of its answer.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::call::Client;
use super::error::PluginError;
use super::retry::{LONG, SHORT};

/// How long one plug-in may hold up a list of all volumes.
const LIST: Duration = Duration::from_secs(10);
/// Volumes of one machine.
pub(super) const LOCAL_SCOPE: &str = "local";
/// The kernel's limit of a path.
const MAX_PATH: usize = 4095;

/// A volume plug-in that answered.
#[derive(Clone, Debug)]
pub(crate) struct VolumeDriver {
    client: Client,
}

/// A volume as its plug-in sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Empty while it is mounted nowhere, or where what was said makes no sense.
    pub(crate) mountpoint: String,
    pub(crate) created: Option<String>,
    /// Whatever the plug-in wants to be shown.
    pub(crate) status: Option<Map<String, Value>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    name: &'a str,
    opts: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Mounting<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Done {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Mounted {
    mountpoint: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Described {
    name: Option<String>,
    mountpoint: Option<String>,
    created_at: Option<String>,
    status: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct One {
    volume: Option<Described>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Many {
    volumes: Option<Vec<Described>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Able {
    capabilities: Option<Capabilities>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Capabilities {
    scope: Option<String>,
}

impl VolumeDriver {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The plug-in's name.
    pub(crate) fn name(&self) -> &str {
        &self.client.name
    }

    /// Makes a volume. Most plug-ins do nothing for one that is there.
    pub(crate) async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), PluginError> {
        let request = Create { name, opts: options };
        self.client.call::<Done>("VolumeDriver.Create", &request, LONG).await.map(drop)
    }

    /// Removes a volume.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), PluginError> {
        self.client.call::<Done>("VolumeDriver.Remove", &Named { name }, SHORT).await.map(drop)
    }

    /// Has a volume mounted for `id`, and says where: an existing directory.
    pub(crate) async fn mount(&self, name: &str, id: &str) -> Result<PathBuf, PluginError> {
        const METHOD: &str = "VolumeDriver.Mount";
        let answer = self.client.call::<Mounted>(METHOD, &Mounting { name, id }, LONG).await?;
        let mut place = answer.mountpoint.unwrap_or_default();
        if place.is_empty() {
            place = self.path(name).await?;
        }
        let wrong = |reason| self.misplaced(METHOD, &place, reason);
        plausible(&place).map_err(wrong)?;
        let path = PathBuf::from(&place);
        let looked = crate::blocking::run("look at a mountpoint", move || std::fs::metadata(path)).await;
        match looked {
            Ok(Ok(found)) if found.is_dir() => Ok(PathBuf::from(place)),
            Ok(Ok(_)) => Err(wrong("is not a directory")),
            Ok(Err(_)) => Err(wrong("does not exist")),
            Err(_) => Err(wrong("could not be looked at")),
        }
    }

    /// Says that `id` needs a volume no more.
    pub(crate) async fn unmount(&self, name: &str, id: &str) -> Result<(), PluginError> {
        self.client.call::<Done>("VolumeDriver.Unmount", &Mounting { name, id }, SHORT).await.map(drop)
    }

    /// One volume.
    pub(crate) async fn get(&self, name: &str) -> Result<Listed, PluginError> {
        const METHOD: &str = "VolumeDriver.Get";
        let answer = self.client.call::<One>(METHOD, &Named { name }, SHORT).await?;
        self.found(METHOD, name, answer)
    }

    /// One volume, if the plug-in says soon that it has it.
    pub(crate) async fn has(&self, name: &str) -> bool {
        const METHOD: &str = "VolumeDriver.Get";
        let answer = self.client.once::<One>(METHOD, &Named { name }, LIST).await;
        answer.and_then(|answer| self.found(METHOD, name, answer)).is_ok()
    }

    fn found(&self, method: &'static str, name: &str, answer: One) -> Result<Listed, PluginError> {
        let none = || PluginError::Refused {
            name: self.client.name.clone(),
            method,
            message: format!("no such volume {name:?}"),
        };
        let volume = listed(answer.volume.ok_or_else(none)?);
        Ok(Listed { name: name.to_owned(), ..volume })
    }

    /// All volumes, but for those whose names could be none of ours.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, PluginError> {
        let answer = self.client.once::<Many>("VolumeDriver.List", &Nothing {}, LIST).await?;
        let volumes = answer.volumes.unwrap_or_default().into_iter().map(listed);
        Ok(volumes.filter(|volume| seacow_store::volume::is_name(&volume.name)).collect())
    }

    /// Whether its volumes are those of one machine or of several. Plug-ins that do not know the question
    /// are local; `None` is no answer at all.
    pub(super) async fn scope(&self) -> Option<&'static str> {
        let answer = self.client.once::<Able>("VolumeDriver.Capabilities", &Nothing {}, LIST).await;
        let able = match answer {
            Ok(able) => able,
            Err(PluginError::Unreachable { .. } | PluginError::TimedOut { .. }) => return None,
            Err(_) => Able::default(),
        };
        let scope = able.capabilities.and_then(|able| able.scope).unwrap_or_default();
        Some(if scope.eq_ignore_ascii_case("global") { "global" } else { LOCAL_SCOPE })
    }

    async fn path(&self, name: &str) -> Result<String, PluginError> {
        let answer = self.client.call::<Mounted>("VolumeDriver.Path", &Named { name }, SHORT).await?;
        Ok(answer.mountpoint.unwrap_or_default())
    }

    fn misplaced(&self, method: &'static str, path: &str, reason: &'static str) -> PluginError {
        let path = path.chars().take(MAX_PATH).collect();
        PluginError::Mountpoint { name: self.client.name.clone(), method, path, reason }
    }
}

fn listed(volume: Described) -> Listed {
    let mountpoint = volume.mountpoint.filter(|path| plausible(path).is_ok());
    Listed {
        name: volume.name.unwrap_or_default(),
        mountpoint: mountpoint.unwrap_or_default(),
        created: volume.created_at.filter(|at| !at.is_empty()),
        status: volume.status.filter(|status| !status.is_empty()),
    }
}

/// Whether a volume can be there at all.
fn plausible(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > MAX_PATH || path.contains('\0') {
        return Err("is no path");
    }
    if !path.starts_with('/') {
        return Err("is not absolute");
    }
    let mut parts = Path::new(path).components();
    if parts.clone().any(|part| part == Component::ParentDir) {
        return Err("leads upwards");
    }
    // The whole host as a volume is a mistake of the plug-in: who wants that binds /.
    if parts.all(|part| part == Component::RootDir) {
        return Err("is the root of the host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_are_none() {
        assert_eq!(plausible("/mnt/volume"), Ok(()));
        for bad in ["", "mnt", "/", "//", "/./", "/mnt/../etc", "/a\0b", &format!("/{}", "x".repeat(5000))] {
            assert!(plausible(bad).is_err(), "{bad:?}");
        }
    }
}
