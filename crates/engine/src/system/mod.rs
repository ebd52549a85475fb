//! The engine itself and the machine that it runs on.

mod cow;
mod df;
mod doctor;
pub(crate) mod host;
mod info;
mod prune_snapshots;
mod version;

use seacow_spec::{Classified, ErrorClass};
use seacow_store::MetaError;

/// A failed verb about the engine itself.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The engine's own documents.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// No random numbers.
    #[error("draw random numbers for the engine's id: {0}")]
    Random(#[source] std::io::Error),
    /// `type=` of `df`.
    #[error("unknown object type: {0}")]
    ObjectType(String),
}

impl Classified for SystemError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Meta(error) => error.class(),
            Self::Random(_) => ErrorClass::Internal,
            Self::ObjectType(_) => ErrorClass::InvalidArgument,
        }
    }
}
