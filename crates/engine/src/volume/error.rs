//! What can go wrong with a volume, in the words that Docker's clients know.

use seacow_spec::{Classified, ErrorClass};

/// A failed volume verb.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] seacow_store::volume::VolumeError),
    /// Containers use it.
    #[error("remove {name}: volume is in use - [{}]", users.join(", "))]
    InUse {
        /// Its name.
        name: String,
        /// Their ids.
        users: Vec<String>,
    },
    /// Another driver than the one there is.
    #[error("error looking up volume plugin {0}: plugin \"{0}\" not found")]
    Driver(String),
    /// An option that the local driver does not have.
    #[error("invalid option: {0:?}")]
    Option(String),
    /// An option that another one needs.
    #[error("missing required option: {0:?}")]
    MissingOption(&'static str),
    /// A directory that is bound has no such option.
    #[error(
        "option {0:?} of a volume that binds a directory is not implemented in seacow: bind, rbind, ro, rw"
    )]
    BindOption(String),
    /// What is bound is no path.
    #[error("device {0:?} of a volume that binds a directory must be an absolute path")]
    Device(String),
    /// Limits of what a volume takes.
    #[error(
        "quota size requested, but volumes have no quota in seacow yet; a tmpfs has one: -o type=tmpfs -o device=tmpfs -o o=size=…"
    )]
    Quota,
    /// A file server without an address.
    #[error("error resolving the volume's host {host:?}: {source}")]
    Address {
        /// The name.
        host: String,
        /// Why it has none.
        source: std::io::Error,
    },
    /// Containers that run use it.
    #[error("roll back {name}: volume is in use by running containers - [{}]", users.join(", "))]
    Busy {
        /// Its name.
        name: String,
        /// Their names.
        users: Vec<String>,
    },
    /// Swarm's volumes.
    #[error("cluster volumes are not built: seacow runs containers of one machine")]
    Cluster,
    /// No random numbers for a name.
    #[error("draw random numbers for a volume's name: {0}")]
    Random(#[source] std::io::Error),
}

impl Classified for VolumeError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) => error.class(),
            Self::InUse { .. } | Self::Busy { .. } => ErrorClass::Conflict,
            Self::Option(_) | Self::MissingOption(_) | Self::Device(_) => ErrorClass::InvalidArgument,
            Self::Driver(_) => ErrorClass::NotFound,
            Self::BindOption(_) | Self::Quota | Self::Cluster => ErrorClass::NotImplemented,
            Self::Address { .. } | Self::Random(_) => ErrorClass::Internal,
        }
    }
}
