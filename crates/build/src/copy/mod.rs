//! `COPY` and `ADD`: from a source tree to a place in an image.
//!
//! Three steps, so that the cache can be asked between the first two:
//! 1. `Source::select` finds what the words name and hashes it (`Picked`);
//! 2. the step asks the cache with `summary` of the hashes;
//! 3. `place` writes it into a workspace.
//!
//! | module | what |
//! |---|---|
//! | `select` | wildcards, symlinks, `.dockerignore`, listing of trees |
//! | `checksum` | what a file or tree is to the cache |
//! | `place` | where it goes, and writing it there |
//! | `write` | one file, directory, link or node |
//! | `owner` | `--chown` |
//! | `unpack` | archives of `ADD` |

mod checksum;
mod owner;
mod place;
mod select;
pub(crate) mod unpack;
mod write;

use std::path::PathBuf;

pub(crate) use checksum::summary;
pub use owner::OwnerError;
pub(crate) use owner::look_up;
pub(crate) use place::{Ownership, Placing, make_dir, place};
use seacow_spec::{Classified, ErrorClass};
pub(crate) use select::{Picked, Source};

use crate::gopath::BadPattern;
use crate::rooted::Errno;

/// A copy that failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The context does not have it.
    #[error("file not found in build context or excluded by .dockerignore: stat {0}: file does not exist")]
    NotInContext(String),
    /// The image does not have it.
    #[error("stat {0}: file does not exist")]
    NotInImage(String),
    /// Wildcards that match nothing.
    #[error("no source files were specified")]
    Nothing,
    /// A build from a Dockerfile alone.
    #[error("missing build context")]
    NoContext,
    /// `../x`.
    #[error("forbidden path outside the build context: {0} ()")]
    Outside(String),
    /// A malformed wildcard.
    #[error("{pattern}: {source}")]
    Pattern {
        /// As written.
        pattern: String,
        /// Why.
        source: BadPattern,
    },
    /// `COPY https://…`.
    #[error("source can't be a URL for COPY")]
    UrlForCopy,
    /// `ADD https://…`, `ADD git@…`.
    #[error(
        "ADD from {kind} is not implemented ({source_text}): there is no downloader; fetch it with RUN, or COPY it"
    )]
    Remote {
        /// URLs or git repositories.
        kind: &'static str,
        /// As written.
        source_text: String,
    },
    /// More than a build can hold in memory.
    #[error("{0}: more than {limit} files", limit = select::MAX_ENTRIES)]
    TooMany(String),
    /// A kernel call on a path.
    #[error("{step} {}: {source}", path.display())]
    Path {
        /// What was done.
        step: &'static str,
        /// To which path, seen from its root.
        path: PathBuf,
        /// What came of it.
        source: Errno,
    },
    /// Reading or writing a file's bytes.
    #[error("{step} {}: {source}", path.display())]
    Data {
        /// What was done.
        step: &'static str,
        /// To which path.
        path: PathBuf,
        /// What came of it.
        source: std::io::Error,
    },
    /// An archive that `ADD` cannot unpack.
    #[error("{}: {cause}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

impl Classified for CopyError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Remote { .. } => ErrorClass::NotImplemented,
            Self::Path { .. } | Self::Data { .. } => ErrorClass::Internal,
            Self::NotInContext(_)
            | Self::NotInImage(_)
            | Self::Nothing
            | Self::NoContext
            | Self::Outside(_)
            | Self::Pattern { .. }
            | Self::UrlForCopy
            | Self::TooMany(_)
            | Self::Archive { .. } => ErrorClass::InvalidArgument,
        }
    }
}

/// Adds step and path to an errno.
fn at(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> CopyError {
    move |source| CopyError::Path { step, path: path.into(), source }
}
