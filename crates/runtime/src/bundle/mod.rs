//! A container of another OCI runtime: what that runtime expects to find ready-made.
//!
//! Our own runtime takes a root file system in layers, a user by name, the name of a default
//! profile and a network configuration; the OCI specification knows a mounted directory, numbers,
//! a whole profile and a namespace that somebody else furnished. This module makes the one out of
//! the other:
//!
//! ```text
//! Mounts::enter ─▶ Network::enter ─▶ (the engine makes the link) ─▶ Network::furnish ─▶ Mounts::root
//!                                                                        process, spec ─▶ config.json
//! ```
//! The caller (a single-threaded shim) lives in a mount namespace of its own from then on, which
//! the runtime inherits as its child: the host never sees the container's mounts.
//!
//! It does *not* run the runtime, and writes no files.

mod ids;
mod mounts;
mod network;
mod process;
mod spec;

pub use ids::Ids;
pub use mounts::Mounts;
pub use network::Network;
pub use process::{process, process_in};
pub use spec::{Ready, UserNamespace, spec};
