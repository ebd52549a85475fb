//! Whether a process can be forked: looked at from outside, nothing is touched.

use std::path::Path;

use seacow_sys::ns::{self, Kinds};
use seacow_sys::seccomp::SockFilter;

use crate::error::{Error, Result};
use crate::files::{self, ObjectId};
use crate::memory::Memory;
use crate::procfs::{self, Fields, Mapping};
use crate::reason::{Mapped, Reason};
use crate::snapshot;

/// What the caller knows about a source.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The process, as the caller sees it. It must not be reaped meanwhile.
    pub pid: i32,
    /// Objects of its streams, whose other ends are the caller's: each clone gets others in their place.
    pub streams: &'a [ObjectId],
    /// A cgroup directory in which all the container's processes are, if there is one.
    pub cgroup: Option<&'a Path>,
}

/// Everything that stands in the way of forking it; empty when nothing does. What is found may have
/// changed by the time of a fork, which looks again while the process stands still.
pub fn examine(target: &Target<'_>) -> Result<Vec<Reason>> {
    examine_but(target, &[])
}

/// As [`examine`]. `ours`: processes in the container that we have made.
pub(crate) fn examine_but(target: &Target<'_>, ours: &[i32]) -> Result<Vec<Reason>> {
    let memory = Memory::open(target.pid)?;
    let mut reasons = at_rest(target, ours)?;
    match crate::source::find_pad(target.pid, &memory) {
        Ok(_) => {}
        Err(Error::Refused(more)) => reasons.extend(more),
        Err(error) => return Err(error),
    }
    let status = Fields::read(target.pid, "status")?;
    let by = status.decimal("TracerPid")?;
    // Whoever watches it lets go before a fork.
    if by != 0 && by != seacow_sys::process::own_pid() {
        reasons.push(Reason::Traced { by });
    }
    if status.get("State")?.starts_with('T') {
        reasons.push(Reason::StoppedBySignal);
    }
    reasons.extend(mappings(&procfs::mappings(target.pid)?));
    reasons.extend(files::survey(target.pid, target.streams)?.refused);
    Ok(reasons)
}

/// What can be asked alike of a process that runs and of one that stands still. `ours`: processes in
/// the container that we have made.
pub(crate) fn at_rest(target: &Target<'_>, ours: &[i32]) -> Result<Vec<Reason>> {
    let pid = target.pid;
    let mut reasons = Vec::new();
    let status = Fields::read(pid, "status")?;
    if status.innermost("NSpid")? != 1 || status.list::<i32>("NSpid")?.len() < 2 {
        reasons.push(Reason::NotFirst);
    }
    let mut others = further_processes(target)?;
    others.retain(|other| !ours.contains(other));
    if !others.is_empty() {
        reasons.push(Reason::MoreProcesses { pids: others });
    }
    for (kind, reason) in [(Kinds::USER, Reason::UserNamespace), (Kinds::TIME, Reason::TimeNamespace)] {
        let own = ns::open_own(kind).map_err(Error::own("open own namespace"))?;
        let its = ns::open(pid, kind).map_err(Error::own("open a namespace of the source"))?;
        if !ns::same(own, its).map_err(Error::own("compare namespaces"))? {
            reasons.push(reason);
        }
    }
    if status.get("Seccomp")? == "1" {
        reasons.push(Reason::StrictSeccomp);
    }
    let locked = status.find("VmLck").and_then(|text| text.trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    if locked > 0 {
        reasons.push(Reason::LockedMemory { kilobytes: locked });
    }
    reasons.extend(mixed_credentials(pid, &status)?);
    Ok(reasons)
}

/// Children, and whatever else is in the cgroup.
fn further_processes(target: &Target<'_>) -> Result<Vec<i32>> {
    let pid = target.pid;
    let mut found = procfs::children(pid)?;
    if let Some(cgroup) = target.cgroup {
        let list = std::fs::read_to_string(cgroup.join("cgroup.procs")).map_err(|source| Error::Proc {
            pid,
            name: cgroup.display().to_string(),
            source,
        })?;
        found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|other| *other != pid && !snapshot::is_left_over(pid, *other));
    Ok(found)
}

/// What all threads of a process that we can handle have in common.
const CREDENTIALS: [&str; 9] =
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];

