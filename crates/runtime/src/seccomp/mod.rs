//! System call filters: OCI profiles, and Docker's default, as classic BPF.
//!
//! The kernel runs a filter once per system call number when it is loaded, to find out which
//! numbers are always allowed; a list of comparisons makes that slow (Docker's own filter takes
//! 1 ms to load), a balanced tree over ranges of numbers makes it fast (90 µs).
//!
//! Semantics are libseccomp's as runc uses it: a rule without arguments beats those with arguments;
//! arguments of one rule must all match, except that several for the same index are alternatives;
//! calls that the profile cannot know (numbers above its highest) answer ENOSYS where the default
//! is EPERM, so that libraries fall back instead of giving up. Architectures without numbers here are
//! accepted and need no rules, because this kernel does not run them; all others kill.
//!
//! Two differences to libseccomp, both on the strict side: a rule that allows a socket call under
//! conditions does not open i386's `socketcall`, whose arguments no filter sees; and the version in
//! the upper half of `ipc`'s selector does not slip past a rule.

mod calls;
mod compile;
mod default_profile;
#[cfg(test)]
mod interpreter;
pub mod notify;
mod parse;
mod profile;
pub(crate) mod rest;
mod usual;

use std::borrow::Cow;
use std::path::PathBuf;

use seacow_spec::error::{Classified, ErrorClass};
use seacow_spec::oci::runtime::{Capabilities, Seccomp};
use seacow_spec::shim::SeccompChoice;
use seacow_sys::Errno;
use seacow_sys::seccomp::{Flags, SockFilter};

use crate::process::identity::set_of;
use crate::validate::Warning;

pub use default_profile::oci as default_as_oci;
pub use usual::CAPABILITIES as DEFAULT_CAPABILITIES;

/// Why a profile cannot become a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A word that the specification does not have, or a system call that no machine has.
    #[error("{path}: unknown {what} {value:?}")]
    Unknown {
        /// The field.
        path: String,
        /// What it should be.
        what: &'static str,
        /// The word.
        value: String,
    },
    /// A value out of range.
    #[error("{path}: {value} is out of range")]
    Range {
        /// The field.
        path: String,
        /// The value.
        value: u64,
    },
    /// A value that contradicts another.
    #[error("{path}: {why}")]
    Invalid {
        /// The field.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody takes the notifications.
    #[error("failed to connect with seccomp agent {}", path.display())]
    Agent {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        errno: Errno,
    },
    /// The agent did not take the listener.
    #[error("send the seccomp listener to agent {}", path.display())]
    Send {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        errno: Errno,
    },
    /// More instructions than the kernel takes.
    #[error("linux.seccomp: the filter needs {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unknown { .. } | Self::Range { .. } | Self::Invalid { .. } | Self::TooLong(_) => {
                ErrorClass::InvalidArgument
            }
            Self::Agent { .. } | Self::Send { .. } => ErrorClass::Unavailable,
        }
    }
}

/// A filter ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub program: Cow<'static, [SockFilter]>,
    /// How it is loaded.
    pub flags: Flags,
    /// Some call is decided by an agent, who must get the listener ([`notify`]).
    pub notifies: bool,
}

/// The kernel's limit of one filter (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

/// The filter of a process; `None` when it shall have none.
pub fn prepare(choice: &SeccompChoice, capabilities: Option<&Capabilities>) -> Result<Option<Filter>, Error> {
    let profile = match choice {
        SeccompChoice::Unconfined => return Ok(None),
        SeccompChoice::Default => {
            let bounding = set_of(capabilities.map(|c| c.bounding.as_slice()).unwrap_or_default());
            match usual::for_capabilities(bounding) {
                Some(usual) => return Ok(Some(usual)),
                None => default_profile::for_capabilities(bounding),
            }
        }
        SeccompChoice::Profile(oci) => parse::parse(oci)?,
    };
    filter(&profile).map(Some)
}

fn filter(profile: &profile::Profile) -> Result<Filter, Error> {
    let program = compile::program(profile);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong(program.len()));
    }
    Ok(Filter { program: Cow::Owned(program), flags: profile.flags, notifies: profile.notifies })
}

/// Compiles an OCI profile.
pub fn compile(oci: &Seccomp) -> Result<Filter, Error> {
    filter(&parse::parse(oci)?)
}

/// Checks an OCI profile before anything is made. What it says about system calls that no machine
/// has, and that can be left out, is returned as warnings.
pub fn check(oci: &Seccomp) -> Result<Vec<Warning>, Error> {
    parse::parse(oci).map(|profile| profile.ignored)
}
