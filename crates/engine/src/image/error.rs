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
    /// Names with a digest are what registries give.
    #[error("cannot push a digest reference")]
    PushDigest,
    /// Nothing of that repository is here.
    #[error("An image does not exist locally with the tag: {0}")]
    NothingToPush(String),
    /// Other tags of the repository are here.
    #[error("tag does not exist: {0}")]
    NoSuchTag(String),
    /// An image is of one platform here, and that is not it.
    #[error(
        "image with reference {name} was found but does not provide the specified platform: wanted {wanted}, \
         actual: {actual}"
    )]
    OtherPlatform {
        /// As people type it.
        name: String,
        /// What was asked for.
        wanted: String,
        /// What it is.
        actual: String,
    },
    /// A packed layer has to be somewhere while it is sent.
    #[error("no room to pack a layer of {0} bytes: free some of the disk that holds the data root")]
    NoRoomToPack(u64),
    /// More results than are given.
    #[error("Limit {0} is outside the range of [1, 100]")]
    SearchLimit(i64),
    /// A disk, or a stream between threads.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A download that ended without saying why.
    #[error("the download broke off: {0}")]
    Broken(#[source] std::io::Error),
    /// Whoever wanted it went away.
    #[error(transparent)]
    Disconnected(crate::pipe::Disconnected),
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
            Self::Reference(_)
            | Self::TagWithDigest
            | Self::PushDigest
            | Self::SearchLimit(_)
            | Self::Platform(_) => ErrorClass::InvalidArgument,
            Self::NothingToPush(_) | Self::NoSuchTag(_) | Self::OtherPlatform { .. } => ErrorClass::NotFound,
            Self::NoRoomToPack(_) => ErrorClass::Unavailable,
            Self::Registry(error) => error.class(),
            Self::Io(_) | Self::Broken(_) | Self::Disconnected(_) => ErrorClass::Internal,
            Self::RemoteSource(_) | Self::PushHost(_) => ErrorClass::NotImplemented,
            Self::HostForbidden => ErrorClass::Forbidden,
        }
    }
}
