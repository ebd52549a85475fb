//! `POST /commit`: an image of what a container has changed.
//!
//! The answer comes when the layer is frozen. Its tar is made when somebody asks for it; until then
//! numbers stand in the config for the diff ids, and the image's id is the digest of that config.

use std::sync::Arc;

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::oci::image::{History, ImageConfig};
use seacow_spec::{ChainId, Digest, Timestamp};
use seacow_store::image::Image;
use seacow_store::layer::{Layer, UpperMode};
use seacow_store::snapshot::SnapshotKey;

use super::capture::{Capture, Files};
use super::{Container, merge};
use crate::error::EngineError;
use crate::image::{ImageError, optional_name};
use crate::system::host;
use crate::{Engine, blocking};

/// What is made of which container.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The container.
    pub container: String,
    /// Name to be given; empty for none.
    pub repository: String,
    /// Tag; empty for `latest`.
    pub tag: String,
    /// Who made it.
    pub author: String,
    /// Free text.
    pub comment: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions that change the config.
    pub changes: Vec<String>,
    /// Config of the image; the container's if absent.
    pub config: Option<ContainerConfig>,
}

impl Engine {
    /// Makes an image of a container.
    ///
    /// # Errors
    /// There is no such container, the name or a change is malformed, or the disk failed.
    pub async fn commit(&self, options: CommitOptions) -> Result<Digest, EngineError> {
        let container = self.0.containers.find(&options.container)?;
        let name = optional_name(&options.repository, &options.tag)?;
        let own = container.cell().record.config.clone();
        let wanted = options.config.clone().unwrap_or_else(|| own.clone());
        let mut config = seacow_build::apply_changes(wanted, &options.changes).map_err(ImageError::Change)?;
        merge::merge(&mut config, &own)?;

        let engine = self.clone();
        let (one, asked) = (Arc::clone(&container), options.clone());
        let commit = self.finish("commit a container", async move {
            let files = {
                let _one = one.ops.lock().await;
                engine.capture(&one, Capture { pause: asked.pause, durable: true }).await?
            };
            let made = engine.commit_files(&one, files.clone(), config, &asked).await;
            engine.let_files_go(files).await;
            made
        });
        let image = commit.await?;
        if let Some(name) = &name {
            self.tag_image(&image, name).await?;
        }
        let reference = name.map(|name| name.familiar()).unwrap_or_default();
        let attributes =
            [("comment", options.comment), ("imageID", image.id.to_string()), ("imageRef", reference)];
        self.emit(container.event("commit", &attributes));
        Ok(image.id)
    }

    async fn commit_files(
        &self,
        container: &Arc<Container>,
        files: Files,
        config: ContainerConfig,
        options: &CommitOptions,
    ) -> Result<Image, EngineError> {
        let record = container.record();
        let child = Child {
            config,
            container: record.id.to_string(),
            container_config: record.config.clone(),
            author: options.author.clone(),
            comment: options.comment.clone(),
        };
        let store = self.store().clone();
        blocking::run("commit a container", move || {
            let layer = &files.layer;
            let depth = |chain: Option<&ChainId>| {
                chain.and_then(|chain| store.layers().stack(chain).ok()).map_or(0, |stack| stack.len())
            };
            let new = depth(Some(layer.chain_id())) - depth(files.base.as_ref());
            let parent = store.images().get(&record.image_id);
            let document = child.document(parent.as_ref(), new);
            let parent = parent.map(|parent| parent.id);
            Ok(store
                .images()
                .create_from_config(document, Some(layer.chain_id()), parent.as_ref())
                .map_err(ImageError::from)?)
        })
        .await?
    }
}

impl Engine {
    /// Makes a layer of what a step of a build changed; `None` when that is nothing. With `take`,
    /// the container's own files become the layer, and it can only be removed afterwards.
    pub(crate) async fn take_changes(
        &self,
        id: &str,
        take: bool,
        finish: crate::build::Finish,
    ) -> Result<Option<Layer>, EngineError> {
        let container = self.0.containers.find(id)?;
        // What is mounted must not be moved.
        super::exit::await_teardown(&container).await;
        let (store, key) = (self.store().clone(), SnapshotKey::from(&container.id));
        blocking::run("commit a step", move || {
            let snapshots = store.snapshots();
            if !finish.is_nothing() {
                finish.apply(&store, &key)?;
            }
            if snapshots.changes(&key)?.is_empty() {
                return Ok(None);
            }
            let mode = if take { UpperMode::Move } else { UpperMode::Copy };
            Ok(Some(snapshots.commit(&key, mode)?))
        })
        .await?
    }
}

/// What the new image has of its own.
struct Child {
    config: ContainerConfig,
    container: String,
    container_config: ContainerConfig,
    author: String,
    comment: String,
}

impl Child {
    /// The image's config; its list of layers is the store's to fill in.
    fn document(self, parent: Option<&Image>, new_layers: usize) -> ImageConfig {
        let now = Timestamp::now();
        let mut history = parent.map(|parent| parent.config.history.clone()).unwrap_or_default();
        // Every layer has its line.
        for _ in 1..new_layers {
            let comment = "a snapshot of the container".to_owned();
            history.push(History { created: Some(now), comment, ..History::default() });
        }
        history.push(History {
            created: Some(now),
            created_by: self.container_config.cmd.as_deref().unwrap_or_default().join(" "),
            author: self.author.clone(),
            comment: self.comment.clone(),
            empty_layer: new_layers == 0,
        });
        let architecture =
            parent.map(|parent| parent.config.architecture.clone()).filter(|name| !name.is_empty());
        ImageConfig {
            architecture: architecture.unwrap_or_else(|| host::go_arch().into()),
            os: "linux".into(),
            variant: parent.map(|parent| parent.config.variant.clone()).unwrap_or_default(),
            created: Some(now),
            author: self.author,
            config: Some(self.config),
            container: self.container,
            container_config: Some(self.container_config),
            history,
            comment: self.comment,
            ..ImageConfig::default()
        }
    }
}
