//! What the builder asks for, done with the engine's own verbs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use seacow_build::executor::{
    Change, Executor, Fetched, Image, Pull, Remote, RunStep, Secret, StepContainer, View, Workspace,
};
use seacow_build::{BuildOptions, Cancel, Sink};
use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{ChainId, Classified, Digest, ErrorClass, ErrorReport, Reference};
use seacow_store::image::NewImage;
use seacow_store::layer::Layer;
use tokio::runtime::Handle;

use super::session::Session;
use super::step::Step;
use super::tree::Tree;
use super::{fetch, git};
use crate::image::ImageError;
use crate::{Caller, Engine};

/// One build's access to the engine.
pub(super) struct BuildExecutor {
    pub(super) engine: Engine,
    pub(super) caller: Caller,
    /// Reaches the engine's async verbs from the build's thread.
    pub(super) runtime: Handle,
    /// Step containers are removed, so that their writable layer may be taken.
    pub(super) takes_layers: bool,
    pub(super) cancel: Cancel,
    /// What the client offers.
    pub(super) session: Option<Arc<Session>>,
    /// Keeps new layers until an image does.
    committed: Mutex<Vec<Layer>>,
}

impl BuildExecutor {
    pub(super) fn new(
        engine: &Engine,
        caller: Caller,
        options: &BuildOptions,
        cancel: Cancel,
        session: Option<Arc<Session>>,
    ) -> Self {
        Self {
            engine: engine.clone(),
            caller,
            runtime: Handle::current(),
            takes_layers: options.remove,
            cancel,
            session,
            committed: Mutex::default(),
        }
    }

    /// Where files of steps are that are never written to a disk.
    pub(super) fn memory_dir(&self) -> PathBuf {
        self.engine.config().exec_root.join(super::context::DIRECTORY)
    }

    /// Where files of steps are that may be large.
    pub(super) fn disk_dir(&self) -> PathBuf {
        self.engine.config().data_root.join(super::context::DIRECTORY)
    }

    /// Remembers a new layer and tells the builder of it.
    pub(super) fn keep(&self, layer: Layer) -> Change {
        let change = Change::Layer(layer.diff_id().clone());
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).push(layer);
        change
    }

    /// The layers of an image.
    pub(super) fn chain(&self, image: Option<&Digest>) -> Result<Option<ChainId>, ErrorReport> {
        let Some(id) = image else { return Ok(None) };
        match self.engine.store().images().get(id) {
            Some(image) => Ok(image.chain),
            None => Err(ErrorReport::new(ErrorClass::NotFound, format!("No such image: {id}"))),
        }
    }

    /// The stack that `diff_ids` name: the parent's, or a new layer on it.
    fn stack(&self, diff_ids: &[Digest], parent: Option<&Digest>) -> Result<Option<ChainId>, ErrorReport> {
        let below = self.chain(parent)?;
        let layers = self.engine.store().layers();
        if layers.is_stack_of(below.as_ref(), diff_ids) {
            return Ok(below);
        }
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let top = diff_ids.last();
        let found =
            committed.iter().find(|layer| Some(layer.diff_id()) == top && layer.info().parent == below);
        match found {
            Some(layer) => Ok(Some(layer.chain_id().clone())),
            None => {
                Err(ErrorReport::new(ErrorClass::Internal, "a build step names layers that no step made"))
            }
        }
    }

    /// Finds an image; fetches it where it is not here, or always when the request says so.
    fn find(&self, name: &str, pull: Pull) -> Result<seacow_store::image::Image, ImageError> {
        let images = self.engine.store().images();
        let reference = name.parse::<Reference>().ok().filter(|name| !name.is_host());
        if let (Pull::Always, Some(reference)) = (pull, &reference) {
            self.engine.pull_here(reference)?;
        }
        let found = match (images.resolve(name), &reference) {
            (Err(seacow_store::image::ImageError::NotFound(_)), Some(reference)) => {
                self.engine.pull_here(reference)?;
                images.resolve(name)
            }
            (found, _) => found,
        };
        match found {
            Ok(image) if image.on_host && !self.caller.may_use_host_image() => Err(ImageError::HostForbidden),
            found => Ok(found?),
        }
    }
}

