//! What can go wrong while a process becomes a container, and how it is told across the border
//! between init and its parent.

use seacow_spec::error::{Classified, ErrorClass, ErrorReport};
use seacow_sys::Errno;

use crate::{cgroup, hooks, process, seccomp, validate};

/// A failed step of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{step}")]
    Step {
        /// What was done to what.
        step: String,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },
    /// A file system could not be mounted.
    #[error("mount")]
    Mount(#[from] seacow_sys::mount::Error),
    /// The network inside the namespace could not be configured.
    #[error("configure network")]
    Network(#[from] seacow_sys::netlink::Error),
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The system call filter cannot be made or loaded.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// The user or a group does not exist in the container.
    #[error(transparent)]
    User(#[from] process::user::Error),
    /// The program cannot be executed.
    #[error(transparent)]
    Program(#[from] process::program::Error),
    /// A field of the configuration.
    #[error(transparent)]
    Config(#[from] validate::Error),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] hooks::Error),
    /// The request contradicts itself or names what does not exist.
    #[error("{what}")]
    Invalid {
        /// The offending part.
        what: String,
    },
    /// Not built, or not possible on this host.
    #[error("{what} is not implemented by seacow's runtime")]
    NotImplemented {
        /// The missing feature.
        what: String,
    },
    /// The container is in the wrong state for it.
    #[error("{what}")]
    Conflict {
        /// Why not.
        what: String,
    },
    /// The container does not exist.
    #[error("container {id} does not exist")]
    NotFound {
        /// Its id.
        id: String,
    },
    /// The child ended without a word: killed, or crashed.
    #[error("init ended unexpectedly ({how}) while it should {doing}")]
    Lost {
        /// How it ended, as far as known.
        how: String,
        /// What it was asked to do.
        doing: &'static str,
    },
    /// A message between init and its parent cannot be understood.
    #[error("malformed message between init and its parent")]
    Message(#[source] serde_json::Error),
    /// What the child reported.
    #[error(transparent)]
    Child(#[from] ErrorReport),
}

impl Error {
    /// A kernel call that failed.
    pub(crate) fn step(step: impl Into<String>, errno: Errno) -> Self {
        Self::Step { step: step.into(), errno }
    }

    /// The report that crosses process borders, with the exit status that docker's users expect.
    pub fn report(&self) -> ErrorReport {
        if let Self::Child(report) = self {
            return report.clone();
        }
        let report = ErrorReport::of(self);
        match self.exit_code() {
            Some(code) => report.with_exit_code(code),
            None => report,
        }
    }

    /// 127 when the program does not exist, 126 when it cannot be executed.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Program(error) => Some(error.exit_code()),
            Self::Child(report) => report.exit_code,
            Self::Step { .. }
            | Self::Mount(_)
            | Self::Network(_)
            | Self::Cgroup(_)
            | Self::Seccomp(_)
            | Self::User(_)
            | Self::Config(_)
            | Self::Hook(_)
            | Self::Invalid { .. }
            | Self::NotImplemented { .. }
            | Self::Conflict { .. }
            | Self::NotFound { .. }
            | Self::Lost { .. }
            | Self::Message(_) => None,
        }
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Cgroup(error) => error.class(),
            Self::Seccomp(error) => error.class(),
            Self::Config(error) => error.class(),
            Self::User(_) | Self::Program(_) | Self::Invalid { .. } => ErrorClass::InvalidArgument,
            Self::NotImplemented { .. } => ErrorClass::NotImplemented,
            Self::Conflict { .. } => ErrorClass::Conflict,
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::Child(report) => report.class,
            Self::Hook(_)
            | Self::Step { .. }
            | Self::Mount(_)
            | Self::Network(_)
            | Self::Lost { .. }
            | Self::Message(_) => ErrorClass::Internal,
        }
    }
}

/// Names the step a kernel call belongs to.
pub(crate) trait Step<T> {
    /// The error says what was done; the text is only made when needed.
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::Step { step: what(), errno })
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| Error::Step { step: what(), errno: Errno::from_io_error(&e).unwrap_or(Errno::IO) })
    }
}
