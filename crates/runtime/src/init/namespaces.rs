//! Which namespaces init gets: new, joined, or the host's.

use std::os::fd::OwnedFd;

use seacow_spec::oci::runtime::{LinuxNamespace, NamespaceKind};
use seacow_sys::ns::{self, Kinds};

use crate::error::{Error, Step};

/// What clone3 makes, what is joined, and what comes later.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Made by clone3.
    pub(crate) new: Kinds,
    /// Joined by the child.
    pub(crate) join: Vec<(Kinds, OwnedFd)>,
    /// Joined by the parent around the clone.
    pub(crate) join_pid: Option<OwnedFd>,
    /// Made by the child after it has joined its cgroups: they are the namespace's root.
    pub(crate) new_cgroup: bool,
}

impl Plan {
    pub(crate) fn of(wanted: &[LinuxNamespace]) -> Result<Self, Error> {
        let mut plan = Self { new: Kinds::empty(), join: Vec::new(), join_pid: None, new_cgroup: false };
        let mut seen = Kinds::empty();
        for namespace in wanted {
            let kind = kind_bits(namespace.kind);
            if seen.contains(kind) {
                return Err(Error::Invalid { what: format!("two {:?} namespaces", namespace.kind) });
            }
            seen |= kind;
            plan.add(namespace, kind)?;
        }
        if !plan.new.contains(Kinds::MOUNT) {
            return Err(Error::NotImplemented {
                what: "a container in a mount namespace that is not new".into(),
            });
        }
        Ok(plan)
    }

    fn add(&mut self, namespace: &LinuxNamespace, kind: Kinds) -> Result<(), Error> {
        if matches!(namespace.kind, NamespaceKind::User | NamespaceKind::Time) {
            return Err(Error::NotImplemented { what: format!("a {:?} namespace", namespace.kind) });
        }
        if namespace.path.is_empty() {
            match namespace.kind {
                NamespaceKind::Cgroup => self.new_cgroup = true,
                NamespaceKind::Pid
                | NamespaceKind::Network
                | NamespaceKind::Mount
                | NamespaceKind::Ipc
                | NamespaceKind::Uts
                | NamespaceKind::User
                | NamespaceKind::Time => self.new |= kind,
            }
            return Ok(());
        }
        let fd = ns::open_path(namespace.path.as_str())
            .step(|| format!("open {:?} namespace {}", namespace.kind, namespace.path))?;
        match namespace.kind {
            NamespaceKind::Pid => self.join_pid = Some(fd),
            NamespaceKind::Network
            | NamespaceKind::Mount
            | NamespaceKind::Ipc
            | NamespaceKind::Uts
            | NamespaceKind::User
            | NamespaceKind::Cgroup
            | NamespaceKind::Time => self.join.push((kind, fd)),
        }
        Ok(())
    }

    /// Whether init has this kind for itself, new.
    pub(crate) fn owns(&self, kind: Kinds) -> bool {
        self.new.contains(kind)
    }

    /// Whether init has its own of this kind or joined somebody's: not the host's.
    pub(crate) fn leaves_host(&self, kind: Kinds) -> bool {
        self.owns(kind) || self.join.iter().any(|(joined, _)| *joined == kind)
    }
}

fn kind_bits(kind: NamespaceKind) -> Kinds {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(list: &[(NamespaceKind, &str)]) -> Vec<LinuxNamespace> {
        list.iter().map(|(kind, path)| LinuxNamespace { kind: *kind, path: (*path).into() }).collect()
    }

    #[test]
    fn new_joined_and_refused() {
        let own = "/proc/self/ns/net";
        let plan = Plan::of(&wanted(&[
            (NamespaceKind::Mount, ""),
            (NamespaceKind::Cgroup, ""),
            (NamespaceKind::Network, own),
            (NamespaceKind::Pid, "/proc/self/ns/pid"),
        ]))
        .unwrap();
        assert_eq!(plan.new, Kinds::MOUNT);
        assert!(plan.new_cgroup && plan.join_pid.is_some());
        assert!(plan.leaves_host(Kinds::NETWORK) && !plan.owns(Kinds::NETWORK));
        assert!(Plan::of(&wanted(&[(NamespaceKind::Network, "")])).is_err());
        assert!(Plan::of(&wanted(&[(NamespaceKind::Mount, ""), (NamespaceKind::Mount, "")])).is_err());
        assert!(Plan::of(&wanted(&[(NamespaceKind::Mount, ""), (NamespaceKind::Uts, "/nosuch")])).is_err());
    }
}
