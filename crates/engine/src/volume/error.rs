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
    /// Options of the local driver, which make it mount something.
    #[error(
        "options of the local volume driver are not built yet ({0}): mount a directory with --mount type=bind"
    )]
    Options(String),
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
            Self::InUse { .. } => ErrorClass::Conflict,
            Self::Driver(_) => ErrorClass::NotFound,
            Self::Options(_) | Self::Cluster => ErrorClass::NotImplemented,
            Self::Random(_) => ErrorClass::Internal,
        }
    }
}
