//! Shadows: processes of ours that have the same memory as a source, the very same, so that a kernel's fork of
//! them is a copy of it.
//!
//! A process whose pid namespace is a container's never has a child outside of it. So a shadow cannot be made
//! later: it executes the program. When a process has executed one ([`Watch`]), the shadow executes it once
//! more, outside; before the first instruction it makes a process with the same memory as the first of a new
//! pid namespace, which gets all that the one that executed had, and goes on in its place ([`Watch::double`]).
//! The shadow never runs.
//!
//! ```text
//!  we                    P that has executed      H (the shadow)        P' in its place
//!   │ ── stop ──────────────▶ stopped
//!   │    look, state          │
//!   │ ── fork ourselves ──────┼────────────────────▶ namespaces, execve
//!   │                         │                      │ stopped
//!   │ ── clone3(VM, NEWPID) ──┼──────────────────────┼──────────────────────▶ stopped
//!   │    descriptors, /proc, filters, credentials    │                        │
//!   │ ── kill ───────────────▶✝                      │                        │
//!   │ ── let go ─────────────────────────────────────┼───────────────────────▶ runs
//! ```
//!
//! Until the kill everything can be taken back: whatever fails, P goes on without a shadow.

mod double;
mod fork;
mod proc_mount;
mod program;
mod settle;
mod watch;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::fcntl_dupfd_cloexec;
use seacow_sys::inspect::{self, Common};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::puppet::Puppet;

pub(crate) use fork::Copied;
pub use settle::Settling;
pub use watch::{Doubled, Seen, Watch};

/// What it is called.
pub(crate) const NAME: &str = "seacow-shadow";

/// Where a shadow and its forks are charged for what they use. Everything is borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Charge<'a> {
    /// `tasks` file, open for writing, of the cgroup of version 1 that the memory is charged to: the
    /// container's. (In version 2 a shadow is born where the process is.)
    pub memory: Option<BorrowedFd<'a>>,
    /// The cgroup v2 directory that templates are born in: not the container's.
    pub templates: Option<BorrowedFd<'a>>,
    /// `tasks` file of the cgroup of version 1 that templates' memory is charged to.
    pub templates_memory: Option<BorrowedFd<'a>>,
}

/// What the caller gives for a shadow and for who goes on in the place of who executed. Everything is
/// borrowed.
#[derive(Debug, Default)]
pub struct Surroundings<'a> {
    /// The cgroup v2 directory that both are born in: the container's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// `tasks` files, open for writing, of all cgroups of version 1 that the process is in. Each joins by
    /// itself: whoever writes another's pid waits for the kernel, 5 to 10 ms.
    pub join: Vec<BorrowedFd<'a>>,
    /// Who is charged.
    pub charge: Charge<'a>,
}

/// A process with the memory of another. Dropped, it is killed, and the other runs on.
#[derive(Debug)]
pub struct Shadow {
    pub(crate) puppet: Puppet,
    /// How many of the source's filters it has, which its forks inherit.
    filters: usize,
    /// Where templates are born and charged.
    templates: Option<OwnedFd>,
    templates_memory: Option<OwnedFd>,
}

impl Shadow {
    /// Takes a process as one, which is charged already. `filters`: how many system call filters it has.
    pub(crate) fn adopt(puppet: Puppet, filters: usize, charge: Charge<'_>) -> Result<Self> {
        let templates = duplicate(charge.templates)?;
        let templates_memory = duplicate(charge.templates_memory)?;
        Ok(Self { puppet, filters, templates, templates_memory })
    }

    /// As the caller sees it.
    pub fn pid(&self) -> i32 {
        self.puppet.pid
    }

    /// Whether it has the memory of this process still: an exec gives that a new one.
    pub fn is_of(&self, pid: i32) -> bool {
        inspect::shared(Common::Memory, (self.puppet.pid, 0), (pid, 0)).unwrap_or(false)
    }
}

/// Has a process join a cgroup of version 1. `us`: its pidfd of ours; `free`: the lowest descriptor that it
/// does not have.
pub(crate) fn join(batch: &mut Batch, tasks: BorrowedFd<'_>, us: u64, free: u64) {
    let itself = batch.data(b"0");
    batch.call("fetch a descriptor", libc::SYS_pidfd_getfd, &[us, tasks.as_raw_fd() as u64, 0]);
    batch.call("join a cgroup", libc::SYS_write, &[free, itself, 1]);
    batch.call("close a descriptor", libc::SYS_close, &[free]);
}

fn duplicate(fd: Option<BorrowedFd<'_>>) -> Result<Option<OwnedFd>> {
    fd.map(|fd| fcntl_dupfd_cloexec(fd, 3)).transpose().map_err(Error::own("duplicate a descriptor"))
}
