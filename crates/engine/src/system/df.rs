//! `GET /system/df`, where every layer counts once.

use std::collections::HashMap;

use seacow_spec::Digest;
use seacow_spec::docker::image::ImageSummary;
use seacow_spec::docker::system::DiskUsage;

use super::SystemError;
use crate::error::EngineError;
use crate::image;
use crate::{Engine, ListOptions, blocking};

/// What `df` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    images: bool,
    containers: bool,
    volumes: bool,
    build_cache: bool,
}

impl Wanted {
    fn parse(types: &[String]) -> Result<Self, SystemError> {
        if types.is_empty() {
            return Ok(Self { images: true, containers: true, volumes: true, build_cache: true });
        }
        let mut wanted = Self { images: false, containers: false, volumes: false, build_cache: false };
        for name in types {
            match name.as_str() {
                "image" => wanted.images = true,
                "container" => wanted.containers = true,
                "volume" => wanted.volumes = true,
                "build-cache" => wanted.build_cache = true,
                other => return Err(SystemError::ObjectType(other.to_owned())),
            }
        }
        Ok(wanted)
    }
}

impl Engine {
    /// What takes how much of the disk; of all kinds when `types` is empty.
    ///
    /// # Errors
    /// An unknown type, or a directory cannot be read.
    pub async fn df(&self, types: &[String]) -> Result<DiskUsage, EngineError> {
        let wanted = Wanted::parse(types)?;
        let mut usage = DiskUsage::default();
        if wanted.images {
            self.measure_frozen().await?;
            let layers = self.store().layers().list();
            usage.layers_size = layers.iter().map(|layer| i64::try_from(layer.size).unwrap_or(0)).sum();
            usage.images = self.image_usage();
        }
        if wanted.containers {
            let options = ListOptions { all: true, size: true, ..ListOptions::default() };
            usage.containers = self.list(options).await?;
        }
        if wanted.volumes {
            usage.volumes = self.volumes_with_usage().await?;
        }
        if wanted.build_cache {
            usage.build_cache = self.build_cache().await?;
        }
        if types.is_empty() {
            let engine = self.clone();
            let counted = blocking::run("count what the store takes", move || engine.disk()).await??;
            (usage.disk, usage.snapshots) = (Some(counted.0), counted.1);
        }
        Ok(usage)
    }

    fn image_usage(&self) -> Vec<ImageSummary> {
        let images = self.store().images().list();
        let shared = self.shared_sizes();
        let mut users: HashMap<Digest, i64> = HashMap::new();
        for container in self.0.containers.all() {
            *users.entry(container.cell().record.image_id.clone()).or_default() += 1;
        }
        images
            .iter()
            .filter(|image| !image.names.is_empty() || self.store().images().children(&image.id).is_empty())
            .map(|image| {
                let mut row = image::summary(image, &image.names.iter().collect::<Vec<_>>());
                row.containers = users.get(&image.id).copied().unwrap_or(0);
                row.shared_size = shared.get(&image.id).copied().unwrap_or(0);
                row
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let of = |types: &[&str]| Wanted::parse(&types.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert!(of(&[]).unwrap().images && of(&[]).unwrap().volumes);
        assert_eq!(
            of(&["volume", "build-cache"]).unwrap(),
            Wanted { images: false, containers: false, volumes: true, build_cache: true }
        );
        assert_eq!(of(&["x"]).unwrap_err().to_string(), "unknown object type: x");
    }
}
