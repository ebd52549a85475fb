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
        let VolumeCreate { mut name, mut labels, driver_opts: options, .. } = request;
        let anonymous = name.is_empty();
        if anonymous {
            name = seacow_spec::id::random_hex().map_err(VolumeError::Random)?;
            labels.insert(ANONYMOUS_LABEL.into(), String::new());
        }
        let known = self.store().volumes().get(&name).is_ok();
        let engine = self.clone();
        let made = blocking::run("make a volume", move || {
            engine.store().volumes().make(&name, NewVolume { labels, anonymous, options })
        });
        let volume = made.await?.map_err(VolumeError::from)?;
        if !known {
            self.volume_event("create", &volume.name);
        }
        Ok(document(&volume))
    }
}

fn check(request: &VolumeCreate) -> Result<(), VolumeError> {
    if request.cluster_volume_spec.as_ref().is_some_and(|spec| !spec.is_null()) {
        return Err(VolumeError::Cluster);
    }
    if !matches!(request.driver.as_str(), "" | LOCAL) {
        return Err(VolumeError::Driver(request.driver.clone()));
    }
    local::backing(&request.driver_opts).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(check(&VolumeCreate { driver: "local".into(), ..VolumeCreate::default() }).is_ok());
        let other = VolumeCreate { driver: "nfs".into(), ..VolumeCreate::default() };
        assert_eq!(
            check(&other).unwrap_err().to_string(),
            "error looking up volume plugin nfs: plugin \"nfs\" not found"
        );
        let options = [("typo".to_owned(), "tmpfs".to_owned())].into();
        assert!(check(&VolumeCreate { driver_opts: options, ..VolumeCreate::default() }).is_err());
    }
}
