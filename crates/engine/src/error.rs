//! One error for callers: transparent over the enum of whichever part failed.
//!
//! `Display` is exactly the text that Docker's clients know; the class says which HTTP status the
//! daemon answers with. Each part of the engine has its own enum beside its code and one variant
//! here.

use seacow_spec::{Classified, ErrorClass};

use crate::apitime::TimeError;
use crate::blocking::Interrupted;
use crate::filter::FilterError;
use crate::shim::ShimError;

/// Whatever the engine can fail with.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// `filters=`.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// `since=`, `until=`.
    #[error(transparent)]
    Time(#[from] TimeError),
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
            Self::Filter(error) => error.class(),
            Self::Time(error) => error.class(),
            Self::Shim(error) => error.class(),
            Self::Interrupted(error) => error.class(),
            Self::NotImplemented(_) => ErrorClass::NotImplemented,
        }
    }
}
