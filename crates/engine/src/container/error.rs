//! What can go wrong with a container, in the words that Docker's clients know.

use seacow_spec::lifecycle::IllegalTransition;
use seacow_spec::{Classified, ErrorClass, ErrorReport};

use super::invalid::Invalid;
use crate::lsm::relabel::RelabelError;
use crate::lsm::selinux::SelinuxError;
use crate::network::{NetworkError, PortError};
use crate::volume::VolumeError;

/// A failed container verb.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Nothing has that id or name.
    #[error("No such container: {0}")]
    NotFound(String),
    /// The named network does not exist.
    #[error(
        "network {0} not found: networks other than bridge, host and none are not implemented in seacow yet"
    )]
    NoSuchNetwork(String),
    /// A port that is asked for cannot be published.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The network's part of a published port.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A start that could not have its ports.
    #[error("driver failed programming external connectivity on endpoint {name} ({endpoint})")]
    Publish {
        /// The container.
        name: String,
        /// Its connection.
        endpoint: String,
        /// Why not.
        #[source]
        source: Box<ContainerError>,
    },
    /// The prefix fits more than one id.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Labels of SELinux.
    #[error(transparent)]
    Selinux(#[from] SelinuxError),
    /// A mount's files could not be labelled.
    #[error("error setting label on mount source '{path}'")]
    Relabel {
        /// The mount's source.
        path: String,
        /// Why.
        #[source]
        source: RelabelError,
    },
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The wanted name.
        name: String,
        /// Who has it.
        holder: String,
    },
    /// The new name belongs to another container.
    #[error("Error when allocating new name: {0}")]
    Rename(#[source] Box<ContainerError>),
    /// The new name is empty or the old one.
    #[error("{0}")]
    RenameArgument(&'static str),
    /// No free name was found.
    #[error("no free name for a new container was found")]
    NoFreeName,
    /// Its namespace is to be joined, and it has none.
    #[error("cannot join the namespaces of a non running container: {0}")]
    JoinNotRunning(String),
    /// Its IPC namespace is to be joined, and cannot be.
    #[error("can't join IPC of container {donor}: {why}")]
    JoinIpc {
        /// The other container, as the client named it.
        donor: String,
        /// Why not.
        why: String,
    },
    /// A verb for running containers only.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// A verb that a paused container cannot follow.
    #[error("container {0} is paused, unpause the container before {1}")]
    Paused(String, &'static str),
    /// Pause of a paused one.
    #[error("Container {0} is already paused")]
    AlreadyPaused(String),
    /// Unpause of one that is not.
    #[error("Container {0} is not paused")]
    NotPaused(String),
    /// Start of a paused one.
    #[error("cannot start a paused container, try unpause instead")]
    StartPaused,
    /// Anything on a container that is going.
    #[error("container is marked for removal and cannot be started")]
    StartRemoving,
    /// Already running or already stopped.
    #[error("container {0} is already {1}")]
    NotModified(String, &'static str),
    /// Removal of a running one without force.
    #[error(
        "cannot remove container \"/{name}\": container is {status}: stop the container before removing or force remove"
    )]
    RemoveRunning {
        /// Its name.
        name: String,
        /// running or paused.
        status: &'static str,
    },
    /// Rollback of a running one without force.
    #[error(
        "cannot roll back container \"/{name}\": container is {status}: stop the container first, or use --force, which kills it and starts it again"
    )]
    RollbackRunning {
        /// Its name.
        name: String,
        /// running or paused.
        status: &'static str,
    },
    /// Rollback of a running one that its end would remove.
    #[error("cannot roll back container \"/{0}\" while it runs: it is removed when it ends (--rm)")]
    RollbackAutoRemove(String),
    /// Two removals at once.
    #[error("removal of container {0} is already in progress")]
    RemovalInProgress(String),
    /// Removal of a link.
    #[error("removing links of containers is not implemented in seacow yet")]
    RemoveLink,
    /// Kill failed.
    #[error("cannot kill container: {reference}: {source}")]
    Kill {
        /// As the client named it.
        reference: String,
        /// Why.
        source: Box<ContainerError>,
    },
    /// An option that seacow does not honour yet.
    #[error("{0} is not implemented in seacow yet")]
    Unsupported(String),
    /// The image cannot be used by this caller.
    #[error("image \"host\" exposes the host's files: only root and the daemon's owner may use it")]
    HostImage,
    /// The program could not be started.
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: {0}: unknown"
    )]
    StartFailed(ErrorReport),
    /// The container was removed meanwhile.
    #[error("container {0} was removed meanwhile")]
    Gone(String),
    /// The lifecycle forbids it; a race that no earlier check saw.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The image is for another kind of machine.
    #[error(
        "image with reference {image} was found but does not match the specified platform: wanted {wanted}, actual: {actual}"
    )]
    Platform {
        /// As the client named it.
        image: String,
        /// Asked for.
        wanted: String,
        /// What it is.
        actual: String,
    },
    /// SIGKILL did not end it in time.
    #[error("container {0} did not end after SIGKILL: a process of it is stuck in the kernel")]
    Unkillable(String),
    /// It has what a fork could not carry over.
    #[error("this container cannot be forked: {}", .0.join("; "))]
    NotForkable(Vec<String>),
    /// Too many clients wait for its start.
    #[error("{0} clients wait for the start of this container already")]
    TooManyClients(usize),
    /// A wait condition that does not exist.
    #[error("invalid condition: {0:?}")]
    WaitCondition(String),
    /// Unknown `limit`, `tail`, … numbers.
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    /// Logs without streams.
    #[error("Bad parameters: you must choose at least one stream")]
    NoStream,
    /// Logs of a container that keeps none.
    #[error("configured logging driver does not support reading")]
    UnreadableLogs,
    /// Wrong detach keys.
    #[error("Invalid detach keys ({0}) provided")]
    DetachKeys(String),
    /// A file of the container could not be handled.
    #[error("{step} {path}: {source}")]
    Io {
        /// What was done.
        step: &'static str,
        /// To what.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A plug-in did not mount a volume; the text is Docker's.
    #[error("error while mounting volume '{volume}': {source}")]
    MountVolume {
        /// Which.
        volume: String,
        /// Why not.
        source: crate::plugin::PluginError,
    },
    /// A volume that it is to have could not be made.
    #[error(transparent)]
    Volume(VolumeError),
    /// The image that it was made of is not there.
    #[error("the image {0} is gone")]
    ImageGone(String),
    /// `ps` on the host failed.
    #[error("Error running ps: {0}")]
    Ps(String),
    /// `top` arguments that would hide what it needs.
    #[error("{0}")]
    PsArguments(String),
    /// The kernel's random numbers failed.
    #[error("draw a random id: {0}")]
    Random(#[source] std::io::Error),
    /// Its record cannot be written or read.
    #[error("{step} the record of container {id}: {source}")]
    Record {
        /// What was done.
        step: &'static str,
        /// Whose.
        id: String,
        /// Why it failed.
        source: serde_json::Error,
    },
}

impl ContainerError {
    pub(crate) fn io(step: &'static str, path: &std::path::Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { step, path: path.display().to_string(), source: source.into() }
    }
}

impl Classified for ContainerError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::Gone(_) | Self::Platform { .. } | Self::ImageGone(_) => {
                ErrorClass::NotFound
            }
            Self::Ambiguous(_)
            | Self::WaitCondition(_)
            | Self::NoStream
            | Self::DetachKeys(_)
            | Self::RenameArgument(_)
            | Self::PsArguments(_) => ErrorClass::InvalidArgument,
            Self::Invalid(invalid) => invalid.class(),
            Self::Selinux(error) => error.class(),
            Self::Relabel { source: RelabelError::System(_), .. } => ErrorClass::InvalidArgument,
            Self::Relabel { source: RelabelError::Io { .. }, .. } => ErrorClass::Internal,
            Self::NameTaken { .. }
            | Self::NotRunning(_)
            | Self::JoinNotRunning(_)
            | Self::JoinIpc { .. }
            | Self::Paused(..)
            | Self::AlreadyPaused(_)
            | Self::NotPaused(_)
            | Self::StartPaused
            | Self::StartRemoving
            | Self::RemoveRunning { .. }
            | Self::RemovalInProgress(_)
            | Self::RollbackRunning { .. }
            | Self::RollbackAutoRemove(_)
            | Self::TooManyClients(_)
            | Self::Illegal(_) => ErrorClass::Conflict,
            Self::Rename(source) | Self::Kill { source, .. } | Self::Publish { source, .. } => source.class(),
            Self::Port(error) => error.class(),
            Self::Network(error) => error.class(),
            Self::NotModified(..) => ErrorClass::NotModified,
            // Not a 404, which clients take for a missing image.
            Self::NotForkable(_)
            | Self::NoSuchNetwork(_)
            | Self::Unsupported(_)
            | Self::UnreadableLogs
            | Self::RemoveLink => ErrorClass::NotImplemented,
            // As above.
            Self::Volume(error) => match error.class() {
                ErrorClass::NotFound => ErrorClass::InvalidArgument,
                class => class,
            },
            Self::MountVolume { source, .. } => match source.class() {
                ErrorClass::NotFound => ErrorClass::InvalidArgument,
                class => class,
            },
            Self::HostImage => ErrorClass::Forbidden,
            // dockerd answers 400 when the program itself is at fault, 500 otherwise.
            Self::StartFailed(report) => match report.exit_code {
                Some(126 | 127) => ErrorClass::InvalidArgument,
                _ if report.class == ErrorClass::InvalidArgument => ErrorClass::Internal,
                _ => report.class,
            },
            Self::Number(_)
            | Self::NoFreeName
            | Self::Unkillable(_)
            | Self::Io { .. }
            | Self::Ps(_)
            | Self::Random(_)
            | Self::Record { .. } => ErrorClass::Internal,
        }
    }
}
