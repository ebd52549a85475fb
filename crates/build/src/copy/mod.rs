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
//! | `mode` | `--chmod` |
//! | `unpack` | archives of `ADD` |

mod checksum;
mod mode;
mod owner;
mod place;
mod select;
pub(crate) mod unpack;
mod write;

use std::path::{Path, PathBuf};

pub(crate) use checksum::{join, summary, text};
pub(crate) use mode::Chmod;
pub use owner::OwnerError;
pub(crate) use owner::look_up;
pub(crate) use place::{Ownership, Placing, make_dir, place};
use seacow_spec::{Classified, ErrorClass};
pub use select::Digests;
pub(crate) use select::{Picked, Source};

use crate::context::Context;
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
    /// `ADD git@host:…`.
    #[error(
        "NotImplemented: ADD of a git repository over ssh ({0}): the engine has no keys; use https, or RUN --mount=type=ssh git clone"
    )]
    GitOverSsh(String),
    /// Something in the URL of a repository that is none.
    #[error("invalid git URL {0}: {1}")]
    GitUrl(String, &'static str),
    /// A URL whose last part is no file name, and a destination that is none either.
    #[error("cannot determine filename for source {0}")]
    NoFileName(String),
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
            Self::GitOverSsh(_) => ErrorClass::NotImplemented,
            Self::Path { .. } | Self::Data { .. } => ErrorClass::Internal,
            Self::NotInContext(_)
            | Self::NotInImage(_)
            | Self::Nothing
            | Self::NoContext
            | Self::Outside(_)
            | Self::Pattern { .. }
            | Self::UrlForCopy
            | Self::GitUrl(..)
            | Self::NoFileName(_)
            | Self::TooMany(_)
            | Self::Archive { .. } => ErrorClass::InvalidArgument,
        }
    }
}

/// One value for everything that a context has at a path.
pub(crate) fn tree_summary(context: &Context, path: &Path) -> Result<String, CopyError> {
    let word = match path.to_string_lossy() {
        text if text.is_empty() => ".".to_owned(),
        text => text.into_owned(),
    };
    // A name with wildcards is a name here.
    let word: String =
        word.chars().flat_map(|ch| "*?[\\".contains(ch).then_some('\\').into_iter().chain([ch])).collect();
    Ok(summary(&Source::of_context(context).select(&[word])?))
}

/// Adds step and path to an errno.
fn at(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> CopyError {
    move |source| CopyError::Path { step, path: path.into(), source }
}
