//! Why a build failed.

use seacow_build::BuildError;
use seacow_build::context::ContextError;
use seacow_build::options::OptionError;
use seacow_spec::docker::build::JsonMessage;
use seacow_spec::{Classified, ErrorClass};
use seacow_store::archive::ArchiveError;

use super::contexts::ContextFailure;
use crate::pipe;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildFailure {
    /// The options.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// The files that were sent.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Their archive.
    #[error("unpack the build context: {0}")]
    Archive(#[from] ArchiveError),
    /// The directory for them.
    #[error("make a directory for the build context: {0}")]
    Directory(#[source] std::io::Error),
    /// The context that was named.
    #[error(transparent)]
    Kept(#[from] ContextFailure),
    /// What else our client offers.
    #[error("{0}")]
    Offer(String),
    /// The Dockerfile or one of its steps.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Classified for BuildFailure {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Options(error) => error.class(),
            Self::Context(error) => error.class(),
            Self::Archive(error) => error.class(),
            Self::Directory(_) => ErrorClass::Internal,
            Self::Kept(error) => error.class(),
            Self::Offer(_) => ErrorClass::InvalidArgument,
            Self::Build(error) => error.class(),
        }
    }
}

impl BuildFailure {
    /// The last message of a build that has begun to talk.
    pub(super) fn message(&self) -> JsonMessage {
        match self {
            Self::Build(error) => error.message(),
            Self::Options(_)
            | Self::Context(_)
            | Self::Archive(_)
            | Self::Directory(_)
            | Self::Kept(_)
            | Self::Offer(_) => pipe::failure(self.to_string(), None),
        }
    }
}
