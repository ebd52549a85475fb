//! Nouns shared by every process of seacow.
//!
//! What crosses a process border, a file or the wire is defined here once: ids, digests, image
//! references, error classes, the container's lifecycle, the OCI and Docker wire types, and the
//! protocol between daemon and shim. The crate does no I/O apart from drawing random numbers, and
//! knows nothing of how any of it is carried out.
//!
//! | module | what |
//! |---|---|
//! | [`error`] | the few classes of failure and the report that crosses process borders |
//! | [`id`] | container, exec and network ids |
//! | [`digest`] | `sha256:…` content addresses, layer chain ids |
//! | [`reference`] | image names as Docker reads and prints them |
//! | [`names`] | container names, valid and invented |
//! | [`selinux`] | labels of processes and files |
//! | [`signal`] | signal names and numbers |
//! | [`size`] | numbers of bytes as people write them |
//! | [`time`] | instants as RFC 3339 with nanoseconds |
//! | [`lifecycle`] | the states of a container and the one function that moves between them |
//! | [`oci`] | OCI runtime and image documents |
//! | [`docker`] | Docker Engine API bodies |
//! | [`shim`] | messages between daemon and shim |
#![forbid(unsafe_code)]

pub mod digest;
pub mod docker;
pub mod error;
pub mod id;
pub mod lifecycle;
pub mod names;
pub mod oci;
pub mod reference;
pub mod selinux;
pub mod shim;
pub mod signal;
pub mod size;
pub mod time;

pub use digest::{ChainId, Digest};
pub use error::{Classified, ErrorClass, ErrorReport};
pub use id::{ContainerId, ExecId};
pub use reference::Reference;
pub use time::Timestamp;
