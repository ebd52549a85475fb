//! How many files the daemon may have open.
//!
//! Every container costs it a connection to the shim, every attached client one more. A soft limit
//! is there for programs that use `select`, which this one does not; so it takes what the hard limit
//! allows, as dockerd does. Containers must not inherit that: programs that close every descriptor up
//! to the limit take seconds when it is a million, and some fail.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. What it was before, soft and hard, for the shims.
pub(crate) fn raise() -> Option<(u64, u64)> {
    let before = getrlimit(Resource::Nofile);
    let mut raised = before;
    raised.current = raised.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
        return None;
    }
    Some((before.current.unwrap_or(u64::MAX), before.maximum.unwrap_or(u64::MAX)))
}
