//! Hooks that run while init is made: who runs which, and who waits for whom.

use std::os::fd::BorrowedFd;

use seacow_spec::oci::state::{State, Status};
use seacow_spec::shim::Create;
use seacow_sys::process;

use super::handle::out_of_order;
use crate::error::Error;
use crate::hooks::{self, Stage};
use crate::mounts::place::fd_path;
use crate::wire::{self, ToChild};

/// In init, with all mounts made and the host's root still in place: lets the parent run its hooks,
/// then runs those of the container's namespaces.
pub(super) fn before_root(
    socket: BorrowedFd<'_>,
    create: &Create,
    root: BorrowedFd<'_>,
) -> Result<(), Error> {
    let Some(all) = &create.spec.hooks else { return Ok(()) };
    if has_parents(create) {
        wire::send_mounted(socket)?;
        match wire::receive_in_child(socket)? {
            Some(ToChild::EnterRoot) => {}
            // The parent's hook failed, and it says so itself.
            None => process::exit_now(0),
            Some(_) => return Err(out_of_order()),
        }
    }
    // In the root that is not entered yet: hooks written for runc count on it.
    let dir = fd_path(root);
    hooks::run_in(Some(&dir), Stage::CreateContainer, all, &state_inside(create, Status::Creating))?;
    Ok(())
}

/// In the parent, when init has said that its mounts are made.
pub(super) fn in_parent(create: &Create, pid: i32) -> Result<(), Error> {
    let Some(all) = &create.spec.hooks else { return Ok(()) };
    let state = |status: Status| State { pid, status, ..create.state.clone() };
    // Once they were run by `start`, and the hooks of that time expect what they saw then.
    hooks::run(Stage::Prestart, all, &state(Status::Created))?;
    hooks::run(Stage::CreateRuntime, all, &state(Status::Creating))?;
    Ok(())
}

/// What a hook inside the container reads: pids as the container counts them.
pub(super) fn state_inside(create: &Create, status: Status) -> State {
    State { pid: process::own_pid(), status, ..create.state.clone() }
}

fn has_parents(create: &Create) -> bool {
    let of = |stage: Stage| create.spec.hooks.as_ref().is_some_and(|all| !stage.of(all).is_empty());
    of(Stage::Prestart) || of(Stage::CreateRuntime)
}
