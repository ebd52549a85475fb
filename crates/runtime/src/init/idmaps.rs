//! Writing the maps of a user namespace: by ourselves where we may, otherwise by the two programs
//! that distributions give to everybody.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;

use seacow_spec::oci::runtime::IdMapping;
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::unix;

use super::handle::{Child, out_of_order};
use crate::error::{Error, Step};
use crate::wire::{self, FromChild};

/// Fills the new user namespace of a process.
pub(crate) fn write(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<(), Error> {
    let (euid, egid) = (rustix::process::geteuid(), rustix::process::getegid());
    if euid.is_root() {
        write_file(pid, "uid_map", &text(uids))?;
        return write_file(pid, "gid_map", &text(gids));
    }
    // Everybody may map himself; a group only without the right to leave groups (user_namespaces(7)).
    if is_just(uids, euid.as_raw()) {
        write_file(pid, "uid_map", &text(uids))?;
    } else {
        run("newuidmap", pid, uids)?;
    }
    if is_just(gids, egid.as_raw()) {
        write_file(pid, "setgroups", "deny")?;
        write_file(pid, "gid_map", &text(gids))
    } else {
        run("newgidmap", pid, gids)
    }
}

fn is_just(maps: &[IdMapping], own: u32) -> bool {
    matches!(maps, [one] if one.size == 1 && one.host_id == own)
}

fn text(maps: &[IdMapping]) -> String {
    maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
}

fn write_file(pid: i32, name: &str, text: &str) -> Result<(), Error> {
    std::fs::write(format!("/proc/{pid}/{name}"), text)
        .step(|| format!("write {:?} to the {name} of process {pid}", text.trim_end()))
}

/// `newuidmap` or `newgidmap`, set-id programs that know what `/etc/subuid` grants us.
fn run(program: &str, pid: i32, maps: &[IdMapping]) -> Result<(), Error> {
    let numbers = maps.iter().flat_map(|m| [m.container_id, m.host_id, m.size]);
    let done = Command::new(program)
        .arg(pid.to_string())
        .args(numbers.map(|n| n.to_string()))
        .output()
        .step(|| format!("run {program}, which must map more than our own id (Debian: uidmap)"))?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Error::Invalid { what: format!("{program}: {}: {words}", done.status) })
}

/// A user namespace with these maps that nobody lives in: what an id-mapped mount is given.
pub(crate) fn namespace(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd, Error> {
    let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
    let how = Clone { namespaces: Kinds::USER, ..Clone::default() };
    match process::clone3(&how).step(|| "clone into a user namespace".into())? {
        Cloned::Child => {
            drop(ours);
            // Until the parent has what it wants, or is gone.
            let _ = unix::receive(theirs.as_fd(), &mut [0]);
            process::exit_now(0);
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            // Killed and reaped at the end of this function; the descriptor keeps the namespace.
            let child = Child::new(pid, pidfd, ours)?;
            write(child.pid, uids, gids)?;
            ns::open(child.pid, Kinds::USER).step(|| "open a user namespace".into())
        }
    }
}

/// The maps of somebody's user namespace, users' and groups'. Only processes in there show them, so one
/// of ours enters it.
pub(crate) fn of(namespace: BorrowedFd<'_>) -> Result<(Vec<IdMapping>, Vec<IdMapping>), Error> {
    let (ours, theirs) = unix::stream_pair().step(|| "make a socket pair".into())?;
    match process::clone3(&Clone::default()).step(|| "clone a helper".into())? {
        Cloned::Child => {
            drop(ours);
            let entered = process::die_with_parent()
                .step(|| "tie the helper to the shim's life".into())
                .and_then(|()| ns::enter(namespace, Kinds::USER).step(|| "join the user namespace".into()));
            let told = match &entered {
                Ok(()) => wire::send_need_maps(theirs.as_fd()),
                Err(error) => wire::send_failed(theirs.as_fd(), &error.report()),
            };
            // Until the parent has what it wants, or is gone.
            let _ = told.map(|()| unix::receive(theirs.as_fd(), &mut [0]));
            process::exit_now(0);
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            // Killed and reaped at the end of this function.
            let helper = Child::new(pid, pidfd, ours)?;
            match helper.answer()? {
                Some(FromChild::NeedMaps) => Ok((read(helper.pid, "uid_map")?, read(helper.pid, "gid_map")?)),
                Some(_) => Err(out_of_order()),
                None => Err(helper.lost("join a user namespace")),
            }
        }
    }
}

fn read(pid: i32, name: &str) -> Result<Vec<IdMapping>, Error> {
    let path = format!("/proc/{pid}/{name}");
    let text = std::fs::read_to_string(&path).step(|| format!("read {path}"))?;
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
    };
    let maps: Option<Vec<_>> = text.lines().map(line).collect();
    maps.ok_or_else(|| Error::Invalid { what: format!("{path} is no map: {text:?}") })
}
