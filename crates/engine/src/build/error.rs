//! Why a build did not begin.

use seacow_build::context::ContextError;
use seacow_build::options::OptionError;
use seacow_spec::{Classified, ErrorClass};
use seacow_store::archive::ArchiveError;

/// A build that did not begin. What fails later is the stream's last message.
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
}

impl Classified for BuildFailure {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Options(error) => error.class(),
            Self::Context(error) => error.class(),
            Self::Archive(error) => error.class(),
            Self::Directory(_) => ErrorClass::Internal,
        }
    }
}
