//! OCI documents, as far as seacow reads and writes them.
//!
//! Our own types instead of a library's: the runtime specification is followed to 1.2, Docker's
//! additions to the image config are kept, and what is unknown survives where it must.

pub mod image;
pub mod runtime;
pub mod state;
