//! Who may use the daemon's socket, and what to do to be one of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The group that a daemon gives its socket to, if the group exists when it starts.
const GROUP: &str = "seacow";

/// The command that lets a user who is not root use this socket.
pub(crate) fn mend(socket: &Path) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let owner = socket.metadata().map_or(0, |meta| meta.gid());
    let named = |gid: u32| {
        let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
        lines.find(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(gid)))?.first().copied()
    };
    match named(owner).filter(|_| owner != 0) {
        Some(group) => format!("sudo usermod -aG {group} $USER, then log in again"),
        None => format!(
            "sudo groupadd -f {GROUP} && sudo usermod -aG {GROUP} $USER, then restart the daemon and log in again"
        ),
    }
}

/// Whether the caller is in the group of this socket.
pub(crate) fn is_member(socket: &Path) -> bool {
    let Ok(group) = socket.metadata().map(|meta| meta.gid()) else { return false };
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups().is_ok_and(|groups| groups.iter().any(|g| g.as_raw() == group))
}
