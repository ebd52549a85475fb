//! What can go wrong with an image, in the words that Docker's clients know.

use seacow_build::BuildError;
use seacow_spec::reference::InvalidReference;
use seacow_spec::{Classified, ErrorClass};

/// A failed image verb.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] seacow_store::image::ImageError),
    /// Not an image name.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A tag where a digest stands already.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// `--change` cannot be applied.
    #[error("{0}")]
    Change(#[source] BuildError),
    /// Another kind of machine.
    #[error("{0}")]
    Platform(String),
    /// A source that is not the request's body.
    #[error("importing from a URL is not built yet ({0}): send the file with docker import -")]
    RemoteSource(String),
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] seacow_registry::RegistryError),
    /// Every tag of a repository.
    #[error("pulling all tags of {0} is not built yet: pull them one by one")]
    AllTags(String),
    /// A download that ended without saying why.
    #[error("the download broke off: {0}")]
    Broken(#[source] std::io::Error),
    /// Whoever wanted it went away.
    #[error(transparent)]
    Disconnected(crate::pipe::Disconnected),
    /// The same, the other way.
    #[error("pushing to a registry is not built yet: docker save writes {0} to a file")]
    Push(String),
    /// The host image belongs to this machine.
    #[error("{0} is the root file system of this machine and cannot be pushed")]
    PushHost(String),
    /// The host image gives access to every file of the machine.
    #[error(
        "the image `host` shows every file of this machine: only root and the daemon's own user may use it"
    )]
    HostForbidden,
}

impl Classified for ImageError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) => error.class(),
            Self::Change(error) => error.class(),
            Self::Reference(_) | Self::TagWithDigest | Self::Platform(_) => ErrorClass::InvalidArgument,
            Self::Registry(error) => error.class(),
            Self::Broken(_) | Self::Disconnected(_) => ErrorClass::Internal,
            Self::RemoteSource(_) | Self::AllTags(_) | Self::Push(_) | Self::PushHost(_) => {
                ErrorClass::NotImplemented
            }
            Self::HostForbidden => ErrorClass::Forbidden,
        }
    }
}
