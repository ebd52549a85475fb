//! What a parent with the host's rights does for an init in a user namespace, which lacks them.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::FileType;
use seacow_spec::shim::Create;

use super::Streams;
use crate::error::{Error, Step};
use crate::process::oom_score;

/// Sets the OOM score and lets init own its streams.
pub(super) fn prepare(pid: i32, create: &Create, streams: &Streams) -> Result<(), Error> {
    let score = create.spec.process.as_ref().and_then(|p| p.oom_score_adj);
    oom_score::set_of(pid, score)?;
    lend(pid, streams)
}

/// Gives streams to the root of a process's user namespace.
pub(crate) fn lend(pid: i32, streams: &Streams) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, gid)) = owner(pid)? else { return Ok(()) };
    streams.borrowed().into_iter().try_for_each(|fd| give(fd, uid, gid))
}

/// Pipes and sockets; files and devices have owners of their own.
fn give(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), Error> {
    let stat = rustix::fs::fstat(fd).step(|| "status of a standard stream".into())?;
    if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket) {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::fchown(fd.as_fd(), Some(uid), Some(gid))
        .step(|| "give a standard stream to the container's root".into())
}

/// Who the first id of each map is outside.
pub(crate) fn owner(pid: i32) -> Result<Option<(u32, u32)>, Error> {
    let first = |map: &str| -> Result<Option<u32>, Error> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{map}"))
            .step(|| format!("read the {map} of process {pid}"))?;
        Ok(text.split_whitespace().nth(1).and_then(|host| host.parse().ok()))
    };
    Ok(first("uid_map")?.zip(first("gid_map")?))
}
