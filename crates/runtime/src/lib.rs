//! Makes a process a container.
//!
//! Vocabulary: *init* is the container's first process; the *stage* is what is mounted before the
//! image is known; to *prepare*, *configure* and *start* init are three separate steps
//! ([`init::Prepared`], [`init::Created`], [`init::Running`]), so that the first can be taken long
//! before anybody asks for a container. [`exec`] runs one more process in a running one.
//!
//! Callers are single-threaded and become the parent: the shim, or the `seacow-runtime` command.
//! All paths inside a container are resolved below its root by the kernel.
//!
//! What this crate does *not* do: no images or layers (the store says which directories), no
//! network outside the namespace, no logs, no waiting for the end of a process.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod cgroup;
pub mod error;
pub mod exec;
pub mod hooks;
pub mod init;
mod mounts;
mod network;
pub mod process;
mod rights;
pub mod seal;
pub mod seccomp;
pub mod surroundings;
mod trace;
pub mod validate;
mod wire;

/// Words of a configuration that are understood here, for those who ask before they write one.
pub mod known {
    pub use crate::mounts::options::NAMES as MOUNT_OPTIONS;
    pub use crate::validate::linux::{MEMORY_POLICIES, MEMORY_POLICY_FLAGS};
}

pub use error::Error;
pub use init::Streams;
