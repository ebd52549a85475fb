//! Images: lists, names, archives. The store keeps them; here are Docker's rules about them.
//!
//! The name `host` stands for the root file system of this machine. It needs no pull, cannot be
//! pushed, saved or given to another image, and only root and the daemon's own user may use it.

mod error;
mod import;
mod inspect;
mod kept;
mod list;
mod load;
mod names;
mod outgoing;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
mod search;
mod users;

use std::collections::BTreeMap;

use seacow_store::image::Image;

pub use error::ImageError;
pub use import::ImportOptions;
pub use list::ListImages;
pub(crate) use list::summary;
pub(crate) use names::optional_name;
pub use pull::PullOptions;
pub use push::PushOptions;
pub use remove::RemoveImage;
pub use seacow_registry::{Credentials, Described, Found};
pub use seacow_store::Packing;

use crate::Engine;
use crate::event::event;

impl Engine {
    /// Tells everybody what happened to an image: `name` is what clients print.
    pub(crate) fn image_event(&self, action: &str, image: &Image, name: &str) {
        let mut attributes: BTreeMap<String, String> =
            image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
        attributes.insert("name".into(), name.to_owned());
        self.emit(event("image", action, image.id.as_str(), attributes));
    }
}
