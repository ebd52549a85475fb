//! How many descriptors a shim may have open: a dozen for each of its containers.
//!
//! Programs inherit the limit, so what was raised for us is taken back for those that are executed.

use std::sync::OnceLock;

use seacow_spec::oci::runtime::Rlimit;
use seacow_spec::shim::Exec;
use seacow_sys::rlimit::{self, Kind, Limit};

const NAME: &str = "RLIMIT_NOFILE";

/// What it was before it was raised.
static BEFORE: OnceLock<Limit> = OnceLock::new();

/// Raises the soft limit to the hard one, once.
pub(super) fn raise() {
    let Some(kind) = Kind::named("nofile").filter(|_| BEFORE.get().is_none()) else { return };
    let now = rlimit::get(kind);
    let raised = Limit { soft: now.hard, hard: now.hard };
    // Where that is refused the kernel says so when one descriptor too many is opened.
    if now.soft < now.hard && rlimit::set_of(seacow_sys::process::own_pid(), kind, raised).is_ok() {
        let _ = BEFORE.set(now);
    }
}

/// What is executed, with the limit that it would have inherited.
pub(super) fn as_ever(exec: &Exec) -> Option<Exec> {
    let before = BEFORE.get()?;
    if exec.process.rlimits.iter().any(|limit| limit.kind == NAME) {
        return None;
    }
    let mut exec = exec.clone();
    exec.process.rlimits.push(Rlimit { kind: NAME.to_owned(), soft: before.soft, hard: before.hard });
    Some(exec)
}
