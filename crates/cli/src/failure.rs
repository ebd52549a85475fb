//! How a command ends when it does not end well: what is printed, and the exit status.

use std::io;

use crate::client::ClientError;
use crate::connect::ConnectError;
use crate::http::HttpError;

/// Exit status of docker's client for a refused command line, and of `run` for its own failures.
pub(crate) const USAGE: u8 = 125;

/// The end of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Reading or writing the user's files, pipes or terminal. A closed stdout ends up here, too,
    /// and is passed over in silence by `main`.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The client itself refuses: the text is complete.
    #[error("{0}")]
    Refused(String),
    /// Several things failed; all of it is printed.
    #[error("{}", join(.0))]
    Several(Vec<Failure>),
    /// A text and an exit status other than 1.
    #[error("{text}")]
    Status { text: String, code: u8 },
    /// Everything has been said; only the exit status is left.
    #[error("exit status {0}")]
    Exit(u8),
}

/// What every command returns.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Failure::Refused(text.into())
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Status { code, .. } | Failure::Exit(code) => *code,
            Failure::Client(_)
            | Failure::Connect(_)
            | Failure::Http(_)
            | Failure::Io(_)
            | Failure::Refused(_)
            | Failure::Several(_) => 1,
        }
    }

    /// A reader of our output went away (`seacow ps | head -1`).
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Io(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// One failure out of many, success if there is none.
    pub(crate) fn all(mut failures: Vec<Failure>) -> Outcome {
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Failure::Several(failures)),
        }
    }
}

fn join(failures: &[Failure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Opening a file failed: docker's (Go's) words for it.
pub(crate) fn open_failed(path: &str, error: &io::Error) -> Failure {
    Failure::Refused(format!("open {path}: {}", go_io_text(error)))
}

/// The error's text without Rust's "(os error 2)", in Go's lower case.
pub(crate) fn go_io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
