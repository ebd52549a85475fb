//! Limits of what containers and volumes take of the disk, kept by the file system.
//!
//! Vocabulary
//! - *owner*: whose directory it is, a snapshot, a volume, or a draft that will be one of them.
//! - *number*: what the file system counts by: a project of xfs, a subvolume of btrfs.
//! - *gone*: a number whose directory is removed, and whose files may still be on their way out. It is given
//!   to nobody until nothing is counted for it any more.
//!
//! The metadata knows all numbers before a directory has one. What a crash left is put right at the
//! next open ([`Quotas::repair`]): a directory has the number and limit that the metadata names, and no number
//! is without directory.

pub(crate) mod means;
mod repair;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seacow_spec::{Classified, ErrorClass};
use seacow_sys::btrfs::{self, Counted};
use seacow_sys::{Errno, quota};
use serde::{Deserialize, Serialize};

use crate::error::{At, IoFailure};
use crate::meta::{self, Durability, Meta, MetaError, Table, Write};
use crate::shared::Shared;
pub(crate) use means::Means;

/// The first project. Below are those that administrators give away by hand, in `/etc/projid`.
const FIRST_PROJECT: u32 = 0x5ea_0000;
/// How many there are to choose from.
const PROJECTS: u32 = 1 << 20;

/// Why something cannot be limited.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The file system keeps no limits.
    #[error("a limit of {bytes} bytes cannot be kept for {what}: {reason}")]
    Missing {
        /// Of a container or a volume.
        what: &'static str,
        /// What was asked for.
        bytes: u64,
        /// What is missing.
        reason: String,
    },
    /// All projects are given away.
    #[error("there is no project number left for another limit")]
    NoNumber,
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Classified for QuotaError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Missing { .. } => ErrorClass::NotImplemented,
            Self::NoNumber => ErrorClass::Unavailable,
            Self::Io(error) => error.class(),
            Self::Meta(error) => error.class(),
        }
    }
}

/// Whose directory is limited: a key of the metadata.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner(String);

const SNAPSHOT: &str = "snapshot/";
const VOLUME: &str = "volume/";
const DRAFT: &str = "draft/";
const GONE: &str = "gone/";

impl Owner {
    pub(crate) fn snapshot(key: &crate::snapshot::SnapshotKey) -> Self {
        Self(format!("{SNAPSHOT}{key}"))
    }

    pub(crate) fn volume(name: &str) -> Self {
        Self(format!("{VOLUME}{name}"))
    }

    /// A directory in `drafts/`, by its path.
    pub(crate) fn draft(path: &Path) -> Self {
        Self(format!("{DRAFT}{}", path.file_name().unwrap_or_default().to_string_lossy()))
    }

    fn gone(number: u64) -> Self {
        Self(format!("{GONE}{number}"))
    }

    fn is_gone(&self) -> bool {
        self.0.starts_with(GONE)
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Container,
    Volume,
}

impl Subject {
    const fn words(self) -> &'static str {
        match self {
            Self::Container => "a container",
            Self::Volume => "a volume",
        }
    }

    /// What of a subvolume is counted. A container shares its image's extents and pays for what it changed; a
    /// volume is as large as what is in it.
    const fn counted(self) -> Counted {
        match self {
            Self::Container => Counted::Exclusive,
            Self::Volume => Counted::Referenced,
        }
    }
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// What may be taken.
    pub(crate) bytes: u64,
    /// What the file system counts it by.
    number: u64,
}

/// All limits of a store.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    known: Mutex<BTreeMap<Owner, Limit>>,
}

impl Quotas {
    pub(crate) fn load(meta: &Meta) -> Result<Self, MetaError> {
        let mut known = BTreeMap::new();
        for (key, value) in meta.all(Table::Quotas)? {
            let limit = meta::decode(Table::Quotas, &key, &value)?;
            known.insert(Owner(key), limit);
        }
        Ok(Self { known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Owner, Limit>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an owner may take, if that is limited.
    pub(crate) fn of(&self, owner: &Owner) -> Option<u64> {
        self.known().get(owner).map(|limit| limit.bytes)
    }

    /// Everything that is known.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        self.known().iter().map(|(owner, limit)| (owner.0.clone(), limit.bytes)).collect()
    }

    /// How a limit would be kept here.
    ///
    /// # Errors
    /// It cannot be, and why.
    pub(crate) fn means(&self, shared: &Shared, subject: Subject, bytes: u64) -> Result<Means, QuotaError> {
        let missing = |reason| QuotaError::Missing { what: subject.words(), bytes, reason };
        Means::of(&shared.layout)?.map_err(missing)
    }

    /// Has the file system count, where it does not do so yet: that may take as long as it has files, and nobody
    /// is to wait for it who has something locked.
    ///
    /// # Errors
    /// It cannot, and why.
    pub(crate) fn prepare(&self, shared: &Shared, subject: Subject, bytes: u64) -> Result<(), QuotaError> {
        if self.means(shared, subject, bytes)? == Means::Subvolumes {
            let root = shared.layout.data();
            let dir = File::open(root).at("open", root)?;
            btrfs::enable_quota(dir.as_fd()).at("enable the quota of", root)?;
        }
        Ok(())
    }

    /// Makes a directory for an owner, which with all that will be in it takes no more than that.
    pub(crate) fn make_dir(
        &self,
        shared: &Shared,
        path: &Path,
        owner: &Owner,
        subject: Subject,
        bytes: u64,
    ) -> Result<(), QuotaError> {
        match self.means(shared, subject, bytes)? {
            Means::Projects => {
                let project = self.allot(shared, owner, bytes)?;
                crate::layout::mkdir(path, 0o700)?;
                let dir = File::open(path).at("open", path)?;
                quota::limit_project(dir.as_fd(), project, bytes).at("limit", path)?;
                Ok(quota::set_project(dir.as_fd(), project).at("set the project of", path)?)
            }
            Means::Subvolumes => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(IoFailure::new("find the directory of", path, Errno::INVAL).into());
                };
                let dir = File::open(parent).at("open", parent)?;
                btrfs::create(dir.as_fd(), name).at("make subvolume", path)?;
                self.limit_subvolume(shared, path, owner, subject, bytes)
            }
        }
    }

