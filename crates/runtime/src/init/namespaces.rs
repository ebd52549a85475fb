//! Which namespaces init gets: new, joined, or the host's.

use std::os::fd::{AsFd, OwnedFd};

use seacow_spec::oci::runtime::{LinuxNamespace, NamespaceKind};
use seacow_spec::shim::NamespaceSettings;
use seacow_sys::Errno;
use seacow_sys::ns::{self, Kinds};

use crate::error::{Error, Step};
use crate::validate::namespaces::{kind_bits, name, unique};
use crate::validate::{self, maps};

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
    /// Whose ids init has.
    pub(crate) user: User,
    /// Whether the parent opens for init what it cannot: the root and all sources of bind mounts.
    /// A parent without rights has none that init lacks.
    pub(crate) parent_opens: bool,
}

/// The user namespace of init.
#[derive(Debug)]
pub(crate) enum User {
    /// The caller's.
    Same,
    /// A new one; the parent writes its maps.
    New,
    /// Somebody's.
    Joined(OwnedFd),
}

/// The network that init has or will have: it joins somebody's at a moment of its own.
#[derive(Debug)]
pub(crate) enum Network {
    /// The caller's.
    Same,
    /// A new one, there since init is.
    New,
    /// Somebody's.
    Joined(OwnedFd),
}

impl Plan {
    pub(crate) fn of(wanted: &[LinuxNamespace], settings: &NamespaceSettings) -> Result<Self, Error> {
        let mut plan = Self {
            new: Kinds::empty(),
            join: Vec::new(),
            join_pid: None,
            new_cgroup: false,
            user: User::Same,
            parent_opens: false,
        };
        let seen = unique(wanted)?;
        for (index, namespace) in wanted.iter().enumerate() {
            plan.add(index, namespace)?;
        }
        if !seen.contains(Kinds::MOUNT) {
            let what = "a container in the mount namespace of the host";
            return Err(validate::Error::missing("linux.namespaces", what).into());
        }
        plan.parent_opens = plan.has_user_namespace() && rustix::process::geteuid().is_root();
        if matches!(plan.user, User::New) {
            maps::check("linux.uidMappings", &settings.uid_mappings)?;
            maps::check("linux.gidMappings", &settings.gid_mappings)?;
        }
        Ok(plan)
    }

