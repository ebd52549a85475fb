//! What can go wrong with a plug-in. Every text says which one it was.

use seacow_spec::{Classified, ErrorClass};

/// A plug-in that is missing, does not answer, or said no.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No socket and no specification has this name; the text is Docker's.
    #[error("plugin {0:?} not found")]
    NotFound(String),
    /// Its specification file cannot be used.
    #[error("plugin {name:?}: {path}: {reason}")]
    Specification {
        /// The plug-in.
        name: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It wants to be called through TLS.
    #[error(
        "plugin {name:?}: {path} asks for TLS, which seacow does not speak to plug-ins; let it listen on a Unix \
         socket, or on tcp:// without TLSConfig"
    )]
    Tls {
        /// The plug-in.
        name: String,
        /// The file.
        path: String,
    },
    /// It is there, and for something else.
    #[error(
        "plugin {name:?} does not implement the requested driver VolumeDriver, but {}",
        words(implements)
    )]
    OtherKind {
        /// The plug-in.
        name: String,
        /// What it said that it implements.
        implements: Vec<String>,
    },
    /// Nobody listens, or the connection broke.
    #[error("plugin {name:?}: {method}: {source}")]
    Unreachable {
        /// The plug-in.
        name: String,
        /// The call.
        method: &'static str,
        /// What happened.
        source: CallError,
    },
    /// It took too long.
    #[error("plugin {name:?}: {method}: no answer within {seconds} seconds")]
    TimedOut {
        /// The plug-in.
        name: String,
        /// The call.
        method: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// It answered with an error.
    #[error("plugin {name:?}: {method}: {message}")]
    Refused {
        /// The plug-in.
        name: String,
        /// The call.
        method: &'static str,
        /// In its words.
        message: String,
    },
    /// Its answer is more than anybody needs.
    #[error("plugin {name:?}: {method}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// The plug-in.
        name: String,
        /// The call.
        method: &'static str,
        /// What is read of an answer.
        limit: usize,
    },
    /// Its answer is not what the protocol has.
    #[error("plugin {name:?}: {method}: the answer makes no sense: {source}")]
    Malformed {
        /// The plug-in.
        name: String,
        /// The call.
        method: &'static str,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// A volume is at a place where none can be.
    #[error("plugin {name:?}: {method}: the mountpoint {path:?} {reason}")]
    Mountpoint {
        /// The plug-in.
        name: String,
        /// The call.
        method: &'static str,
        /// What it said.
        path: String,
        /// What is wrong with that.
        reason: &'static str,
    },
}

/// What went wrong below the protocol.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection.
    #[error("connect: {0}")]
    Connect(#[source] std::io::Error),
    /// It broke, or what came is no HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The request cannot be put into words.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
}

impl Classified for PluginError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Tls { .. } => ErrorClass::NotImplemented,
            Self::OtherKind { .. } => ErrorClass::InvalidArgument,
            Self::Unreachable { .. } | Self::TimedOut { .. } => ErrorClass::Unavailable,
            Self::Specification { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Mountpoint { .. } => ErrorClass::Internal,
        }
    }
}

fn words(implements: &[String]) -> String {
    if implements.is_empty() { "nothing".into() } else { implements.join(", ") }
}
