//! Security modules of the host that confine containers beside capabilities and seccomp.

pub(crate) mod apparmor;
pub(crate) mod relabel;
pub(crate) mod selinux;
