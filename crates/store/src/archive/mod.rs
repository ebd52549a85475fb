//! Files of a container's root, from outside: `docker cp`, `docker export`.
//!
//! A [`ContainerRoot`] is the root as the container sees it, mounts included: of a running one by
//! its process ([`ContainerRoot::of_process`]), of a stopped one mounted for the purpose
//! ([`crate::Store::with_mounted`]). The container may rearrange its files meanwhile as it likes;
//! every path is resolved by the kernel below the root.
//!
//! Paths mean what dockerd takes them to mean: the last name is not followed when it is a symlink,
//! unless a slash or `/.` comes after it; and the archive's top entry is called like the last name
//! of the path that was asked for, whatever it resolved to.

mod export;
mod get;
mod mounted;
mod path;
mod put;
mod stat;
mod transfer;

use std::path::{Path, PathBuf};

use seacow_spec::{Classified, ErrorClass};
use seacow_sys::Errno;
use seacow_sys::rooted::Root;

pub use mounted::Bind;
pub use put::PutOptions;
pub use transfer::Transfer;

use crate::error::{At, IoFailure};
use crate::fsutil::ids::Ids;
use crate::layer::PlaceError;
use crate::tar::TarError;

/// Why files could not be read from or written to a container.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is nothing of that name.
    #[error("Could not find the file {}", .0.display())]
    NotFound(PathBuf),
    /// An archive goes into a directory.
    #[error("extraction point is not a directory")]
    NotADirectory(PathBuf),
    /// An entry of the archive was refused.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The archive is broken.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// Where the archive was to go does not take it.
    #[error("write the archive: {0}")]
    Output(#[source] std::io::Error),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The root could not be mounted.
    #[error(transparent)]
    Mount(#[from] seacow_sys::mount::Error),
    /// The thread for the private namespace broke.
    #[error("look into the container: {0}")]
    Thread(&'static str),
}

impl Classified for ArchiveError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::NotADirectory(_) => ErrorClass::InvalidArgument,
            Self::Place(error) => error.class(),
            Self::Tar(TarError::Read(_)) | Self::Output(_) | Self::Mount(_) | Self::Thread(_) => {
                ErrorClass::Internal
            }
            Self::Tar(_) => ErrorClass::InvalidArgument,
            Self::Io(error) => error.class(),
        }
    }
}

/// A container's root directory, with everything that is mounted in it.
#[derive(Debug)]
pub struct ContainerRoot {
    root: Root,
    /// Archives have the ids that the container itself sees.
    ids: Ids,
}

impl ContainerRoot {
    /// The root of a running process. The caller makes sure that the pid is still that process.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(pid: i32) -> Result<Self, ArchiveError> {
        let path = PathBuf::from(format!("/proc/{pid}/root"));
        let ids = Ids::of_process(pid).at("read the user namespace of", &path)?;
        let root = Root::open(&path).map_err(|errno| IoFailure::new("open", path, errno))?;
        Ok(Self { root, ids })
    }

    /// A directory of the host as a root.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn of_directory(path: &Path) -> Result<Self, ArchiveError> {
        let root = Root::open(path).map_err(|errno| IoFailure::new("open", path, errno))?;
        Ok(Self { root, ids: Ids::default() })
    }

    /// The root itself, for what is not offered here.
    pub fn root(&self) -> &Root {
        &self.root
    }

    fn missing(path: &Path, errno: Errno) -> ArchiveError {
        match errno {
            Errno::NOENT | Errno::NOTDIR => ArchiveError::NotFound(path.to_owned()),
            errno => IoFailure::new("look at", path, errno).into(),
        }
    }
}
