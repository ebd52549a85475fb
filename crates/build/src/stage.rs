//! What a stage is while it is built: its image so far, the config that the next step starts from,
//! its arguments.

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::oci::image::{History, ImageConfig};
use seacow_spec::{Digest, Timestamp};

use crate::args::BuildArgs;
use crate::config;
use crate::executor::{Change, Image};
use crate::platform;

/// A stage that is being built.
#[derive(Clone, Debug)]
pub(crate) struct StageState {
    /// `None` until the first step of a stage from scratch.
    pub image: Option<Image>,
    /// What the next step starts from.
    pub config: ContainerConfig,
    /// `ARG`s seen so far.
    pub args: BuildArgs,
    /// From `MAINTAINER`.
    pub author: String,
    /// Whether this stage has set a `CMD`, which a later `ENTRYPOINT` then leaves alone.
    pub cmd_set: bool,
    /// Whether a step has already missed the cache: what follows cannot hit.
    pub missed: bool,
    /// When everything was made, if the build is to come out the same every time.
    pub epoch: Option<Timestamp>,
}

impl StageState {
    /// A stage on a base image, or on nothing.
    pub(crate) fn begin(base: Option<Image>, args: BuildArgs, epoch: Option<Timestamp>) -> Self {
        let config = config::of_base(base.as_ref().and_then(|base| base.config.config.as_ref()));
        let mut state =
            Self { image: base, config, args, author: String::new(), cmd_set: false, missed: false, epoch };
        state.note_image();
        state
    }

    /// Id of the image so far.
    pub(crate) fn id(&self) -> Option<&Digest> {
        self.image.as_ref().map(|image| &image.id)
    }

    /// Goes on from another image.
    pub(crate) fn advance(&mut self, image: Image) {
        self.image = Some(image);
        self.note_image();
    }

    /// Docker keeps the parent's id in the config.
    fn note_image(&mut self) {
        self.config.image = self.id().map(ToString::to_string).unwrap_or_default();
    }

    /// The image that a step makes: the one so far with a layer more, or none, and a line of
    /// history more.
    pub(crate) fn child(&self, step_config: &ContainerConfig, change: &Change) -> ImageConfig {
        let parent =
            self.image.as_ref().map(|image| image.config.as_ref().clone()).unwrap_or_else(|| ImageConfig {
                architecture: platform::architecture().to_owned(),
                os: "linux".to_owned(),
                ..ImageConfig::default()
            });
        let created = Some(self.epoch.unwrap_or_else(Timestamp::now));
        let mut child = ImageConfig {
            created,
            author: self.author.clone(),
            config: Some(self.config.clone()),
            container: String::new(),
            container_config: Some(step_config.clone()),
            docker_version: String::new(),
            comment: String::new(),
            ..parent
        };
        child.history.push(History {
            created,
            created_by: step_config.cmd.as_deref().unwrap_or_default().join(" "),
            author: self.author.clone(),
            comment: String::new(),
            empty_layer: *change == Change::Empty,
        });
        if let Change::Layer(diff) = change {
            child.rootfs.diff_ids.push(diff.clone());
        }
        child
    }
}
