//! Tar streams: read what any tar writes, write what dockerd writes.
//!
//! Reading keeps the exact bytes of everything that is not a file's content (headers, padding,
//! the end), so that a layer can later be given back as the very stream that came in. Writing
//! makes POSIX ustar with PAX records only where a field does not fit, as Go's archive/tar and
//! therefore dockerd does; the result depends on nothing but the files.

pub(crate) mod compress;
mod header;
pub(crate) mod pack;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use header::Kind;
pub use reader::TarError;
pub(crate) use reader::{Bounds, Member, TarReader, clean};
pub(crate) use sparse::Segment;
pub(crate) use writer::{Head, TarOut, TarWriter, padding};
