//! The only unsafe crate: kernel calls as safe Rust.
//!
//! Every function is one kernel call, or a short fixed sequence that makes sense only as a whole.
//! Descriptors are values ([`std::os::fd::OwnedFd`], [`std::os::fd::BorrowedFd`]), always
//! close-on-exec; errors are [`Errno`]s, or a small enum where the errno alone would not say which
//! of several steps failed.
//!
//! What this crate does *not* do: policy. It knows no container, no image, no default.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod netlink;
mod raw;
pub mod rooted;

pub use rustix::io::Errno;
