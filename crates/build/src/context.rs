//! The build context: the client's files in a directory, into which the caller has unpacked its tar.
//!
//! `.dockerignore` is applied here (again): what it excludes is not seen by `COPY` and `ADD`. The
//! files are hidden, never deleted. The Dockerfile itself is read even when it is excluded.

use std::path::Path;

use seacow_spec::{Classified, ErrorClass};

use crate::dockerfile::{self, Dockerfile, ParseError};
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
    #[error(transparent)]
    Parse(#[from] ParseError),
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
            | Self::Parse(_) => ErrorClass::InvalidArgument,
        }
    }
}

/// The files that a Dockerfile can `COPY` and `ADD`.
#[derive(Debug)]
pub struct Context {
    root: Root,
    ignore: Matcher,
}

impl Context {
    /// Takes an unpacked context.
    ///
    /// # Errors
    /// It cannot be opened, or its `.dockerignore` is malformed.
    pub fn open(dir: &Path) -> Result<Self, ContextError> {
        let open = |source| ContextError::Open { path: dir.display().to_string(), source };
        let root = Root::open(dir).map_err(open)?;
        let ignore = match root.read(Path::new(".dockerignore"), MAX_IGNORE_FILE) {
            Ok(patterns) => Matcher::parse(&patterns)?,
            Err(Errno::NOENT) => Matcher::default(),
            Err(source) => return Err(ContextError::Read { path: ".dockerignore".into(), source }),
        };
        Ok(Self { root, ignore })
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
            Ok(source) => Ok(dockerfile::parse(&source)?),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(ContextError::NoDockerfile(path.to_owned())),
            Err(source) => Err(ContextError::Read { path: path.to_owned(), source }),
        }
    }
}
