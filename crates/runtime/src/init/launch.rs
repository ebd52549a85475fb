//! Cloning init when one clone3 is not enough.
//!
//! Who joins a user namespace cannot come back, what is made anew shall belong to the user
//! namespace that init lives in, and only the children of whoever made a time namespace are in it.
//! So a helper goes ahead: it joins and makes what has to be there before, then clones init as its
//! *sibling* (CLONE_PARENT), a child of ours like any other, and ends.
//!
//! ```text
//! parent                        helper                         init
//!   │ ─── clone3 ─────────────────▶ │  join with our own rights
//!   │                               │  user namespace: join, or make
//!   │ ◀─── NeedMaps ─────────────── │  (made: who we are is the parent's to say)
//!   │ ──── Mapped ────────────────▶ │
//!   │                               │  join what only the new rights can; clocks
//!   │ ◀─── Made(pid) ────────────── │ ─── clone3(PARENT) ────────▶ │
//! ```

use std::os::fd::{AsFd, BorrowedFd};

use seacow_spec::shim::NamespaceSettings;
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::{Errno, unix};

use super::handle::{Child, out_of_order};
use super::namespaces::{Plan, User};
use super::{clone_into_pid_namespace, idmaps};
use crate::error::{Error, Step};
use crate::wire::{self, FromChild, ToChild};

/// Clones init into what the plan says.
pub(super) fn init(plan: &Plan, how: &Clone<'_>, settings: &NamespaceSettings) -> Result<Cloned, Error> {
    if plan.needs_helper() {
        return by_helper(settings, |socket| ahead(plan, how, settings, socket));
    }
    let user = if matches!(plan.user, User::New) { Kinds::USER } else { Kinds::empty() };
    let how = Clone { namespaces: how.namespaces | user, ..*how };
    match &plan.join_pid {
        Some(pid_namespace) => clone_into_pid_namespace(pid_namespace.as_fd(), &how),
        None => process::clone3(&how).step(|| "clone init".into()),
    }
}

/// Clones an exec's process as a child of ours by somebody who has entered `kinds` of the
/// namespaces of a process: for callers without rights in their own pid namespace.
pub(crate) fn exec(target: BorrowedFd<'_>, kinds: Kinds, how: &Clone<'_>) -> Result<Cloned, Error> {
    by_helper(&NamespaceSettings::default(), |_| {
        ns::enter_process(target, kinds).step(|| "join user and pid namespace".into())?;
        process::clone3(&Clone { sibling: true, ..*how }).step(|| "clone into the container".into())
    })
}

/// Clones a helper that does `work`, which ends with the clone of a sibling.
fn by_helper(
    settings: &NamespaceSettings,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<Cloned, Error>,
) -> Result<Cloned, Error> {
    let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
    let (pid, pidfd) = match process::clone3(&Clone::default()).step(|| "clone a helper".into())? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(ours);
            let told = match process::die_with_parent()
                .step(|| "tie the helper to the shim's life".into())
                .and_then(|()| work(theirs.as_fd()))
            {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Parent { pid, .. }) => wire::send_made(theirs.as_fd(), pid),
                Err(error) => wire::send_failed(theirs.as_fd(), &error.report()),
            };
            // The parent sees the end of the socket when even this failed.
            process::exit_now(i32::from(told.is_err()));
        }
    };
    drop(theirs);
    let helper = Child::new(pid, pidfd, ours)?;
    let pid = loop {
        match helper.answer()? {
            Some(FromChild::NeedMaps) => {
                idmaps::write(helper.pid, &settings.uid_mappings, &settings.gid_mappings)?;
                wire::send_mapped(helper.socket())?;
            }
            Some(FromChild::Made(pid)) => break pid,
            Some(_) => return Err(out_of_order()),
            None => return Err(helper.lost("clone init")),
        }
    };
    // A child of ours that nobody has reaped: the number is still its own.
    let pidfd = process::pidfd_open(pid).step(|| format!("open process {pid}"))?;
    Ok(Cloned::Parent { pid, pidfd })
}

/// The helper's way.
fn ahead(
    plan: &Plan,
    how: &Clone<'_>,
    settings: &NamespaceSettings,
    socket: BorrowedFd<'_>,
) -> Result<Cloned, Error> {
    let pid = plan.join_pid.iter().map(|fd| (Kinds::PID, fd));
    let all = plan.join.iter().map(|(kind, fd)| (*kind, fd)).chain(pid);
    let mut later = Vec::new();
    // Not mounts: the helper needs the host's until the end. Init joins them itself.
    for (kind, fd) in all.filter(|(kind, _)| *kind != Kinds::MOUNT) {
        match ns::enter(fd.as_fd(), kind) {
            // Somebody's who is nobody here: with the rights in his user namespace.
            Err(Errno::PERM) if matches!(plan.user, User::Joined(_)) => later.push((kind, fd)),
            done => done.step(|| joining(kind))?,
        }
    }
    match &plan.user {
        User::Same => {}
        User::Joined(fd) => ns::enter(fd.as_fd(), Kinds::USER).step(|| joining(Kinds::USER))?,
        User::New => {
            ns::unshare(Kinds::USER).step(|| "make a user namespace".into())?;
            wire::send_need_maps(socket)?;
            match wire::receive_in_child(socket)? {
                Some(ToChild::Mapped) => {}
                Some(_) => return Err(out_of_order()),
                None => process::exit_now(0),
            }
        }
    }
    for (kind, fd) in later {
        ns::enter(fd.as_fd(), kind).step(|| joining(kind))?;
    }
    if plan.owns(Kinds::TIME) {
        clocks(settings)?;
    }
    // The clock's namespace is where our children are born anyway.
    let how = Clone { namespaces: how.namespaces.without(Kinds::TIME), sibling: true, ..*how };
    process::clone3(&how).step(|| "clone init".into())
}

fn joining(kind: Kinds) -> String {
    format!("join {} namespace", kind.names().collect::<String>())
}

/// A time namespace, whose clocks can be set until somebody lives in it.
fn clocks(settings: &NamespaceSettings) -> Result<(), Error> {
    ns::unshare(Kinds::TIME).step(|| "make a time namespace".into())?;
    let line = |(clock, offset): (&String, &seacow_spec::oci::runtime::TimeOffset)| {
        format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
    };
    let text: String = settings.time_offsets.iter().map(line).collect();
    if text.is_empty() {
        return Ok(());
    }
    std::fs::write("/proc/self/timens_offsets", &text)
        .step(|| format!("set linux.timeOffsets {:?}", text.trim_end()))
}
