//! Why a fork did not come about.

use seacow_spec::error::{Classified, ErrorClass};
use seacow_sys::Errno;

use crate::reason::Reason;

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a fork did not come about. Whatever it is, the source runs on as if nothing had happened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has what cannot be handled; nothing was touched.
    #[error("cannot be forked: {}", listed(.0))]
    Refused(Vec<Reason>),
    /// The source has ended.
    #[error("process {pid} has ended")]
    Gone {
        /// The source.
        pid: i32,
    },
    /// It took too long, and the source was let go.
    #[error("{step} was not done in time")]
    Deadline {
        /// What was under way.
        step: &'static str,
    },
    /// The kernel refused to trace.
    #[error("{step} of thread {tid}")]
    Trace {
        /// The request.
        step: &'static str,
        /// The thread.
        tid: i32,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A call that was made in another process failed.
    #[error("{step} in process {tid}")]
    Call {
        /// What for.
        step: &'static str,
        /// Where.
        tid: i32,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A call of our own failed.
    #[error("{step}")]
    Own {
        /// What for.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A file of `/proc` could not be read.
    #[error("read /proc/{pid}/{name}")]
    Proc {
        /// Whose.
        pid: i32,
        /// Which file.
        name: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file of `/proc` said what we do not understand.
    #[error("/proc/{pid}/{name} has not the form that is expected")]
    Form {
        /// Whose.
        pid: i32,
        /// Which file.
        name: String,
    },
    /// Memory of another process could not be read or written.
    #[error("memory of process {pid} at {address:#x}")]
    Memory {
        /// Whose.
        pid: i32,
        /// Where.
        address: u64,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A process that we had made, or were working on, did something else than it was told.
    #[error("process {tid} got {what} during {step}")]
    Astray {
        /// Which.
        tid: i32,
        /// A signal or an event.
        what: String,
        /// What it was to do.
        step: &'static str,
    },
    /// There is more of something than a list of calls can hold.
    #[error("{what}: too many")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// The process cannot have a shadow; it runs on without one.
    #[error("no shadow: {why}")]
    NoShadow {
        /// Why not.
        why: String,
    },
    /// The caller's own part of the pause failed; the source was let go.
    #[error("the caller's part of the pause: {0}")]
    Caller(String),
}

impl Error {
    pub(crate) fn proc(pid: i32, name: &str) -> Self {
        Self::Form { pid, name: name.to_owned() }
    }

    pub(crate) fn no_shadow(why: impl Into<String>) -> Self {
        Self::NoShadow { why: why.into() }
    }

    pub(crate) fn own(step: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Own { step, source }
    }

    pub(crate) fn trace(step: &'static str, tid: i32) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Trace { step, tid, source }
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(_) | Self::NoShadow { .. } => ErrorClass::NotImplemented,
            Self::Gone { .. } => ErrorClass::Conflict,
            Self::Deadline { .. } => ErrorClass::Unavailable,
            Self::Trace { source: Errno::PERM, .. } => ErrorClass::Forbidden,
            Self::Trace { .. }
            | Self::Call { .. }
            | Self::Own { .. }
            | Self::Proc { .. }
            | Self::Form { .. }
            | Self::Memory { .. }
            | Self::Astray { .. }
            | Self::TooMany { .. }
            | Self::Caller(_) => ErrorClass::Internal,
        }
    }
}

pub(crate) fn listed(reasons: &[Reason]) -> String {
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}
