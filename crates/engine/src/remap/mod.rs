//! User namespaces for all containers: `--userns-remap`, by Docker's rules.
//!
//! Vocabulary: the *remap* is a pair of maps, from a container's ids to the host's, made of the ranges
//! that `/etc/subuid` and `/etc/subgid` grant to one user of the host. Containers are remapped unless
//! they ask for `--userns=host`.
//!
//! Docker keeps a second data root per remap, with every layer unpacked anew under other owners.
//! Here nothing on the disk knows of remaps: layers, containers' files and volumes have the
//! containers' own ids, and are shown to a remapped container through id-mapped mounts. So a remap
//! costs nothing, can be turned on and off for what is there already, and copies, commits and exports
//! have the right owners without being translated.

mod accounts;
mod make_user;

use seacow_spec::oci::runtime::{IdMapping, LinuxNamespace, NamespaceKind};
use seacow_spec::shim::NamespaceSettings;
use seacow_spec::{Classified, ErrorClass};

use accounts::{Accounts, Kind};

/// What clients of Docker call the user that is made when they name none.
const DEFAULT_USER: &str = "dockremap";
/// The word for "make one".
const DEFAULT: &str = "default";
/// Most lines that the kernel takes for a map (user_namespaces(7)).
const MAX_RANGES: usize = 340;

/// Why there is no remap.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum RemapError {
    #[error("Invalid user/group specification in --userns-remap: {0:?}")]
    Specification(String),
    #[error("Uid {0} has no entry in /etc/passwd")]
    Uid(u32),
    #[error("Gid {0} has no entry in /etc/group")]
    Gid(u32),
    #[error("Error during uid lookup for {0:?}: no such user")]
    User(String),
    #[error("Error during gid lookup for {0:?}: no such group")]
    Group(String),
    #[error("Error during {user:?} user creation: {why}")]
    Creation { user: String, why: String },
    #[error("Can't create ID mappings: no {file} ranges found for user {user:?}")]
    NoRanges { file: &'static str, user: String },
    #[error("Can't create ID mappings: Cannot parse subuid/gid information: Format not correct for {0} file")]
    Format(String),
    #[error("Can't create ID mappings: {file} grants user {user:?} more than {MAX_RANGES} ranges")]
    TooMany { file: &'static str, user: String },
    #[error("{step}: {source}")]
    Io { step: &'static str, source: std::io::Error },
}

impl Classified for RemapError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Creation { .. } | Self::Io { .. } => ErrorClass::Internal,
            Self::Specification(_)
            | Self::Uid(_)
            | Self::Gid(_)
            | Self::User(_)
            | Self::Group(_)
            | Self::NoRanges { .. }
            | Self::Format(_)
            | Self::TooMany { .. } => ErrorClass::InvalidArgument,
        }
    }
}

/// Whose ids remapped containers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
}

impl Remap {
    /// Of `default`, `user`, `uid`, `user:group` or `uid:gid`. For `default` the user `dockremap` is
    /// made where it is missing. `None` for root, who cannot be remapped to himself.
    ///
    /// # Errors
    /// The user or the group does not exist, or is granted no ranges of ids.
    pub fn resolve(wanted: &str) -> Result<Option<Self>, RemapError> {
        if wanted == DEFAULT && Accounts::of_host()?.user(DEFAULT_USER).is_none() {
            make_user::make(DEFAULT_USER)?;
        }
        Self::by(wanted, &Accounts::of_host()?)
    }

    fn by(wanted: &str, accounts: &Accounts) -> Result<Option<Self>, RemapError> {
        let name = user_of(wanted, accounts)?;
        if name == "root" {
            tracing::warn!("root cannot be remapped with itself; user namespaces are off");
            return Ok(None);
        }
        let uids = ranges(accounts, Kind::User, &name)?;
        let gids = ranges(accounts, Kind::Group, &name)?;
        tracing::info!(user = name, "containers have the ids that are granted to this user");
        Ok(Some(Self { uids, gids }))
    }

    /// Who is root in the containers: user and group of the host.
    pub(crate) fn root(&self) -> (u32, u32) {
        let first = |maps: &[IdMapping]| maps.first().map_or(0, |map| map.host_id);
        (first(&self.uids), first(&self.gids))
    }

    /// The greatest group id that containers have.
    pub(crate) fn last_group(&self) -> u32 {
        self.gids.last().map_or(0, |map| map.container_id.saturating_add(map.size.saturating_sub(1)))
    }

    /// A user namespace of a container's own.
    pub(crate) fn namespace(&self) -> (LinuxNamespace, NamespaceSettings) {
        let namespace = LinuxNamespace { kind: NamespaceKind::User, path: String::new() };
        let settings = NamespaceSettings {
            uid_mappings: self.uids.clone(),
            gid_mappings: self.gids.clone(),
            ..NamespaceSettings::default()
        };
        (namespace, settings)
    }
}

