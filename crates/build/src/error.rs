//! Why a build failed, and how the client is told.

use seacow_spec::docker::build::{ErrorDetail, JsonMessage};
use seacow_spec::{Classified, ErrorClass, ErrorReport};

use crate::context::ContextError;
use crate::copy::{CopyError, OwnerError};
use crate::dockerfile::ParseError;
use crate::expand::ExpandError;
use crate::options::OptionError;
use crate::output::Disconnected;
use crate::platform::PlatformError;
use crate::ports::PortError;

/// A build that failed; the texts are Docker's where Docker has one.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile, a trigger or a change cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The build's options.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// The context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A word of a step.
    #[error("line {line}: {source}")]
    Expand {
        /// Of the step.
        line: usize,
        /// Why not.
        source: ExpandError,
    },
    /// `--platform` of a `FROM`.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// `EXPOSE`.
    #[error(transparent)]
    Port(#[from] PortError),
    /// `STOPSIGNAL`.
    #[error(transparent)]
    Signal(#[from] seacow_spec::signal::InvalidSignal),
    /// `--target` names no stage.
    #[error("failed to reach build target {0} in Dockerfile")]
    Target(String),
    /// A `FROM` that expands to nothing.
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    /// `FROM` a named context that is a directory.
    #[error(
        "NotImplemented: FROM {0}: the named context is a directory; COPY --from={0} it onto an image, or name an image"
    )]
    FromFiles(String),
    /// Build checks that are errors.
    #[error("lint violation found for rules: {0} build checks failed (# check=error=true)")]
    Checks(usize),
    /// A field of a mount.
    #[error("line {line}: {source}")]
    Mount {
        /// Of the step.
        line: usize,
        /// Why not.
        source: crate::dockerfile::SyntaxError,
    },
    /// `--exclude`.
    #[error("line {line}: {source}")]
    Exclude {
        /// Of the step.
        line: usize,
        /// Why not.
        source: crate::ignore::PatternError,
    },
    /// `RUN --mount=type=secret,required`.
    #[error("secret {0}: not found")]
    NoSecret(String),
    /// `RUN --mount=type=ssh,required`.
    #[error("unset ssh forward key {0}: run seacow build with --ssh {0}")]
    NoAgent(String),
    /// `RUN --network=host` in a build that has not got it.
    #[error("RUN --network=host is only allowed in a build with --network host")]
    HostNetwork,
    /// `--chmod`.
    #[error(
        "invalid chmod parameter: {0:?}. it should be octal string and between 0 and 07777, or symbolic like u=rwX,go=rX"
    )]
    Chmod(String),
    /// Flags of `ADD` that its source does not have.
    #[error("ADD {flag}: {why}")]
    AddFlag {
        /// The flag.
        flag: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// `ADD --checksum`.
    #[error("digest mismatch for {source_text}: {found}, expected {wanted}")]
    Checksum {
        /// As written.
        source_text: String,
        /// As it is.
        found: String,
        /// As it should be.
        wanted: String,
    },
    /// `--from=` a stage that is not before this one.
    #[error("invalid from flag value {value}: {cause}")]
    From {
        /// As written.
        value: String,
        /// Why not.
        cause: StageIndexError,
    },
    /// `--from=` an image that cannot be had.
    #[error("invalid from flag value {value}: {source}")]
    FromImage {
        /// As written.
        value: String,
        /// Why not.
        source: ErrorReport,
    },
    /// More than one source and no slash at the destination.
    #[error(
        "When using {0} with more than one source file, the destination must be a directory and end with a /"
    )]
    ManySources(&'static str),
    /// Finding the sources.
    #[error("{instruction} failed: {source}")]
    Sources {
        /// `COPY` or `ADD`.
        instruction: &'static str,
        /// Why.
        source: CopyError,
    },
    /// Writing the copies.
    #[error("failed to copy files: {0}")]
    Copy(#[source] CopyError),
    /// Making the `WORKDIR`.
    #[error("Cannot mkdir {path}: {source}")]
    Workdir {
        /// The directory.
        path: String,
        /// Why not.
        source: CopyError,
    },
    /// `--chown`.
    #[error("unable to convert uid/gid chown string to host mapping: {0}")]
    Owner(#[from] OwnerError),
    /// A command failed.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// The command, joined with blanks.
        command: String,
        /// Its exit status.
        code: i32,
    },
    /// `VOLUME ""` after expansion.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `--change` with an instruction that changes no config.
    #[error("{0} is not a valid change command")]
    NotAChange(String),
    /// Nothing but `FROM scratch`.
    #[error("No image was generated. Is your Dockerfile empty?")]
    NoImage,
    /// Somebody cancelled, or the client is gone.
    #[error("Build cancelled")]
    Cancelled,
    /// The engine.
    #[error(transparent)]
    Engine(#[from] ErrorReport),
}

/// Why a number names no stage.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StageIndexError {
    /// Itself.
    #[error("refers to current build stage")]
    Current,
    /// A later one, or none.
    #[error("index out of bounds")]
    OutOfBounds,
}

impl From<Disconnected> for BuildError {
    fn from(_: Disconnected) -> Self {
        Self::Cancelled
    }
}

impl Classified for BuildError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Options(error) => error.class(),
            Self::Context(error) => error.class(),
            Self::Platform(error) => error.class(),
            Self::Sources { source, .. } | Self::Copy(source) | Self::Workdir { source, .. } => {
                source.class()
            }
            Self::Owner(error) => error.class(),
            Self::FromImage { source, .. } | Self::Engine(source) => source.class,
            Self::FromFiles(_) => ErrorClass::NotImplemented,
            Self::Parse(_)
            | Self::Expand { .. }
            | Self::Port(_)
            | Self::Signal(_)
            | Self::Target(_)
            | Self::Checks(_)
            | Self::Mount { .. }
            | Self::Exclude { .. }
            | Self::NoSecret(_)
            | Self::NoAgent(_)
            | Self::HostNetwork
            | Self::Chmod(_)
            | Self::AddFlag { .. }
            | Self::Checksum { .. }
            | Self::BlankBase(_)
            | Self::From { .. }
            | Self::ManySources(_)
            | Self::EmptyVolume
            | Self::NotAChange(_) => ErrorClass::InvalidArgument,
            Self::Command { .. } | Self::NoImage | Self::Cancelled => ErrorClass::Internal,
        }
    }
}

impl BuildError {
    /// The last message of the stream: `{"errorDetail":…,"error":…}`.
    pub fn message(&self) -> JsonMessage {
        let message = ErrorReport::of(self).to_string();
        let code = match self {
            Self::Command { code, .. } => Some(*code),
            _ => None,
        };
        JsonMessage {
            error_detail: Some(ErrorDetail { code, message: message.clone() }),
            error: Some(message),
            ..JsonMessage::default()
        }
    }
}
