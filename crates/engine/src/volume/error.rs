//! What can go wrong with a volume, in the words that Docker's clients know.

use seacow_spec::{Classified, ErrorClass};

use crate::plugin::PluginError;

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
    /// The driver of that name cannot be had.
    #[error("{verb} {name}: error looking up volume plugin {driver}: {source}")]
    Driver {
        /// What was to be done.
        verb: &'static str,
        /// With which volume.
        name: String,
        /// The plug-in.
        driver: String,
        /// Why not.
        source: PluginError,
    },
    /// A plug-in did not do it.
    #[error("{verb} {name}: {source}")]
    Plugin {
        /// What was to be done.
        verb: &'static str,
        /// With which volume.
        name: String,
        /// Why not.
        source: PluginError,
    },
    /// The name is a volume's of another driver.
    #[error("create {name}: driver '{driver}' already has volume '{name}': volume name must be unique")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        driver: String,
    },
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
        "quota size requested for a volume whose data are not in the store; a tmpfs has a limit by -o o=size=…, and \
         what is on another file system by that one's own quota"
    )]
    Quota,
    /// Not a number of bytes.
    #[error("invalid size: {0:?}: a number of bytes, or one with k, m, g or t")]
    Size(String),
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
            Self::InUse { .. } | Self::Busy { .. } | Self::NameTaken { .. } => ErrorClass::Conflict,
            Self::Option(_) | Self::MissingOption(_) | Self::Device(_) | Self::Size(_) => {
                ErrorClass::InvalidArgument
            }
            Self::Driver { source, .. } | Self::Plugin { source, .. } => source.class(),
            Self::BindOption(_) | Self::Quota | Self::Cluster => ErrorClass::NotImplemented,
            Self::Address { .. } | Self::Random(_) => ErrorClass::Internal,
        }
    }
}