/// The name of the user that was asked for. The group has to exist and is good for nothing else, in
/// Docker as well: ranges of both kinds are the user's.
fn user_of(wanted: &str, accounts: &Accounts) -> Result<String, RemapError> {
    let (user, group) = match wanted.split_once(':') {
        Some((_, group)) if group.contains(':') => {
            return Err(RemapError::Specification(wanted.to_owned()));
        }
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let user = if user == DEFAULT { DEFAULT_USER } else { user };
    let uid = user.parse::<u32>().ok();
    let name = match uid {
        Some(uid) => accounts.user_by_id(uid).ok_or(RemapError::Uid(uid))?,
        None => accounts.user(user).ok_or_else(|| RemapError::User(user.to_owned()))?,
    };
    // Without one, that of the same number or name.
    let group = group.map_or_else(|| user.to_owned(), str::to_owned);
    match group.parse::<u32>() {
        Ok(gid) => accounts.group_by_id(gid).then_some(()).ok_or(RemapError::Gid(gid))?,
        Err(_) => accounts.group(&group).then_some(()).ok_or(RemapError::Group(group))?,
    }
    Ok(name)
}

/// The ranges of a user, one after the other from 0 on in the container.
fn ranges(accounts: &Accounts, kind: Kind, user: &str) -> Result<Vec<IdMapping>, RemapError> {
    let granted = accounts.granted(kind, user)?;
    let mut maps = Vec::with_capacity(granted.len());
    let mut next = 0u32;
    for (host_id, size) in granted {
        // What lies beyond the last id there is cannot be used.
        let size = size.min(u32::MAX - next).min(u32::MAX - host_id);
        if size == 0 {
            continue;
        }
        maps.push(IdMapping { container_id: next, host_id, size });
        next += size;
    }
    match maps.len() {
        0 => Err(RemapError::NoRanges { file: kind.ranges(), user: user.to_owned() }),
        1..=MAX_RANGES => Ok(maps),
        _ => Err(RemapError::TooMany { file: kind.ranges(), user: user.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(subuid: &str) -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\nlone:x:7:8::/:/bin/sh\n".into(),
            group: "root:x:0:\nweb:x:44:\ncrew:x:50:\nthirty:x:33:\n".into(),
            subuid: subuid.into(),
            subgid: "web:300000:65536\n".into(),
            ask_others: false,
        }
    }

    const GRANTED: &str = "other:1:5\nweb:100000:65536\n33:500000:10\n# a comment\n";

    #[test]
    fn users_and_groups_by_name_and_number() {
        let accounts = accounts(GRANTED);
        for wanted in ["web", "33", "web:crew", "33:50", "web:50", "33:crew"] {
            let remap = Remap::by(wanted, &accounts).unwrap().unwrap();
            // By number first, as in Docker.
            let uids: Vec<_> = remap.uids.iter().map(|m| (m.container_id, m.host_id, m.size)).collect();
            assert_eq!(uids, [(0, 500_000, 10), (10, 100_000, 65_536)], "{wanted}");
            assert_eq!((remap.root(), remap.last_group()), ((500_000, 300_000), 65_535));
        }
        assert_eq!(Remap::by("root", &accounts).unwrap(), None);
        assert_eq!(Remap::by("0:0", &accounts).unwrap(), None);
    }

    #[test]
    fn refused_in_docker_s_words() {
        let accounts = accounts(GRANTED);
        for (wanted, text) in [
            ("a:b:c", "Invalid user/group specification in --userns-remap: \"a:b:c\""),
            ("nobody-there", "Error during uid lookup for \"nobody-there\": no such user"),
            ("99", "Uid 99 has no entry in /etc/passwd"),
            ("web:99", "Gid 99 has no entry in /etc/group"),
            ("web:nogroup", "Error during gid lookup for \"nogroup\": no such group"),
            // A user without a group of that name, and one without ranges.
            ("lone", "Error during gid lookup for \"lone\": no such group"),
            ("lone:crew", "Can't create ID mappings: no subuid ranges found for user \"lone\""),
            ("default", "Error during uid lookup for \"dockremap\": no such user"),
        ] {
            assert_eq!(Remap::by(wanted, &accounts).unwrap_err().to_string(), text, "{wanted}");
        }
    }

    #[test]
    fn files_that_are_none_of_that_kind() {
        for bad in ["web:x:5\n", "web:5\n", "web:1:2:3\n", "web:-1:5\n"] {
            let error = Remap::by("web", &accounts(bad)).unwrap_err();
            assert!(matches!(&error, RemapError::Format(file) if file == "/etc/subuid"), "{bad}: {error}");
        }
        // Ids beyond the last are left out, and nothing overflows.
        let remap = Remap::by("web", &accounts("web:4294967290:4294967295\nweb:5:4294967295\n")).unwrap();
        let uids: Vec<_> = remap.unwrap().uids.iter().map(|m| (m.container_id, m.host_id, m.size)).collect();
        assert_eq!(uids, [(0, 4_294_967_290, 5), (5, 5, u32::MAX - 5)]);
    }
}
