//! Directories of `RUN --mount=type=cache`: kept on the disk from build to build, listed by `system df`,
//! removed by `builder prune`.
//!
//! ```text
//! <data root>/build-cache/mounts/<hash of the id and a number>/
//!     id      the name, for who looks
//!     data/   what steps see
//! ```
//! The number is 0 but for caches that are private to one step at a time: each step that comes at the
//! same time as another gets the next. When one was last used is the time of its `id` file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::SystemTime;

use seacow_build::dockerfile::mount::Sharing;
use seacow_spec::Digest;

/// Where builds keep things, below the data root.
pub(crate) const DIRECTORY: &str = "build-cache";
const MOUNTS: &str = "mounts";
const ID: &str = "id";
const DATA: &str = "data";
/// Private caches of one name at a time.
const MOST_PRIVATE: u32 = 256;

/// Who uses which directory.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    users: Mutex<HashMap<String, Users>>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Users {
    count: usize,
    /// Somebody has it for himself.
    locked: bool,
}

/// A cache in use; released when dropped.
pub(super) struct Lease<'a> {
    caches: &'a Caches,
    name: String,
    /// What is mounted.
    pub(super) data: PathBuf,
    /// Nothing was ever put into it.
    pub(super) is_new: bool,
}

/// A cache on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its directory's name.
    pub(crate) name: String,
    /// As the Dockerfile has it.
    pub(crate) id: String,
    /// Bytes on the disk.
    pub(crate) size: u64,
    pub(crate) created: SystemTime,
    pub(crate) used: SystemTime,
    pub(crate) in_use: bool,
}

impl Caches {
    /// Takes a cache; waits where it is locked. `None` when the build was cancelled meanwhile.
    pub(super) fn take(
        &self,
        data_root: &Path,
        id: &str,
        sharing: Sharing,
        is_cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Option<Lease<'_>>> {
        let Some(name) = self.claim(id, sharing, is_cancelled)? else { return Ok(None) };
        let dir = data_root.join(DIRECTORY).join(MOUNTS).join(&name);
        let mut lease = Lease { caches: self, name, data: dir.join(DATA), is_new: false };
        lease.is_new = !lease.data.exists();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        // Its time is that of the last use.
        fs::write(dir.join(ID), id)?;
        Ok(Some(lease))
    }

    fn claim(
        &self,
        id: &str,
        sharing: Sharing,
        is_cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Option<String>> {
        /// How often a wait looks whether the build was cancelled.
        const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = 0;
        loop {
            let name = name_of(id, number);
            let user = users.entry(name.clone()).or_default();
            let free = match sharing {
                Sharing::Shared => !user.locked,
                Sharing::Private | Sharing::Locked => user.count == 0,
            };
            if free {
                user.count += 1;
                user.locked = sharing != Sharing::Shared;
                return Ok(Some(name));
            }
            if sharing == Sharing::Private {
                number += 1;
                if number >= MOST_PRIVATE {
                    return Err(io::Error::other(format!("more than {MOST_PRIVATE} private caches {id:?}")));
                }
                continue;
            }
            if is_cancelled() {
                return Ok(None);
            }
            let waited = self.released.wait_timeout(users, LOOK);
            users = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn release(&self, name: &str) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = users.get_mut(name) {
            user.count = user.count.saturating_sub(1);
            if user.count == 0 {
                users.remove(name);
            }
        }
        self.released.notify_all();
    }

    /// Removes what a daemon that was killed was removing.
    pub(super) fn sweep(data_root: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(data_root.join(DIRECTORY).join(MOUNTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// All caches on the disk.
    pub(crate) fn list(&self, data_root: &Path) -> io::Result<Vec<Kept>> {
        let dir = data_root.join(DIRECTORY).join(MOUNTS);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut kept = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(meta) = fs::metadata(entry.path().join(ID)) else { continue };
            let id = fs::read_to_string(entry.path().join(ID)).unwrap_or_default();
            let used = meta.modified()?;
            let created = entry.metadata().and_then(|dir| dir.created()).unwrap_or(used);
            let in_use = self.users.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&name);
            kept.push(Kept { size: size(&entry.path())?, name, id, created, used, in_use });
        }
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }

    /// Removes a cache that nobody uses; whether it did.
    pub(crate) fn remove(&self, data_root: &Path, name: &str) -> io::Result<bool> {
        // Held, so that nobody takes it meanwhile.
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.contains_key(name) {
            return Ok(false);
        }
        let dir = data_root.join(DIRECTORY).join(MOUNTS);
        let gone = dir.join(format!(".{name}"));
        fs::rename(dir.join(name), &gone)?;
        drop(users);
        fs::remove_dir_all(&gone)?;
        Ok(true)
    }
}

impl Lease<'_> {
    /// Makes the directory of a new cache, which its steps may fill before: permissions, user, group.
    pub(super) fn make(&self, owner: (u32, u32, u32)) -> io::Result<()> {
        let (mode, uid, gid) = owner;
        fs::create_dir_all(&self.data)?;
        chown(&self.data, Some(uid), Some(gid))?;
        fs::set_permissions(&self.data, fs::Permissions::from_mode(mode))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.caches.release(&self.name);
    }
}

fn name_of(id: &str, number: u32) -> String {
    let hash = seacow_store::digest(format!("{number} {id}").as_bytes());
    Digest::short(&hash).to_owned() + &hash.as_str()[19..39]
}

/// What a directory takes on the disk.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::symlink_metadata(path)?;
    let mut total = meta.blocks() * 512;
    if meta.is_dir() {
        let entries = match fs::read_dir(path) {
            // It may go while it is counted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        for entry in entries {
            total += size(&entry?.path()).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(0),
                _ => Err(error),
            })?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing() {
        let dir = tempfile::tempdir().unwrap();
        let caches = Caches::default();
        let take =
            |sharing, cancelled: bool| caches.take(dir.path(), "npm", sharing, &move || cancelled).unwrap();
        let one = take(Sharing::Shared, false).unwrap();
        let two = take(Sharing::Shared, false).unwrap();
        assert_eq!(one.data, two.data);
        assert!(take(Sharing::Locked, true).is_none(), "waits for both, until it is cancelled");
        let own = take(Sharing::Private, false).unwrap();
        assert_ne!(own.data, one.data);
        one.make((0o750, 0, 0)).unwrap();
        fs::write(one.data.join("f"), "x").unwrap();
        let name = one.name.clone();
        assert!(!caches.remove(dir.path(), &name).unwrap());
        drop((one, two));
        let locked = take(Sharing::Locked, false).unwrap();
        assert!(!locked.is_new);
        assert!(take(Sharing::Shared, true).is_none());
        assert!(caches.list(dir.path()).unwrap().iter().all(|kept| kept.in_use && kept.id == "npm"));
        drop((locked, own));
        assert!(caches.remove(dir.path(), &name).unwrap());
        assert_eq!(caches.list(dir.path()).unwrap().len(), 1);
    }
}
