//! Writing the maps of a user namespace: by ourselves where we may, otherwise by the two programs
//! that distributions give to everybody.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use seacow_spec::oci::runtime::IdMapping;
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::unix;

use super::handle::Child;
use crate::error::{Error, Step};

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