fn mixed_credentials(pid: i32, first: &Fields) -> Result<Vec<Reason>> {
    let mut reasons = Vec::new();
    for tid in procfs::numbers(pid, "task")?.into_iter().filter(|tid| *tid != pid) {
        let Ok(status) = Fields::read(pid, &format!("task/{tid}/status")) else { continue };
        let keys = CREDENTIALS.into_iter().chain(["Seccomp", "Seccomp_filters"]);
        if keys.clone().any(|key| status.find(key) != first.find(key)) {
            reasons.push(Reason::MixedCredentials { tid });
        }
    }
    Ok(reasons)
}

/// What is wrong with the mappings.
pub(crate) fn mappings(mappings: &[Mapping]) -> Vec<Reason> {
    let wrong =
        |mapping: &Mapping| Some(Reason::Mapping { address: mapping.start, what: what_is_wrong(mapping)? });
    mappings.iter().filter_map(wrong).collect()
}

fn what_is_wrong(mapping: &Mapping) -> Option<Mapped> {
    let name = mapping.name.clone();
    let deleted = name.ends_with(" (deleted)");
    if name.starts_with("/anon_hugepage") {
        return Some(Mapped::HugePages);
    }
    if name.starts_with("anon_inode:") || name.starts_with("socket:") || name.starts_with("[uprobes]") {
        return Some(Mapped::Device { name });
    }
    if name.starts_with("/dev/") && !name.starts_with("/dev/zero") && !name.starts_with("/dev/shm/") {
        return Some(Mapped::Device { name });
    }
    if !mapping.shared || mapping.is_kernels() {
        return None;
    }
    // Of several processes, or of a file system that is not the root's.
    let memory = ["/dev/zero", "/dev/shm/", "/memfd:", "/SYSV", "[anon_shmem:"];
    if memory.iter().any(|prefix| name.starts_with(prefix)) || mapping.inode == 0 {
        return Some(Mapped::Shared { name });
    }
    deleted.then_some(Mapped::Deleted { name })
}

/// Whether a filter asks a listener (SECCOMP_RET_USER_NOTIF).
pub(crate) fn asks_listener(filter: &[SockFilter]) -> bool {
    /// BPF_RET | BPF_K.
    const RETURN: u16 = 0x06;
    const USER_NOTIFICATION: u32 = 0x7fc0_0000;
    filter.iter().any(|step| step.code == RETURN && step.k & 0xffff_0000 == USER_NOTIFICATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(name: &str, shared: bool) -> Mapping {
        let (start, end, inode) = (0x1000, 0x2000, u64::from(name.starts_with('/')));
        Mapping {
            start,
            end,
            protection: 3,
            shared,
            offset: 0,
            device: "00:01".into(),
            inode,
            name: name.into(),
        }
    }

    #[test]
    fn mappings_that_are_refused() {
        let fine =
            ["", "[heap]", "[stack]", "/usr/lib/libc.so.6", "/usr/lib/libold.so (deleted)", "[anon: x]"];
        for name in fine {
            assert_eq!(what_is_wrong(&mapping(name, false)), None, "{name}");
        }
        assert_eq!(what_is_wrong(&mapping("/usr/lib/gconv/gconv-modules.cache", true)), None);
        for name in ["/dev/zero (deleted)", "/memfd:x (deleted)", "/SYSV0 (deleted)", "/dev/shm/x"] {
            assert!(matches!(what_is_wrong(&mapping(name, true)), Some(Mapped::Shared { .. })), "{name}");
        }
        assert_eq!(what_is_wrong(&mapping("/anon_hugepage (deleted)", false)), Some(Mapped::HugePages));
        let ring = what_is_wrong(&mapping("anon_inode:[io_uring]", true));
        assert!(matches!(ring, Some(Mapped::Device { .. })));
        assert!(matches!(what_is_wrong(&mapping("/dev/nvidia0", true)), Some(Mapped::Device { .. })));
        let deleted = what_is_wrong(&mapping("/data/gone (deleted)", true));
        assert!(matches!(deleted, Some(Mapped::Deleted { .. })));
    }
}
