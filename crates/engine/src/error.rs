//! One error for callers: transparent over the enum of whichever part failed.
//!
//! `Display` is exactly the text that Docker's clients know; the class says which HTTP status the
//! daemon answers with. Each part of the engine has its own enum beside its code and one variant
//! here.

use seacow_spec::{Classified, ErrorClass};

use seacow_store::archive::ArchiveError;
use seacow_store::{ImageError, MetaError, PointError, SnapshotError, VolumeError};

use crate::apitime::TimeError;
use crate::blocking::Interrupted;
use crate::boot::BootError;
use crate::container::{ContainerError, Invalid};
use crate::exec::ExecError;
use crate::filter::FilterError;
use crate::network::NetworkError;
use crate::shim::ShimError;

/// Whatever the engine can fail with.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Starting the engine.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Containers.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Execs.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Images, as the store sees them.
    #[error(transparent)]
    StoredImage(#[from] ImageError),
    /// Images.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// Volumes.
    #[error(transparent)]
    Volume(#[from] crate::volume::VolumeError),
    /// Builds that did not begin.
    #[error(transparent)]
    Build(#[from] crate::build::BuildFailure),
    /// Files of a container, from outside.
    #[error(transparent)]
    Files(#[from] crate::container::archive::FilesError),
    /// The engine itself.
    #[error(transparent)]
    System(#[from] crate::system::SystemError),
    /// Writable layers.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Moments of containers' files.
    #[error(transparent)]
    Point(#[from] PointError),
    /// Volumes, as the store sees them.
    #[error(transparent)]
    StoredVolume(#[from] VolumeError),
    /// Files of containers.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Metadata.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// `filters=`.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// `since=`, `until=`.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The registry of one's own.
    #[error(transparent)]
    Registry(#[from] crate::registry::OwnRegistryError),
    /// A shim.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// A blocking task.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Something Docker can do and seacow cannot yet. Never silently ignored.
    #[error("{0} is not implemented in seacow yet")]
    NotImplemented(&'static str),
}

impl Classified for EngineError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Boot(error) => error.class(),
            Self::Container(error) => error.class(),
            Self::Exec(error) => error.class(),
            Self::Network(error) => error.class(),
            Self::StoredImage(error) => error.class(),
            Self::Image(error) => error.class(),
            Self::Volume(error) => error.class(),
            Self::Build(error) => error.class(),
            Self::Files(error) => error.class(),
            Self::System(error) => error.class(),
            Self::Snapshot(error) => error.class(),
            Self::Point(error) => error.class(),
            Self::StoredVolume(error) => error.class(),
            Self::Archive(error) => error.class(),
            Self::Meta(error) => error.class(),
            Self::Filter(error) => error.class(),
            Self::Time(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Shim(error) => error.class(),
            Self::Interrupted(error) => error.class(),
            Self::NotImplemented(_) => ErrorClass::NotImplemented,
        }
    }
}

impl From<Invalid> for EngineError {
    fn from(invalid: Invalid) -> Self {
        Self::Container(invalid.into())
    }
}
