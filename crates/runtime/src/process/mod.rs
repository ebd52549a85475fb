//! From a process inside the container's root to its program: who it is, what it may do, what it
//! executes. The same for a container's first process and for exec.

pub(crate) mod ahead;
pub(crate) mod finish;
pub(crate) mod identity;
pub(crate) mod labels;
pub(crate) mod oom_score;
pub mod program;
pub(crate) mod scheduling;
pub(crate) mod sysctl;
pub mod user;
