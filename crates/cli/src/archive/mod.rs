//! Tar archives of local files, as `cp` and `build` send and receive them.

mod count;
pub(crate) mod extract;
pub(crate) mod ignore;
pub(crate) mod path;
mod tar;
mod walk;

pub(crate) use count::Counted;
pub(crate) use tar::{Archive, Entry, Kind};
pub(crate) use walk::{Owner, Walk};
