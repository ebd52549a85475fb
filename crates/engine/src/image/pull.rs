//! `docker pull` and `docker push`: registries are not reached yet, but `host` needs none.

use futures_util::stream;
use seacow_spec::Reference;
use seacow_spec::docker::build::JsonMessage;

use super::ImageError;
use super::names::new_name;
use crate::error::EngineError;
use crate::pipe::Progress;
use crate::{Caller, Engine};

/// What is to be pulled.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// The name, maybe with tag or digest.
    pub image: String,
    /// Tag or digest; empty for the name's own.
    pub tag: String,
    /// `linux/amd64`.
    pub platform: Option<String>,
}

impl Engine {
    /// Fetches an image.
    ///
    /// # Errors
    /// It is not `host`: registries are not reached yet.
    pub async fn image_pull(&self, options: PullOptions, caller: Caller) -> Result<Progress, EngineError> {
        let name = if options.tag.starts_with("sha256:") {
            format!("{}@{}", options.image, options.tag).parse::<Reference>().map_err(ImageError::from)?
        } else {
            new_name(&options.image, &options.tag)?
        };
        if !name.is_host() {
            return Err(ImageError::Pull(name.familiar()).into());
        }
        if !caller.may_use_host_image() {
            return Err(ImageError::HostForbidden.into());
        }
        let image = self.find_image(&options.image).await?;
        let status = |text: String| JsonMessage { status: Some(text), ..JsonMessage::default() };
        Ok(Box::pin(stream::iter([
            status("host is the root file system of this machine: there is nothing to pull".into()),
            status(format!("Digest: {}", image.id)),
            status(format!("Status: Image is up to date for {}", name.or_latest().familiar())),
        ])))
    }

    /// Sends an image to a registry.
    ///
    /// # Errors
    /// Always: registries are not reached yet.
    pub async fn image_push(&self, name: &str) -> Result<Progress, EngineError> {
        let image = self.find_image(name).await?;
        let familiar = name.parse::<Reference>().map_or_else(|_| name.to_owned(), |name| name.familiar());
        if image.on_host {
            return Err(ImageError::PushHost(familiar).into());
        }
        Err(ImageError::Push(familiar).into())
    }
}