    /// Limits a whole subvolume.
    pub(crate) fn limit_subvolume(
        &self,
        shared: &Shared,
        path: &Path,
        owner: &Owner,
        subject: Subject,
        bytes: u64,
    ) -> Result<(), QuotaError> {
        let top = File::open(path).at("open", path)?;
        let number = btrfs::subvolume_of(top.as_fd()).at("find the subvolume of", path)?;
        self.put(shared, vec![(owner.clone(), Some(Limit { bytes, number }))])?;
        let limit = || btrfs::limit(top.as_fd(), subject.counted(), Some(bytes));
        match limit() {
            Err(Errno::NOTCONN) => {
                btrfs::enable_quota(top.as_fd()).at("enable the quota of", path)?;
                Ok(limit().at("limit", path)?)
            }
            done => Ok(done.at("limit", path)?),
        }
    }

    /// The directory has become another owner's; what that one had before is gone.
    pub(crate) fn pass_on(&self, shared: &Shared, from: &Owner, to: &Owner) -> Result<(), QuotaError> {
        let (limit, before) = {
            let known = self.known();
            (known.get(from).copied(), known.get(to).copied())
        };
        let Some(limit) = limit else { return Ok(()) };
        let mut changes = vec![(from.clone(), None), (to.clone(), Some(limit))];
        if let Some(before) = before {
            changes.push((Owner::gone(before.number), Some(before)));
        }
        self.put(shared, changes)
    }

    /// The owner's directory is removed, or on its way out.
    pub(crate) fn release(&self, shared: &Shared, owner: &Owner) -> Result<(), QuotaError> {
        let Some(limit) = self.known().get(owner).copied() else { return Ok(()) };
        self.put(shared, vec![(owner.clone(), None), (Owner::gone(limit.number), Some(limit))])
    }

    /// A project that nobody has, noted as the owner's.
    fn allot(&self, shared: &Shared, owner: &Owner, bytes: u64) -> Result<u32, QuotaError> {
        self.forget_gone(shared)?;
        let root = shared.layout.data();
        let dir = File::open(root).at("open", root)?;
        // Held to the end: the next one must see it.
        let mut known = self.known();
        let taken: std::collections::HashSet<u64> = known.values().map(|limit| limit.number).collect();
        for project in FIRST_PROJECT..FIRST_PROJECT + PROJECTS {
            if taken.contains(&project.into()) {
                continue;
            }
            // Somebody else's on the same file system, such as another daemon's.
            if quota::use_of_project(dir.as_fd(), project).at("look at the projects of", root)?.inodes > 0 {
                continue;
            }
            let limit = Limit { bytes, number: project.into() };
            let mut writes = vec![Write::json(Table::Quotas, &owner.0, &limit)?];
            let mut gone = None;
            if let Some(before) = known.get(owner).copied() {
                let owner = Owner::gone(before.number);
                writes.push(Write::json(Table::Quotas, &owner.0, &before)?);
                gone = Some((owner, before));
            }
            shared.meta.commit(writes, Durability::Durable)?;
            known.extend(gone);
            known.insert(owner.clone(), limit);
            return Ok(project);
        }
        Err(QuotaError::NoNumber)
    }

    /// Writes changes, and then knows them.
    fn put(&self, shared: &Shared, changes: Vec<(Owner, Option<Limit>)>) -> Result<(), QuotaError> {
        let mut known = self.known();
        let writes = changes.iter().map(|(owner, limit)| match limit {
            Some(limit) => Write::json(Table::Quotas, &owner.0, limit),
            None => Ok(Write::Delete(Table::Quotas, owner.0.clone())),
        });
        shared.meta.commit(writes.collect::<Result<_, _>>()?, Durability::Durable)?;
        for (owner, limit) in changes {
            match limit {
                Some(limit) => known.insert(owner, limit),
                None => known.remove(&owner),
            };
        }
        Ok(())
    }
}
