//! Which containers use which image.

use seacow_spec::Digest;
use seacow_store::image::ImageUser;

use crate::Engine;

impl Engine {
    /// Containers made from an image, or that mount it, in the order of their ids.
    pub(crate) fn image_users(&self, image: &Digest) -> Vec<ImageUser> {
        let all = self.0.containers.all();
        let uses = all.iter().filter_map(|container| {
            let cell = container.cell();
            let mounted = cell.record.mounts.iter().any(|mount| mount.image.as_ref() == Some(image));
            (cell.record.image_id == *image || mounted)
                .then(|| ImageUser { id: container.id.to_string(), running: cell.record.state.is_alive() })
        });
        uses.collect()
    }
}
