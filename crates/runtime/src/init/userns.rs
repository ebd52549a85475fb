//! Init's first steps in a user namespace: from nobody with the caller's file rights to its root.

use std::os::fd::AsFd;

use seacow_sys::{Errno, cred, process};

use super::child::Setup;
use super::handle::out_of_order;
use crate::cgroup;
use crate::error::{Error, Step};
use crate::mounts::stage::Stage;
use crate::rights;
use crate::wire::{self, ToChild};

/// Does with the caller's own file rights what only they allow, waits for the maps, opens the stage
/// and becomes root. Never when the parent has gone.
pub(super) fn enter(setup: &Setup<'_>) -> Result<Stage, Error> {
    // The files are the caller's root's, whom we still are to the file system.
    match cgroup::join_present(&setup.cgroups.tasks_files()) {
        // Not ours to write, as everything of cgroups without rights.
        Err(error) if error.is_denied() && rights::are_limited() => {}
        joined => joined?,
    }
    match wire::receive_in_child(setup.socket.as_fd())? {
        Some(ToChild::Mapped) => {}
        Some(_) => return Err(out_of_order()),
        None => process::exit_now(0),
    }
    let (uid, gid) = (root_id("/proc/self/uid_map", 0)?, root_id("/proc/self/gid_map", 0)?);
    // While its path can be walked.
    let stage = Stage::open_here(setup.stage, uid, gid)?;
    become_root(uid, gid)?;
    // The change of user took it back.
    process::die_with_parent().step(|| "tie init to the shim's life".into())?;
    stage.lay_out()
}

/// Root, or where the map has none, who comes first in it.
fn root_id(map: &str, wanted: u32) -> Result<u32, Error> {
    let text = std::fs::read_to_string(map).step(|| format!("read {map}"))?;
    let ranges = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        Some((numbers.next()?.ok()?, numbers.nth(1)?.ok()?))
    });
    let ranges: Vec<(u64, u64)> = ranges.collect();
    let wanted = u64::from(wanted);
    if ranges.iter().any(|(first, size)| (*first..first + size).contains(&wanted)) {
        return Ok(wanted as u32);
    }
    let first = ranges.first().and_then(|(first, _)| u32::try_from(*first).ok());
    first.ok_or_else(|| Error::Invalid { what: format!("{map} is empty: the user namespace has no ids") })
}

fn become_root(uid: u32, gid: u32) -> Result<(), Error> {
    match cred::set_groups(&[]) {
        // Who mapped his own group alone may not leave others (setgroups is denied).
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).step(|| "leave the caller's groups".into()),
    }
    cred::set_gid(gid).step(|| format!("become group {gid} of the user namespace"))?;
    cred::set_uid(uid).step(|| format!("become user {uid} of the user namespace"))
}
