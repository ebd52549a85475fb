//! `docker import`: an image of one layer from a root file system's tar.

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::oci::image::{History, ImageConfig};
use seacow_spec::{Reference, Timestamp};

use super::ImageError;
use super::names::optional_name;
use crate::Engine;
use crate::error::EngineError;
use crate::pipe::{self, Progress, ProgressSender};
use crate::system::host;

/// What is imported, and as what.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// `-` for the request's body.
    pub source: String,
    /// Name to be given; empty for none.
    pub repository: String,
    /// Tag; empty for `latest`.
    pub tag: String,
    /// Comment; Docker's own when empty.
    pub message: String,
    /// Dockerfile instructions that change the config.
    pub changes: Vec<String>,
    /// `linux/amd64`; this machine's when absent.
    pub platform: Option<String>,
}

impl Engine {
    /// Makes an image of the upload.
    ///
    /// # Errors
    /// The source, name, change, platform or archive cannot be used.
    pub async fn image_import(
        &self,
        options: ImportOptions,
        upload: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Progress, EngineError> {
        if options.source != "-" {
            return Err(ImageError::RemoteSource(options.source).into());
        }
        let name = optional_name(&options.repository, &options.tag)?;
        refuse_reserved(name.as_ref())?;
        check_platform(options.platform.as_deref())?;
        let config = config(&options)?;
        let reader = pipe::upload(upload);
        let engine = self.clone();
        let work = move |progress: &ProgressSender| {
            let images = engine.store().images();
            let image = images.import(reader, config)?;
            if let Some(name) = &name {
                images.tag(&image.id, name)?;
                engine.image_event("tag", &image, &name.familiar());
            }
            engine.image_event("import", &image, image.id.as_str());
            // The client is gone: the image stays all the same.
            let _ = progress.status(image.id.to_string());
            Ok(())
        };
        let told = |error: &ImageError| pipe::failure(error.to_string(), None);
        Ok(pipe::progress_once_begun(work, told).await?)
    }
}

/// The name `host` belongs to this machine.
pub(super) fn refuse_reserved(name: Option<&Reference>) -> Result<(), ImageError> {
    match name.filter(|name| name.is_host()) {
        Some(name) => Err(seacow_store::image::ImageError::Reserved(name.familiar()).into()),
        None => Ok(()),
    }
}

/// Images are for machines like this one.
fn check_platform(wanted: Option<&str>) -> Result<(), ImageError> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(()) };
    let ours = format!("linux/{}", host::go_arch());
    let fits =
        wanted == "linux" || wanted == ours || wanted.strip_prefix(&ours).is_some_and(|v| v.starts_with('/'));
    if fits {
        Ok(())
    } else {
        Err(ImageError::Platform(format!("{wanted} cannot run here: this machine is {ours}")))
    }
}

fn config(options: &ImportOptions) -> Result<ImageConfig, ImageError> {
    let config = seacow_build::apply_changes(ContainerConfig::default(), &options.changes)
        .map_err(ImageError::Change)?;
    let comment = match options.message.as_str() {
        "" => format!("Imported from {}", options.source),
        message => message.to_owned(),
    };
    let now = Timestamp::now();
    Ok(ImageConfig {
        architecture: host::go_arch().into(),
        os: "linux".into(),
        created: Some(now),
        config: Some(config),
        comment: comment.clone(),
        history: vec![History { created: Some(now), comment, ..History::default() }],
        ..ImageConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_of_an_import() {
        let options = ImportOptions {
            source: "-".into(),
            changes: vec!["CMD [\"sh\"]".into(), "ENV A=1".into()],
            ..ImportOptions::default()
        };
        let made = config(&options).unwrap();
        assert_eq!(made.comment, "Imported from -");
        assert_eq!(made.history.len(), 1);
        let inner = made.config.unwrap();
        assert_eq!(inner.cmd, Some(vec!["sh".into()]));
        assert_eq!(inner.env, Some(vec!["A=1".into()]));
        let wrong = ImportOptions { changes: vec!["RUN x".into()], ..options };
        assert!(config(&wrong).is_err());
    }

    #[test]
    fn platforms() {
        let ours = format!("linux/{}", host::go_arch());
        for fits in [None, Some(""), Some("linux"), Some(ours.as_str())] {
            assert!(check_platform(fits).is_ok(), "{fits:?}");
        }
        assert!(check_platform(Some("windows/amd64")).is_err());
        assert!(refuse_reserved(Some(&"host".parse().unwrap())).is_err());
    }
}
