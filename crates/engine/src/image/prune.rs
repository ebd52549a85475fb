//! `POST /images/prune`.

use std::collections::BTreeMap;

use seacow_spec::docker::image::{ImageDeleted, ImagesPruned};
use seacow_store::image::{Image, RemoveOptions};

use super::list::created;
use crate::error::EngineError;
use crate::event::event;
use crate::filter::Filters;
use crate::{Engine, blocking};

const KEYS: &[&str] = &["dangling", "label", "label!", "until"];

impl Engine {
    /// Removes images that nobody uses: nameless ones, or all with `dangling=false`.
    ///
    /// # Errors
    /// A filter is unknown or malformed.
    pub async fn image_prune(&self, filters: Filters) -> Result<ImagesPruned, EngineError> {
        filters.only(KEYS)?;
        let nameless_only = filters.boolean("dangling")?.unwrap_or(true);
        let until = filters.until()?;
        let wanted = move |image: &Image| {
            let labels =
                image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
            until.is_none_or(|until| created(image) < until)
                && filters.labels("label", &labels)
                && filters.labels_absent("label!", &labels)
        };
        self.0.pool.forget(None, self).await;
        let engine = self.clone();
        let (deleted, reclaimed) =
            blocking::run("prune images", move || engine.prune_images(nameless_only, wanted)).await?;
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        self.emit(event("image", "prune", "", attributes));
        Ok(ImagesPruned {
            images_deleted: (!deleted.is_empty()).then_some(deleted),
            space_reclaimed: reclaimed,
        })
    }

    /// Removes an image with all its names, unless it is used.
    pub(crate) fn drop_unused(&self, image: &Image) -> Vec<ImageDeleted> {
        let images = self.store().images();
        // A name goes although other images stand on this one; a nameless step does not.
        let stood_upon = image.names.is_empty() && !images.children(&image.id).is_empty();
        if stood_upon || !self.image_users(&image.id).is_empty() {
            return Vec::new();
        }
        let targets: Vec<String> = if image.names.is_empty() {
            vec![image.id.to_string()]
        } else {
            image.names.iter().map(ToString::to_string).collect()
        };
        let mut deleted = Vec::new();
        for target in targets {
            // Somebody may have begun to use it; then it stays.
            let options = RemoveOptions::default();
            if let Ok(answer) = images.remove(&target, options, &|id| self.image_users(id)) {
                self.tell_removal(image, &answer);
                deleted.extend(answer);
            }
        }
        deleted
    }

    fn prune_images(&self, nameless_only: bool, wanted: impl Fn(&Image) -> bool) -> (Vec<ImageDeleted>, u64) {
        let store = self.store();
        // What was not counted counts as nothing.
        if let Err(error) = store.measure_frozen() {
            tracing::warn!(%error, "count what layers take");
        }
        let before: u64 = store.layers().list().iter().map(|layer| layer.size).sum();
        let mut deleted = Vec::new();
        // The host's own image cannot be removed and takes no space.
        for image in store.images().list().into_iter().filter(|image| !is_host(image) && wanted(image)) {
            if !nameless_only || image.names.is_empty() {
                deleted.extend(self.drop_unused(&image));
            }
        }
        let after: u64 = store.layers().list().iter().map(|layer| layer.size).sum();
        (deleted, before.saturating_sub(after))
    }
}

fn is_host(image: &Image) -> bool {
    image.names.iter().any(seacow_spec::Reference::is_host)
}
