//! What the command line reports.

use std::path::PathBuf;

use seacow_runtime::Error;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Wrong words on the command line.
    #[error("{0}; see {program} --help", program = super::help::program())]
    Usage(String),
    /// A verb that nobody knows.
    #[error("No help topic for '{0}'")]
    NoVerb(String),
    /// A verb or flag without implementation.
    #[error("{0} is not implemented by seacow-runtime")]
    NotImplemented(String),
    /// What went wrong with an exec; the program's own exit status must stay apart.
    #[error(transparent)]
    Exec(Box<Self>),
    /// The container's state forbids it.
    #[error("{0}")]
    State(String),
    /// No container of that name.
    #[error("container {0:?} does not exist")]
    NoContainer(String),
    /// A file of the bundle or of our own state.
    #[error("{action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{} is malformed", .path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The runtime itself.
    #[error("{0}")]
    Runtime(#[from] Error),
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] seacow_runtime::cgroup::Error),
}

impl CliError {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::File { action, path: path.into(), source: source.into() }
    }

    /// runc's exit statuses: 255 for an exec that did not take place, whose program can exit with
    /// anything else; 3 for an unknown verb; otherwise 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exec(_) => 255,
            Self::NoVerb(_) => 3,
            Self::Usage(_)
            | Self::NotImplemented(_)
            | Self::State(_)
            | Self::NoContainer(_)
            | Self::File { .. }
            | Self::Json { .. }
            | Self::Runtime(_)
            | Self::Cgroup(_) => 1,
        }
    }

    /// The whole chain in one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Exec(error) => error.line(),
            Self::Runtime(error) => error.report().to_string(),
            other => {
                let mut text = other.to_string();
                let mut source = std::error::Error::source(other);
                while let Some(cause) = source {
                    text = format!("{text}: {cause}");
                    source = cause.source();
                }
                text
            }
        }
    }
}