    fn add(&mut self, index: usize, namespace: &LinuxNamespace) -> Result<(), Error> {
        let kind = kind_bits(namespace.kind);
        if namespace.path.is_empty() {
            match namespace.kind {
                NamespaceKind::Cgroup => self.new_cgroup = true,
                NamespaceKind::User => self.user = User::New,
                NamespaceKind::Pid
                | NamespaceKind::Network
                | NamespaceKind::Mount
                | NamespaceKind::Ipc
                | NamespaceKind::Uts
                | NamespaceKind::Time => self.new |= kind,
            }
            return Ok(());
        }
        let Some(fd) = open(index, namespace, kind)? else { return Ok(()) };
        match namespace.kind {
            NamespaceKind::Pid => self.join_pid = Some(fd),
            NamespaceKind::User => self.user = User::Joined(fd),
            NamespaceKind::Network
            | NamespaceKind::Mount
            | NamespaceKind::Ipc
            | NamespaceKind::Uts
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

    /// The kinds that few containers have for themselves, unless that takes a look at what was joined.
    pub(crate) fn rare(&self) -> Option<Kinds> {
        let joins_time = self.join.iter().any(|(kind, _)| *kind == Kinds::TIME);
        match self.user {
            User::Joined(_) => None,
            _ if joins_time => None,
            User::New => Some(Kinds::USER | self.new_time()),
            User::Same => Some(self.new_time()),
        }
    }

    fn new_time(&self) -> Kinds {
        if self.owns(Kinds::TIME) { Kinds::TIME } else { Kinds::empty() }
    }

    /// Whether somebody has to go ahead of init ([`super::launch`]).
    pub(crate) fn needs_helper(&self) -> bool {
        let joins = !self.join.is_empty() || self.join_pid.is_some();
        match &self.user {
            User::Joined(_) => true,
            User::New => joins || self.owns(Kinds::TIME),
            User::Same => self.owns(Kinds::TIME),
        }
    }

    /// What remains of it when init exists.
    pub(crate) fn into_network(self) -> Network {
        let new = self.owns(Kinds::NETWORK);
        match self.join.into_iter().find(|(kind, _)| *kind == Kinds::NETWORK) {
            Some((_, fd)) => Network::Joined(fd),
            None if new => Network::New,
            None => Network::Same,
        }
    }

    /// Whether init's ids are not its parent's.
    pub(crate) fn has_user_namespace(&self) -> bool {
        !matches!(self.user, User::Same)
    }
}

/// Opens a namespace to join; `None` when we are in it, which some kinds refuse to join again.
pub(crate) fn open(index: usize, namespace: &LinuxNamespace, kind: Kinds) -> Result<Option<OwnedFd>, Error> {
    let at = || format!("linux.namespaces[{index}].path");
    let wrong = |what: String| Error::from(validate::Error::field(at(), what));
    let LinuxNamespace { path, .. } = namespace;
    let fd = ns::open_path(path.as_str()).map_err(|errno| wrong(format!("open {path}: {errno}")))?;
    match ns::kind_of(fd.as_fd()) {
        Ok(found) if found == kind => {}
        Ok(found) => {
            let found = found.names().next().unwrap_or("unknown");
            return Err(wrong(format!("{path} is a {found} namespace, not a {} one", name(namespace.kind))));
        }
        Err(Errno::NOTTY | Errno::INVAL) => return Err(wrong(format!("{path} is not a namespace"))),
        Err(errno) => return Err(errno).step(|| format!("ask for the kind of {path}")),
    }
    // Of pid and time namespaces ours may differ from our children's.
    let own = ns::open_own(kind).step(|| format!("open own {} namespace", name(namespace.kind)))?;
    let here = ns::same(&own, &fd).step(|| format!("compare {path} with our own"))?;
    Ok((!here).then_some(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(list: &[(NamespaceKind, &str)]) -> Vec<LinuxNamespace> {
        list.iter().map(|(kind, path)| LinuxNamespace { kind: *kind, path: (*path).into() }).collect()
    }

    fn plan(list: &[(NamespaceKind, &str)]) -> Result<Plan, String> {
        Plan::of(&wanted(list), &NamespaceSettings::default()).map_err(|e| e.report().to_string())
    }

    #[test]
    fn new_joined_and_refused() {
        use NamespaceKind::{Cgroup, Mount, Network, Pid, User, Uts};
        let host =
            plan(&[(Mount, ""), (Cgroup, ""), (Network, "/proc/self/ns/net"), (Pid, "/proc/self/ns/pid")])
                .unwrap();
        assert_eq!(host.new, Kinds::MOUNT);
        // What we are in anyway is the host's, by whatever path.
        assert!(host.new_cgroup && host.join_pid.is_none() && !host.leaves_host(Kinds::NETWORK));
        for (list, text) in [
            (&[(Network, "")][..], "linux.namespaces is not implemented"),
            (&[(Mount, ""), (Mount, "")], "linux.namespaces[1].type: a second mount namespace"),
            (&[(Mount, ""), (Uts, "/nosuch")], "linux.namespaces[1].path: open /nosuch: No such file"),
            (
                &[(Mount, ""), (Uts, "/proc/self/ns/net")],
                "linux.namespaces[1].path: /proc/self/ns/net is a net",
            ),
            (&[(Mount, ""), (Uts, "/proc/self/stat")], "linux.namespaces[1].path: /proc/self/stat is not a"),
            (&[(Mount, ""), (User, "")], "linux.uidMappings: "),
        ] {
            let error = plan(list).unwrap_err();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
