//! Tests of the store as its users see it: on a real file system, with real overlays. Most need
//! root (devices, owners, trusted attributes, mounts) and say so when they are skipped.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: that is how it fails")]

mod archives;
mod blobs;
mod census;
mod common;
mod crash;
mod disks;
mod host;
mod hostile;
mod images;
mod keeping;
mod killed;
mod layers;
mod loading;
mod points;
mod powercut;
mod quota;
mod snapshots;
mod storefile;
mod together;
