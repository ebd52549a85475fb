//! `linux.namespaces` and what belongs to some kinds.

use seacow_spec::oci::runtime::{Linux, LinuxNamespace, NamespaceKind, TimeOffset};
use seacow_sys::ns::Kinds;

use super::{Error, Warning, maps};

/// Checks the list, id maps and clocks; gives the kinds that are not the host's.
pub(super) fn check(linux: &Linux, warnings: &mut Vec<Warning>) -> Result<Kinds, Error> {
    let kinds = unique(&linux.namespaces)?;
    let path_of = |kind: NamespaceKind| linux.namespaces.iter().find(|n| n.kind == kind).map(|n| &n.path);
    let user = path_of(NamespaceKind::User);
    for (path, list) in
        [("linux.uidMappings", &linux.uid_mappings), ("linux.gidMappings", &linux.gid_mappings)]
    {
        match user {
            None if list.is_empty() => {}
            None => return Err(Error::field(path, "without a user namespace in linux.namespaces")),
            Some(joined) if !joined.is_empty() => {
                if !list.is_empty() {
                    let what = "ignored: the user namespace that is joined has its own".to_owned();
                    warnings.push(Warning { path: path.to_owned(), what });
                }
            }
            Some(_) => maps::check(path, list)?,
        }
    }
    match path_of(NamespaceKind::Time) {
        None if linux.time_offsets.is_empty() => {}
        None => {
            return Err(Error::field("linux.timeOffsets", "without a time namespace in linux.namespaces"));
        }
        Some(joined) if !joined.is_empty() && !linux.time_offsets.is_empty() => {
            return Err(Error::field("linux.timeOffsets", "the time namespace that is joined has its own"));
        }
        Some(_) => clocks(&linux.time_offsets)?,
    }
    Ok(kinds)
}

/// Each kind once at most; gives the kinds named.
pub(crate) fn unique(list: &[LinuxNamespace]) -> Result<Kinds, Error> {
    let mut seen = Kinds::empty();
    for (index, namespace) in list.iter().enumerate() {
        let kind = kind_bits(namespace.kind);
        if seen.contains(kind) {
            let what = format!("a second {} namespace", name(namespace.kind));
            return Err(Error::field(format!("linux.namespaces[{index}].type"), what));
        }
        seen |= kind;
        if !namespace.path.is_empty() && !namespace.path.starts_with('/') {
            let what = format!("{:?} is not absolute", namespace.path);
            return Err(Error::field(format!("linux.namespaces[{index}].path"), what));
        }
    }
    Ok(seen)
}

/// Clocks that a time namespace shifts.
fn clocks(offsets: &std::collections::BTreeMap<String, TimeOffset>) -> Result<(), Error> {
    for (clock, offset) in offsets {
        if clock != "monotonic" && clock != "boottime" {
            let what = "unknown clock, there are monotonic and boottime";
            return Err(Error::field(format!("linux.timeOffsets.{clock}"), what));
        }
        if offset.nanosecs >= 1_000_000_000 {
            let what = format!("{} is not below a second", offset.nanosecs);
            return Err(Error::field(format!("linux.timeOffsets.{clock}.nanosecs"), what));
        }
    }
    Ok(())
}

/// The specification's word.
pub(crate) fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "network",
        NamespaceKind::Mount => "mount",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

pub(crate) fn kind_bits(kind: NamespaceKind) -> Kinds {
    match kind {
        NamespaceKind::Pid => Kinds::PID,
        NamespaceKind::Network => Kinds::NETWORK,
        NamespaceKind::Mount => Kinds::MOUNT,
        NamespaceKind::Ipc => Kinds::IPC,
        NamespaceKind::Uts => Kinds::UTS,
        NamespaceKind::User => Kinds::USER,
        NamespaceKind::Cgroup => Kinds::CGROUP,
        NamespaceKind::Time => Kinds::TIME,
    }
}
