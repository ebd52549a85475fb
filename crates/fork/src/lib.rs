//! Branches a running process into many that go on from its exact state.
//!
//! Vocabulary: the *source* is the process that is forked; it stands still for a few milliseconds and goes
//! on. A *template* is a frozen copy of its memory, outside the container, with what every clone
//! inherits. A *clone* is forked from a template by the kernel, so that memory is shared copy-on-write
//! between all clones; it gets namespaces of its own and then the rest of the source's state.
//! A *puppet* is any process that we make and that dies with us: templates, and clones until they are
//! let go. To *inject* is to have a stopped process make system calls.
//!
//! What this crate does *not* do: files. The root file system, network, cgroups and streams of a clone come
//! from the caller, as descriptors. It knows no container.
//!
//! All calls that concern one source and its templates must come from one thread: the kernel ties
//! tracing to it. Design: `docs/design/fork.md`.

#![forbid(unsafe_code)]
#![cfg(target_arch = "x86_64")]

mod batch;
mod capture;
mod clone;
pub mod error;
mod examine;
mod family;
mod files;
mod memory;
mod procfs;
mod puppet;
pub mod reason;
mod registers;
mod shadow;
mod snapshot;
mod source;
mod template;
mod wait;

pub use clone::{Begun, Clone, Held, Mount, Spec};
pub use error::{Error, Result};
pub use examine::{Target, examine};
pub use family::{Family, Forked, Meanwhile, Path};
pub use files::ObjectId;
pub use reason::Reason;
pub use shadow::{Charge, Doubled, Seen, Settling, Shadow, Surroundings, Watch};
