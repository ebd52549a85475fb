//! Paths below a foreign root: the one place that names the crate they come from.

pub(crate) use seacow_store::Errno;
pub(crate) use seacow_store::rooted::{Entry, FileType, Root, Stat, Timestamps, list};
