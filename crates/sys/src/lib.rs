//! The only unsafe crate: kernel calls as safe Rust.
//!
//! Every function is one kernel call, or a short fixed sequence that makes sense only as a whole.
//! Descriptors are values ([`std::os::fd::OwnedFd`], [`std::os::fd::BorrowedFd`]), always
//! close-on-exec; errors are [`Errno`]s, or a small enum where the errno alone would not say which
//! of several steps failed.
//!
//! What this crate does *not* do: policy. It knows no container, no image, no default.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod bpf;
pub mod btrfs;
pub mod command;
pub mod cred;
pub mod heap;
pub mod inspect;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod ns;
pub mod process;
#[cfg(target_arch = "x86_64")]
pub mod ptrace;
pub mod pty;
pub mod quota;
mod raw;
pub mod rlimit;
pub mod rooted;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod space;
#[cfg(target_arch = "x86_64")]
pub mod stub;
pub mod unix;

pub use rustix::io::Errno;
