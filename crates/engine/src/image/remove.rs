//! `DELETE /images/{name}`.

use seacow_spec::docker::image::ImageDeleted;
use seacow_store::image::{Image, RemoveOptions};

use super::ImageError;
use crate::error::EngineError;
use crate::{Engine, blocking};

/// How an image is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveImage {
    /// Also when it has several names, or stopped containers.
    pub force: bool,
    /// Leave nameless parents alone.
    pub no_prune: bool,
}

impl Engine {
    /// Takes a name away, and the image with the last one.
    ///
    /// # Errors
    /// There is no such image, or it is used.
    pub async fn image_remove(
        &self,
        name: &str,
        options: RemoveImage,
    ) -> Result<Vec<ImageDeleted>, EngineError> {
        let image = self.find_image(name).await?;
        self.0.pool.forget(Some(&image.id), self).await;
        let (engine, name) = (self.clone(), name.to_owned());
        let removed = blocking::run("remove an image", move || {
            let options = RemoveOptions { force: options.force, no_prune: options.no_prune };
            engine.store().images().remove(&name, options, &|id| engine.image_users(id))
        });
        let answer = removed.await?.map_err(ImageError::from)?;
        self.tell_removal(&image, &answer);
        Ok(answer)
    }

    /// Events of what was removed.
    pub(super) fn tell_removal(&self, image: &Image, answer: &[ImageDeleted]) {
        for entry in answer {
            match entry {
                ImageDeleted::Untagged(_) => self.image_event("untag", image, image.id.as_str()),
                ImageDeleted::Deleted(id) if id == image.id.as_str() => self.image_event("delete", image, id),
                // Parents and layers.
                ImageDeleted::Deleted(_) => {}
            }
        }
    }
}
