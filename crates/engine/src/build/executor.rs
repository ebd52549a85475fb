//! What the builder asks for, done with the engine's own verbs.

use std::sync::{Mutex, PoisonError};

use seacow_build::executor::{Change, Executor, Image, Pull, RunStep, StepContainer, View, Workspace};
use seacow_build::{BuildOptions, Sink};
use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{ChainId, Classified, Digest, ErrorClass, ErrorReport, Reference};
use seacow_store::image::NewImage;
use seacow_store::layer::Layer;
use tokio::runtime::Handle;

use super::step::Step;
use super::tree::Tree;
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
    /// Keeps new layers until an image does.
    committed: Mutex<Vec<Layer>>,
}

impl BuildExecutor {
    pub(super) fn new(engine: &Engine, caller: Caller, options: &BuildOptions) -> Self {
        Self {
            engine: engine.clone(),
            caller,
            runtime: Handle::current(),
            takes_layers: options.remove,
            committed: Mutex::default(),
        }
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
    Image { id: image.id.clone(), config: image.config.as_ref().clone() }
}

impl Executor for BuildExecutor {
    fn resolve(&self, name: &str, pull: Pull, _progress: &mut dyn Sink) -> Result<Image, ErrorReport> {
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

    fn container(&self, step: &RunStep) -> Result<Box<dyn StepContainer + '_>, ErrorReport> {
        Ok(Box::new(Step::create(self, step)?))
    }

    fn workspace(&self, image: Option<&Digest>) -> Result<Box<dyn Workspace + '_>, ErrorReport> {
        Ok(Box::new(Tree::writable(self, self.chain(image)?.as_ref())?))
    }

    fn view(&self, image: Option<&Digest>) -> Result<Box<dyn View + '_>, ErrorReport> {
        Ok(Box::new(Tree::read_only(self, self.chain(image)?.as_ref())?))
    }

    fn tag(&self, image: &Digest, name: &Reference) -> Result<(), ErrorReport> {
        let images = self.engine.store().images();
        images.tag(image, name).map_err(report)?;
        if let Some(image) = images.get(image) {
            self.engine.image_event("tag", &image, &name.familiar());
        }
        Ok(())
    }
}
