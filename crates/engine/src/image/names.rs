//! Finding images by name and giving them names.

use seacow_spec::Reference;
use seacow_store::image::Image;

use super::ImageError;
use crate::error::EngineError;
use crate::{Engine, blocking};

impl Engine {
    /// The image of a name, an id, or the beginning of one.
    ///
    /// # Errors
    /// There is none, or several begin so.
    pub(crate) async fn find_image(&self, name: &str) -> Result<Image, EngineError> {
        let images = self.store().images().clone();
        // Only this machine's own image takes a look at the disk; the others are in memory.
        let is_host = name.parse::<Reference>().is_ok_and(|name| name.is_host());
        let found = if is_host {
            let name = name.to_owned();
            blocking::run("look at this machine", move || images.resolve(&name)).await?
        } else {
            images.resolve(name)
        };
        Ok(found.map_err(ImageError::from)?)
    }

    /// Gives an image a name.
    ///
    /// # Errors
    /// There is no such image, or the name is malformed or reserved.
    pub async fn image_tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let name = new_name(repository, tag)?;
        let image = self.find_image(image).await?;
        self.tag_image(&image, &name).await
    }

    /// Gives an image a name, and tells.
    pub(crate) async fn tag_image(&self, image: &Image, name: &Reference) -> Result<(), EngineError> {
        let (images, id, owned) = (self.store().images().clone(), image.id.clone(), name.clone());
        blocking::run("tag an image", move || images.tag(&id, &owned)).await?.map_err(ImageError::from)?;
        self.image_event("tag", image, &name.familiar());
        Ok(())
    }
}

/// A name to be given: repository and tag in two parameters, the tag maybe in the first.
pub(super) fn new_name(repository: &str, tag: &str) -> Result<Reference, ImageError> {
    let name: Reference = repository.parse()?;
    if name.digest().is_some() {
        return Err(ImageError::TagWithDigest);
    }
    if tag.is_empty() { Ok(name.or_latest()) } else { Ok(name.with_tag(tag)?) }
}

/// A name that may be absent.
pub(crate) fn optional_name(repository: &str, tag: &str) -> Result<Option<Reference>, ImageError> {
    if repository.is_empty() { Ok(None) } else { new_name(repository, tag).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_clients_send_them() {
        assert_eq!(new_name("docker.io/library/bb", "v2").unwrap().familiar(), "bb:v2");
        assert_eq!(new_name("bb:v2", "").unwrap().familiar(), "bb:v2");
        assert_eq!(new_name("bb", "").unwrap().familiar(), "bb:latest");
        assert_eq!(
            new_name("BAD", "").unwrap_err().to_string(),
            "invalid reference format: repository name (library/BAD) must be lowercase"
        );
        let digest = format!("bb@sha256:{}", "0".repeat(64));
        assert!(matches!(new_name(&digest, ""), Err(ImageError::TagWithDigest)));
        assert_eq!(optional_name("", "x").unwrap(), None);
    }
}
