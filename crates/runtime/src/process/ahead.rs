//! Those of the last steps that can be taken before the word to start has come.
//!
//! Between create and start a client does its round trips, and init has nothing else to do. What
//! does not depend on files that may change meanwhile (users, groups, the program: `docker cp`
//! before `docker start`) is done then, and the start costs less.

use seacow_spec::oci::runtime::{Hooks, Process};
use seacow_sys::{Errno, process, seccomp as kernel_filter};

use super::identity::{self, Wanted};
use super::labels::Labels;
use crate::error::{Error, Step};
use crate::seccomp::{self, Filter};
use crate::trace::Trace;

/// What is done already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    pub(super) keyring: bool,
    pub(super) bounding: bool,
    pub(super) filter: bool,
}

impl Ahead {
    /// Takes the steps of a process that is a container's first. Its caller has CAP_SYS_ADMIN.
    pub(crate) fn of_init(
        process: &Process,
        labels: &Labels,
        filter: Option<&Filter>,
        hooks: Option<&Hooks>,
        keep_keyring: bool,
        trace: &mut Trace,
    ) -> Result<Self, Error> {
        if !keep_keyring {
            labels.label_keys()?;
            new_keyring()?;
        }
        identity::limit(&Wanted::of(process.capabilities.as_ref())?)?;
        trace.lap("ahead: keyring, bounding set");
        // The programs of hooks may call anything, before the filter holds for them too.
        let has_hooks = hooks.is_some_and(|all| !all.start_container.is_empty());
        let early = filter.filter(|filter| !has_hooks && seccomp::rest::lets_pass(filter));
        if let Some(filter) = early {
            kernel_filter::load(&filter.program, filter.flags).step(|| "load the seccomp filter".into())?;
            trace.lap("ahead: seccomp filter");
        }
        Ok(Self { keyring: true, bounding: true, filter: early.is_some() })
    }
}

/// A session keyring of its own: keys of the host's session are not the container's. Without a name:
/// the kernel would compare it with all keyrings of that name first.
pub(super) fn new_keyring() -> Result<(), Error> {
    match process::new_session_keyring() {
        // No keyrings in this kernel, or the quota of keys is used up: there are none to leak then,
        // or Docker's containers would not start either.
        Ok(()) | Err(Errno::NOSYS | Errno::DQUOT) => Ok(()),
        Err(errno) => Err(errno).step(|| "make a session keyring".into()),
    }
}
