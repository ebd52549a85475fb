//! Why an entry of an archive is not on the disk.

use std::io;

use seacow_spec::{Classified, ErrorClass};
use seacow_sys::Errno;

use crate::tar::TarError;

/// Why an entry of an archive is not on the disk.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Its name or its link's target climbs above the root.
    #[error("archive entry {entry:?}: {what} {path:?} leads out of the root")]
    Escapes {
        /// The entry.
        entry: String,
        /// Name or link.
        what: &'static str,
        /// The offending path.
        path: String,
    },
    /// It cannot mean anything.
    #[error("archive entry {entry:?}: {reason}")]
    Meaningless {
        /// The entry.
        entry: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// `docker cp` onto a directory.
    #[error("cannot overwrite directory {path:?} with non-directory {entry:?}")]
    OverDirectory {
        /// What is there.
        path: String,
        /// The entry.
        entry: String,
    },
    /// `docker cp` of a directory onto something else.
    #[error("cannot overwrite non-directory {path:?} with directory {entry:?}")]
    OverNonDirectory {
        /// What is there.
        path: String,
        /// The entry.
        entry: String,
    },
    /// The disk is, or would be, full.
    #[error("archive entry {entry:?}: no space left: {need} bytes needed, {free} may be used")]
    NoSpace {
        /// The entry.
        entry: String,
        /// Its size.
        need: u64,
        /// What is left.
        free: u64,
    },
    /// The kernel refused.
    #[error("archive entry {entry:?}: {step}: {source}")]
    Io {
        /// The entry.
        entry: String,
        /// What was tried.
        step: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The content could not be read.
    #[error(transparent)]
    Content(#[from] TarError),
}

impl Classified for PlaceError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoSpace { .. } => ErrorClass::Unavailable,
            Self::Io { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOSPC | Errno::DQUOT) => ErrorClass::Unavailable,
                Some(Errno::ROFS) => ErrorClass::Forbidden,
                Some(Errno::NAMETOOLONG | Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::FBIG) => {
                    ErrorClass::InvalidArgument
                }
                _ => ErrorClass::Internal,
            },
            Self::Content(TarError::Read(_)) => ErrorClass::Internal,
            _ => ErrorClass::InvalidArgument,
        }
    }
}
