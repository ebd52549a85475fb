//! Tests of the store as its users see it: on a real file system, with real overlays. Most need
//! root (devices, owners, trusted attributes, mounts) and say so when they are skipped.
#![forbid(unsafe_code)]

mod common;
mod hostile;
mod layers;
mod snapshots;
