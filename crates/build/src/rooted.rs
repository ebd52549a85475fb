//! Paths below a foreign root: the one place that names the crate they come from.

pub(crate) use seacow_sys::Errno;
pub(crate) use seacow_sys::rooted::{Entry, FileType, Root, Stat, Timestamps, list};