/// An error as the builder passes it on.
pub(super) fn report(error: impl Classified) -> ErrorReport {
    ErrorReport::of(&error)
}

fn image(image: &seacow_store::image::Image) -> Image {
    Image { id: image.id.clone(), config: Arc::clone(&image.config) }
}

impl Executor for BuildExecutor {
    fn resolve(&self, name: &str, pull: Pull, _progress: &mut dyn Sink) -> Result<Image, ErrorReport> {
        // Stages have threads of their own, of which the runtime knows nothing.
        let _inside = self.runtime.enter();
        self.find(name, pull).map(|found| image(&found)).map_err(report)
    }

    fn children(&self, parent: Option<&Digest>) -> Result<Vec<Image>, ErrorReport> {
        let images = self.engine.store().images();
        let children = match parent {
            Some(parent) => images.children(parent),
            None => images.list().into_iter().filter(|image| image.parent.is_none()).collect(),
        };
        Ok(children.iter().map(image).collect())
    }

    fn create_image(&self, config: &ImageConfig, parent: Option<&Digest>) -> Result<Digest, ErrorReport> {
        let chain = self.stack(&config.rootfs.diff_ids, parent)?;
        let new = NewImage::from_config(config, chain, parent.cloned());
        self.engine.store().images().create(new).map(|image| image.id).map_err(report)
    }

    fn inherit(
        &self,
        config: &ImageConfig,
        parent: Option<&Digest>,
        source: &Digest,
    ) -> Result<Digest, ErrorReport> {
        let layers = self.engine.store().layers();
        // The source's stack, cut down to what the new image has of it.
        let mut chain = self.chain(Some(source))?;
        while let Some(top) =
            chain.as_ref().filter(|top| !layers.is_stack_of(Some(top), &config.rootfs.diff_ids))
        {
            chain = layers.get(top).and_then(|layer| layer.parent.clone());
        }
        let new = NewImage::from_config(config, chain, parent.cloned());
        self.engine.store().images().create(new).map(|image| image.id).map_err(report)
    }

    fn fetch(&self, remote: &Remote, cancel: &Cancel) -> Result<Box<dyn Fetched + '_>, ErrorReport> {
        match remote {
            Remote::Url { url, name } => Ok(Box::new(fetch::file(self, url, name, cancel)?)),
            Remote::Git { repository, reference, subdirectory, keep_git_dir } => {
                let wanted = git::Wanted { repository, reference, subdirectory, keep_git_dir: *keep_git_dir };
                Ok(Box::new(git::clone(self, &wanted, cancel)?))
            }
        }
    }

    fn recall(&self, key: &str) -> Option<String> {
        self.engine.0.memory_of_builds.recall(key)
    }

    fn remember(&self, key: String, value: String) {
        self.engine.0.memory_of_builds.remember(key, value);
    }

    fn secret(&self, id: &str) -> Option<Secret> {
        self.session.as_ref()?.secret(id)
    }

    fn has_agent(&self, id: &str) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_agent(id))
    }

    fn container(&self, step: &RunStep) -> Result<Box<dyn StepContainer + '_>, ErrorReport> {
        let _inside = self.runtime.enter();
        Ok(Box::new(Step::create(self, step)?))
    }

    fn workspace(&self, image: Option<&Digest>) -> Result<Box<dyn Workspace + '_>, ErrorReport> {
        Ok(Box::new(Tree::writable(self, self.chain(image)?.as_ref())?))
    }

    fn view(&self, image: Option<&Digest>) -> Result<Box<dyn View + '_>, ErrorReport> {
        Ok(Box::new(Tree::read_only(self, self.chain(image)?.as_ref())?))
    }

    fn tag(&self, image: &Digest, name: &Reference) -> Result<(), ErrorReport> {
        let _inside = self.runtime.enter();
        let images = self.engine.store().images();
        images.tag(image, name).map_err(report)?;
        if let Some(image) = images.get(image) {
            self.engine.image_event("tag", &image, &name.familiar());
        }
        Ok(())
    }
}
