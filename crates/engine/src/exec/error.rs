//! What can go wrong with an exec, in the words that Docker's clients know.

use seacow_spec::{Classified, ErrorClass, ErrorReport};

/// A failed exec verb.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Nothing has that id.
    #[error("No such exec instance: {0}")]
    NotFound(String),
    /// Nothing to run.
    #[error("No exec command specified")]
    NoCommand,
    /// It runs.
    #[error("exec command {0} is already running")]
    Running(String),
    /// It ran.
    #[error("exec command {0} has already run")]
    Ended(String),
    /// It does not run.
    #[error("exec process {0} is not running")]
    NotRunning(String),
    /// The working directory is relative.
    #[error("Cwd must be an absolute path")]
    WorkingDir,
    /// The program could not be executed.
    #[error("OCI runtime exec failed: exec failed: unable to start container process: {0}: unknown")]
    Failed(ErrorReport),
    /// The kernel's random numbers failed.
    #[error("draw a random id: {0}")]
    Random(#[source] std::io::Error),
}

impl Classified for ExecError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::NoCommand | Self::WorkingDir => ErrorClass::InvalidArgument,
            Self::Running(_) | Self::Ended(_) | Self::NotRunning(_) => ErrorClass::Conflict,
            Self::Failed(report) => match report.exit_code {
                Some(126 | 127) => ErrorClass::InvalidArgument,
                _ => report.class,
            },
            Self::Random(_) => ErrorClass::Internal,
        }
    }
}
