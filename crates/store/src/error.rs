//! File operations that failed: what was tried on which path.

use std::io;
use std::path::{Path, PathBuf};

use seacow_spec::ErrorClass;

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {source}", path.display())]
pub struct IoFailure {
    /// What was tried.
    pub step: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl IoFailure {
    /// From a step, its path and the kernel's answer.
    pub fn new(step: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { step, path: path.into(), source: source.into() }
    }

    /// A full disk passes when somebody makes room; all else is a fault of the machine.
    pub fn class(&self) -> ErrorClass {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorClass::Unavailable,
            _ => ErrorClass::Internal,
        }
    }
}

/// Adds step and path to a failed call.
pub(crate) trait At<T> {
    /// `step` says what was tried, as the start of a sentence that ends with the path.
    fn at(self, step: &'static str, path: impl AsRef<Path>) -> Result<T, IoFailure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &'static str, path: impl AsRef<Path>) -> Result<T, IoFailure> {
        self.map_err(|source| IoFailure::new(step, path.as_ref(), source))
    }
}
