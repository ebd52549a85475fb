//! The build context: the client's files in a directory, into which the caller has unpacked its tar.
//!
//! `.dockerignore` is applied here (again): what it excludes is not seen by `COPY` and `ADD`. The
//! files are hidden, never deleted. The Dockerfile itself is read even when it is excluded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seacow_spec::{Classified, ErrorClass};

use crate::copy::Digests;
use crate::dockerfile::{self, Dockerfile, ParseError};
use crate::excerpt::excerpt;
use crate::gopath;
use crate::ignore::{Matcher, PatternError};
use crate::options::DEFAULT_DOCKERFILE;
use crate::rooted::{Errno, Root};

/// Generated Dockerfiles are long, but not longer than this.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// A list of patterns, each of which costs time for every file.
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// A context that cannot be built from.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The directory itself.
    #[error("open the build context {path}: {source}")]
    Open {
        /// Of the directory.
        path: String,
        /// Why not.
        source: Errno,
    },
    /// No such file.
    #[error("Cannot locate specified Dockerfile: {0}")]
    NoDockerfile(String),
    /// `dockerfile=../x`.
    #[error("forbidden path outside the build context: {0} ()")]
    Outside(String),
    /// No bytes.
    #[error("the Dockerfile ({0}) cannot be empty")]
    EmptyDockerfile(String),
    /// Not a file, too large, I/O.
    #[error("read {path} of the build context: {source}")]
    Read {
        /// In the context.
        path: String,
        /// Why not.
        source: Errno,
    },
    /// `.dockerignore` is malformed.
    #[error(transparent)]
    Ignore(#[from] PatternError),
    /// The Dockerfile is malformed.
    #[error("{error}\n\n{excerpt}")]
    Parse {
        /// Why.
        error: ParseError,
        /// The lines around it.
        excerpt: String,
    },
}

impl ContextError {
    /// A Dockerfile that is malformed, with the lines around the error.
    pub fn malformed(name: &str, source: &str, error: ParseError) -> Self {
        Self::Parse { excerpt: excerpt(name, source, error.line..=error.line), error }
    }
}

impl Classified for ContextError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Open { .. } => ErrorClass::Internal,
            Self::NoDockerfile(_)
            | Self::Outside(_)
            | Self::EmptyDockerfile(_)
            | Self::Read { .. }
            | Self::Ignore(_)
            | Self::Parse { .. } => ErrorClass::InvalidArgument,
        }
    }
}

/// The files that a Dockerfile can `COPY` and `ADD`.
#[derive(Debug)]
pub struct Context {
    path: PathBuf,
    root: Root,
    ignore: Matcher,
    known: Option<Known>,
}

/// What is known of a context before its files are read.
#[derive(Debug)]
struct Known {
    identity: String,
    digests: Arc<Digests>,
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Context {
    /// Takes an unpacked context. Patterns for this Dockerfile alone, in `Dockerfile.dockerignore`,
    /// count instead of those for all.
    ///
    /// # Errors
    /// It cannot be opened, or its `.dockerignore` is malformed.
    pub fn open(dir: &Path, dockerfile: &str) -> Result<Self, ContextError> {
        let Self { path, root, mut ignore, known } = Self::filtered(dir)?;
        for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
            match root.read(Path::new(&name), MAX_IGNORE_FILE) {
                Ok(patterns) => {
                    ignore = Matcher::parse(&patterns)?;
                    break;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(source) => return Err(ContextError::Read { path: name, source }),
            }
        }
        Ok(Self { path, root, ignore, known })
    }

    /// Takes a context that the client has applied the patterns to.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn filtered(dir: &Path) -> Result<Self, ContextError> {
        let open = |source| ContextError::Open { path: dir.display().to_string(), source };
        let root = Root::open(dir).map_err(open)?;
        Ok(Self { path: dir.to_owned(), root, ignore: Matcher::default(), known: None })
    }

    /// Files that are what their hashes say, all of which together have a name.
    #[must_use]
    pub fn with_known(self, identity: String, digests: Arc<Digests>) -> Self {
        Self { known: Some(Known { identity, digests }), ..self }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same for the same files.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.known.as_ref().map(|known| known.identity.as_str())
    }

    pub(crate) fn digests(&self) -> Option<&Digests> {
        self.known.as_ref().map(|known| known.digests.as_ref())
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn ignore(&self) -> &Matcher {
        &self.ignore
    }

    /// Reads and parses the Dockerfile. `Dockerfile` may also be written in lower case.
    ///
    /// # Errors
    /// It is not there, not a file, or malformed.
    pub fn dockerfile(&self, path: &str) -> Result<Dockerfile, ContextError> {
        if gopath::clean(path).starts_with("..") {
            return Err(ContextError::Outside(path.to_owned()));
        }
        let source = match self.root.read(Path::new(path), MAX_DOCKERFILE) {
            Err(Errno::NOENT) if path == DEFAULT_DOCKERFILE => {
                self.root.read(Path::new(&path.to_lowercase()), MAX_DOCKERFILE)
            }
            read => read,
        };
        match source {
            Ok(source) if source.is_empty() => Err(ContextError::EmptyDockerfile(path.to_owned())),
            Ok(source) => dockerfile::parse(&source)
                .map_err(|error| ContextError::malformed(path, &String::from_utf8_lossy(&source), error)),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(ContextError::NoDockerfile(path.to_owned())),
            Err(source) => Err(ContextError::Read { path: path.to_owned(), source }),
        }
    }
}
