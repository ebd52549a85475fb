//! `GET /images/{name}/json` and its history.

use seacow_spec::Timestamp;
use seacow_spec::docker::image::{HistoryItem, ImageInspect, ImageMetadata, ImageRootFs};
use seacow_spec::docker::inspect::GraphDriver;
use seacow_store::image::Image;

use super::ImageError;
use super::list::created;
use crate::error::EngineError;
use crate::{Engine, blocking};

impl Engine {
    /// Everything about an image.
    ///
    /// # Errors
    /// There is no such image.
    pub async fn image_inspect(&self, name: &str) -> Result<ImageInspect, EngineError> {
        let image = self.find_image(name).await?;
        let store = self.store().clone();
        let sealed = blocking::run("look at an image", move || {
            store.measure_frozen()?;
            Ok::<_, EngineError>(store.images().sealed(&image.id).map_err(ImageError::from)?)
        });
        Ok(document(&sealed.await??, self.store().snapshots().name()))
    }

    /// The steps an image was made by, newest first.
    ///
    /// # Errors
    /// There is no such image.
    pub async fn image_history(&self, name: &str) -> Result<Vec<HistoryItem>, EngineError> {
        let image = self.find_image(name).await?;
        self.measure_frozen().await?;
        Ok(self.store().images().history(&image.id).map_err(ImageError::from)?)
    }
}

fn document(image: &Image, driver: &str) -> ImageInspect {
    let config = &image.config;
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags(),
        repo_digests: image.repo_digests(),
        parent: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        comment: config.comment.clone(),
        created: created(image).to_string(),
        container: Some(config.container.clone()),
        container_config: Some(config.container_config.clone().unwrap_or_default()),
        docker_version: config.docker_version.clone(),
        author: config.author.clone(),
        config: Some(config.config.clone().unwrap_or_default()),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        virtual_size: None,
        graph_driver: GraphDriver { data: None, name: driver.into() },
        root_fs: ImageRootFs {
            kind: config.rootfs.kind.clone(),
            layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: ImageMetadata {
            last_tag_time: image.last_tagged.unwrap_or(Timestamp::GO_ZERO).to_string(),
        },
    }
}
