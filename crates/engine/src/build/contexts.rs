//! Contexts of our own client: sent once, kept, and found again by what is in them.
//!
//! ```text
//! <data root>/build-cache/
//!     boot                    of which boot of the machine this is
//!     blobs/<sha256>          contents of files
//!     contexts/<id>/list      what the client said is in it
//!     contexts/<id>/root/     the files, hard links to blobs where owner, mode and time allow
//! ```
//! The id is the hash of the list, and what is in a context never changes. Nothing is synced: what
//! another boot of the machine left is thrown away, and sent again when it is wanted.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use seacow_build::Context;
use seacow_build::copy::Digests;
use seacow_spec::docker::build::{ContextKind, ContextList, ContextWanted, NO_SUCH_CONTEXT};
use seacow_spec::{Classified, ErrorClass};
use sha2::{Digest as _, Sha256};

use super::caches::DIRECTORY;
use super::mounts::TemporaryDir;
use crate::blocking::lock;

/// Entries of a context: what a copy takes at most.
const MOST_ENTRIES: usize = 1 << 21;
/// Contexts that are kept; older ones go when a new one comes. A developer has a handful of projects.
const MOST_CONTEXTS: usize = 32;
/// Lists that are kept in memory.
const MOST_LISTS: usize = 8;
/// Length of a list as JSON.
pub(crate) const LONGEST_LIST: u64 = 512 << 20;

/// A context that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ContextFailure {
    /// A path or hash that is none.
    #[error("malformed list of a build context: {0}")]
    List(String),
    /// Bytes that are not what the list says.
    #[error("{0} changed while it was sent, or was sent wrongly")]
    Changed(String),
    /// A blob was removed meanwhile, or the context is not here any more.
    #[error("{NO_SUCH_CONTEXT}: {0}")]
    Gone(String),
    /// The disk.
    #[error("keep a build context: {0}")]
    Disk(#[from] io::Error),
}

impl Classified for ContextFailure {
    fn class(&self) -> ErrorClass {
        match self {
            Self::List(_) => ErrorClass::InvalidArgument,
            Self::Changed(_) => ErrorClass::Conflict,
            Self::Gone(_) => ErrorClass::NotFound,
            Self::Disk(_) => ErrorClass::Internal,
        }
    }
}

/// The contexts that are kept.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    users: Mutex<HashMap<String, usize>>,
    lists: Mutex<HashMap<String, Arc<Digests>>>,
    /// Held while blobs are made and thrown away.
    changing: Mutex<()>,
}

/// A context in use; it is not removed meanwhile.
pub(super) struct Lease<'a> {
    contexts: &'a Contexts,
    id: String,
    root: PathBuf,
    digests: Arc<Digests>,
}

/// One of the directories below the data root.
fn place(data_root: &Path, name: &str) -> PathBuf {
    data_root.join(DIRECTORY).join(name)
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl Contexts {
    /// What of a list is not here.
    pub(crate) fn wanted(
        &self,
        data_root: &Path,
        list: &ContextList,
    ) -> Result<ContextWanted, ContextFailure> {
        check(list)?;
        let id = name_of(list)?;
        if place(data_root, "contexts").join(&id).exists() {
            return Ok(ContextWanted { id, missing: Vec::new() });
        }
        let blobs = place(data_root, "blobs");
        let mut seen = HashSet::new();
        let missing = list.entries.iter().filter_map(|entry| match &entry.kind {
            ContextKind::File(_, hash) => Some(hash),
            ContextKind::Directory | ContextKind::Link(_) => None,
        });
        let missing = missing.filter(|hash| seen.insert(*hash) && !blobs.join(hash).exists());
        let missing = missing.cloned().collect();
        Ok(ContextWanted { id, missing })
    }

    /// Takes the missing files of a list, and makes the context; its id. A context of which nothing is
    /// missing is made by this as well.
    pub(crate) fn receive(
        &self,
        data_root: &Path,
        list: &ContextList,
        data: &mut dyn Read,
    ) -> Result<String, ContextFailure> {
        let _alone = lock(&self.changing);
        let ContextWanted { id, missing } = self.wanted(data_root, list)?;
        let target = place(data_root, "contexts").join(&id);
        if target.exists() {
            return Ok(id);
        }
        let blobs = place(data_root, "blobs");
        make_dir(&blobs)?;
        make_dir(&place(data_root, "contexts"))?;
        note_boot(data_root)?;
        let sizes: HashMap<&str, (u64, &str)> = list
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                ContextKind::File(size, hash) => Some((hash.as_str(), (*size, entry.path.as_str()))),
                ContextKind::Directory | ContextKind::Link(_) => None,
            })
            .collect();
        for hash in &missing {
            let (size, path) = sizes.get(hash.as_str()).copied().unwrap_or_default();
            receive_blob(&blobs, hash, size, path, data)?;
        }
        let draft = TemporaryDir::new(&data_root.join(super::context::DIRECTORY))?;
        let made = draft.0.join("context");
        assemble(list, &blobs, &made)?;
        fs::rename(&made, &target)?;
        self.make_room(data_root)?;
        Ok(id)
    }

    /// A context by its id.
    pub(super) fn take(&self, data_root: &Path, id: &str) -> Result<Lease<'_>, ContextFailure> {
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ContextFailure::Gone(id.to_owned()));
        }
        *lock(&self.users).entry(id.to_owned()).or_default() += 1;
        // From here on dropping the lease gives it back.
        let dir = place(data_root, "contexts").join(id);
        let mut lease =
            Lease { contexts: self, id: id.to_owned(), root: dir.join("root"), digests: Arc::default() };
        if !dir.exists() {
            return Err(ContextFailure::Gone(id.to_owned()));
        }
        lease.digests = self.digests(&dir, id)?;
        // When it was last used.
        File::open(&dir)?.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
        Ok(lease)
    }

    fn digests(&self, dir: &Path, id: &str) -> Result<Arc<Digests>, ContextFailure> {
        if let Some(known) = lock(&self.lists).get(id) {
            return Ok(Arc::clone(known));
        }
        let text = fs::read(dir.join("list"))?;
        let list: ContextList = serde_json::from_slice(&text).map_err(io::Error::other)?;
        let digests = list.entries.iter().filter_map(|entry| match &entry.kind {
            ContextKind::File(_, hash) => Some((PathBuf::from(&entry.path), bytes_of(hash)?)),
            ContextKind::Directory | ContextKind::Link(_) => None,
        });
        let digests = Arc::new(digests.collect::<Digests>());
        let mut lists = lock(&self.lists);
        if lists.len() >= MOST_LISTS {
            lists.clear();
        }
        lists.insert(id.to_owned(), Arc::clone(&digests));
        Ok(digests)
    }

    /// Contexts on the disk, the one that was used last first: id, bytes, time of the last use, in use.
    pub(crate) fn list(&self, data_root: &Path) -> io::Result<Vec<(String, u64, SystemTime, bool)>> {
        let entries = match fs::read_dir(place(data_root, "contexts")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let users = lock(&self.users).clone();
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            let id = entry.file_name().to_string_lossy().into_owned();
            let used = entry.metadata()?.modified()?;
            let in_use = users.contains_key(&id);
            all.push((id, super::caches::size(&entry.path())?, used, in_use));
        }
        all.sort_by_key(|(_, _, used, _)| std::cmp::Reverse(*used));
        Ok(all)
    }

    /// Removes a context that nobody uses; whether it did.
    pub(crate) fn remove(&self, data_root: &Path, id: &str) -> io::Result<bool> {
        // Held, so that nobody takes it meanwhile.
        let users = lock(&self.users);
        if users.contains_key(id) {
            return Ok(false);
        }
        let gone = TemporaryDir::new(&data_root.join(super::context::DIRECTORY))?;
        fs::rename(place(data_root, "contexts").join(id), gone.0.join("context"))?;
        drop(users);
        lock(&self.lists).remove(id);
        Ok(true)
    }

    /// Removes files that are in no context.
    pub(crate) fn remove_unused_blobs(&self, data_root: &Path) -> io::Result<u64> {
        let _alone = lock(&self.changing);
        sweep_blobs(data_root)
    }

    fn make_room(&self, data_root: &Path) -> io::Result<()> {
        let entries = fs::read_dir(place(data_root, "contexts"))?;
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            all.push((entry.metadata()?.modified()?, entry.file_name().to_string_lossy().into_owned()));
        }
        if all.len() <= MOST_CONTEXTS {
            return Ok(());
        }
        all.sort();
        for (_, id) in &all[..all.len() - MOST_CONTEXTS] {
            self.remove(data_root, id)?;
        }
        sweep_blobs(data_root).map(drop)
    }
}

impl Lease<'_> {
    /// The context for the builder.
    pub(super) fn open(&self) -> Result<Context, seacow_build::context::ContextError> {
        let context = Context::filtered(&self.root)?;
        Ok(context.with_known(self.id.clone(), Arc::clone(&self.digests)))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut users = lock(&self.contexts.users);
        if let Some(count) = users.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.id);
            }
        }
    }
}

/// Throws away what another boot of the machine has left: it was never synced.
pub(super) fn forget_other_boots(data_root: &Path) -> io::Result<()> {
    let kept = fs::read_to_string(place(data_root, "boot")).unwrap_or_default();
    if kept == boot_id()? {
        return Ok(());
    }
    for name in ["contexts", "blobs"] {
        match fs::remove_dir_all(place(data_root, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
}

fn note_boot(data_root: &Path) -> io::Result<()> {
    let id = boot_id()?;
    let path = place(data_root, "boot");
    if fs::read_to_string(&path).is_ok_and(|kept| kept == id) { Ok(()) } else { fs::write(path, id) }
}

/// Every path names a place of its own below the context, and every hash is one.
fn check(list: &ContextList) -> Result<(), ContextFailure> {
    let bad = |path: &str, why: &str| Err(ContextFailure::List(format!("{path:?}: {why}")));
    if list.entries.len() > MOST_ENTRIES {
        return bad("", "too many entries");
    }
    let mut seen: HashSet<&Path> = HashSet::with_capacity(list.entries.len());
    let mut dirs: HashSet<&Path> = HashSet::from([Path::new("")]);
    for entry in &list.entries {
        let path = Path::new(&entry.path);
        let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
        if entry.path.is_empty() || !normal || entry.path.contains('\0') || entry.mode > 0o7777 {
            return bad(&entry.path, "not a path below the context");
        }
        // A link is no directory: nothing is ever made through one.
        if !path.parent().is_some_and(|parent| dirs.contains(parent)) {
            return bad(&entry.path, "its directory does not come before it");
        }
        if !seen.insert(path) {
            return bad(&entry.path, "it comes twice");
        }
        match &entry.kind {
            ContextKind::Directory => _ = dirs.insert(path),
            ContextKind::File(_, hash) if bytes_of(hash).is_none() => return bad(&entry.path, "not a hash"),
            ContextKind::File(..) | ContextKind::Link(_) => {}
        }
    }
    Ok(())
}

fn name_of(list: &ContextList) -> Result<String, ContextFailure> {
    let text = serde_json::to_vec(list).map_err(|error| ContextFailure::List(error.to_string()))?;
    Ok(seacow_store::digest(&text).as_str().trim_start_matches("sha256:").to_owned())
}

/// 64 lower-case hex digits as bytes.
fn bytes_of(hash: &str) -> Option<[u8; 32]> {
    let digits = hash.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |ch: u8| match ch {
            b'0'..=b'9' => Some(ch - b'0'),
            b'a'..=b'f' => Some(ch - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn receive_blob(
    blobs: &Path,
    hash: &str,
    size: u64,
    path: &str,
    data: &mut dyn Read,
) -> Result<(), ContextFailure> {
    let draft = blobs.join(format!(".{hash}"));
    let mut file = File::create(&draft)?;
    let mut hasher = Sha256::new();
    let mut left = size;
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let len = data.read(&mut buffer[..most])?;
        if len == 0 {
            return Err(ContextFailure::Changed(path.to_owned()));
        }
        hasher.update(&buffer[..len]);
        file.write_all(&buffer[..len])?;
        left -= len as u64;
    }
    if seacow_spec::id::hex(&hasher.finalize()) != hash {
        fs::remove_file(&draft)?;
        return Err(ContextFailure::Changed(path.to_owned()));
    }
    fs::rename(draft, blobs.join(hash))?;
    Ok(())
}

/// Makes the directory of a context.
fn assemble(list: &ContextList, blobs: &Path, draft: &Path) -> Result<(), ContextFailure> {
    let root = draft.join("root");
    make_dir(&root)?;
    let text = serde_json::to_vec(list).map_err(|error| ContextFailure::List(error.to_string()))?;
    fs::write(draft.join("list"), text)?;
    for entry in &list.entries {
        let path = root.join(&entry.path);
        match &entry.kind {
            ContextKind::Directory => make_dir(&path)?,
            ContextKind::Link(target) => symlink(target, &path)?,
            ContextKind::File(_, hash) => {
                let blob = blobs.join(hash);
                place_file(&blob, &path, entry.mode, entry.mtime).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => ContextFailure::Gone(entry.path.clone()),
                    _ => ContextFailure::Disk(error),
                })?;
            }
        }
    }
    // What is made in a directory changes its time.
    for entry in list.entries.iter().rev().filter(|entry| entry.kind == ContextKind::Directory) {
        look(&root.join(&entry.path), entry.mode, entry.mtime)?;
    }
    Ok(())
}

/// A file is another name of its blob, where that looks the same; the first one makes it so.
fn place_file(blob: &Path, path: &Path, mode: u32, mtime: i64) -> io::Result<()> {
    let meta = fs::metadata(blob)?;
    if meta.nlink() == 1 {
        look(blob, mode, mtime)?;
        return fs::hard_link(blob, path);
    }
    let nanos = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
    // A file may have some ten thousand names.
    if meta.mode() & 0o7777 == mode && nanos == mtime && fs::hard_link(blob, path).is_ok() {
        return Ok(());
    }
    fs::copy(blob, path)?;
    look(path, mode, mtime)
}

fn look(path: &Path, mode: u32, mtime: i64) -> io::Result<()> {
    let nanos = Duration::from_nanos(mtime.unsigned_abs());
    let time = if mtime < 0 { UNIX_EPOCH - nanos } else { UNIX_EPOCH + nanos };
    File::open(path)?.set_times(FileTimes::new().set_modified(time))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Removes blobs with no other name; how many bytes they were.
fn sweep_blobs(data_root: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(place(data_root, "blobs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut freed = 0;
    for entry in entries {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.nlink() == 1 {
            freed += meta.blocks() * 512;
            fs::remove_file(entry.path())?;
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seacow_spec::docker::build::ContextEntry;

    fn file(path: &str, text: &str, mtime: i64) -> ContextEntry {
        let hash = seacow_store::digest(text.as_bytes()).as_str()[7..].to_owned();
        let kind = ContextKind::File(text.len() as u64, hash);
        ContextEntry { path: path.into(), mode: 0o640, mtime, kind }
    }

    fn dir(path: &str) -> ContextEntry {
        ContextEntry { path: path.into(), mode: 0o755, mtime: 5, kind: ContextKind::Directory }
    }

    #[test]
    fn only_what_is_missing_is_sent() {
        let root = tempfile::tempdir().unwrap();
        let contexts = Contexts::default();
        let entries =
            vec![dir("d"), file("d/a", "aaa", 7_000_000_009), file("d/b", "bb", 1), file("e", "aaa", 9)];
        let list = ContextList { entries };
        let wanted = contexts.wanted(root.path(), &list).unwrap();
        assert_eq!(wanted.missing.len(), 2);
        let id = contexts.receive(root.path(), &list, &mut &b"aaabb"[..]).unwrap();
        assert_eq!(id, wanted.id);
        assert_eq!(contexts.wanted(root.path(), &list).unwrap().missing, Vec::<String>::new());
        let lease = contexts.take(root.path(), &id).unwrap();
        let made = |path: &str| fs::metadata(lease.root.join(path)).unwrap();
        assert_eq!((made("d/a").mtime(), made("d/a").mtime_nsec(), made("e").mtime_nsec()), (7, 9, 9));
        assert_eq!(made("d/a").mode() & 0o7777, 0o640);
        assert!(!contexts.remove(root.path(), &id).unwrap(), "it is in use");
        let more = ContextList { entries: vec![file("x", "aaa", 7_000_000_009), file("y", "new", 1)] };
        assert_eq!(contexts.wanted(root.path(), &more).unwrap().missing.len(), 1);
        contexts.receive(root.path(), &more, &mut &b"new"[..]).unwrap();
        drop(lease);
        assert!(contexts.remove(root.path(), &id).unwrap());
        assert!(matches!(contexts.take(root.path(), &id), Err(ContextFailure::Gone(_))));
        assert!(contexts.remove_unused_blobs(root.path()).unwrap() > 0, "bb is in no context");
        assert_eq!(contexts.wanted(root.path(), &list).unwrap().missing.len(), 1);
    }

    #[test]
    fn what_is_sent_wrongly_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let contexts = Contexts::default();
        let list = ContextList { entries: vec![file("a", "aaa", 1)] };
        for sent in [&b"aab"[..], b"aa", b""] {
            let error = contexts.receive(root.path(), &list, &mut &sent[..]).unwrap_err();
            assert!(matches!(error, ContextFailure::Changed(_)), "{error}");
        }
        assert_eq!(contexts.wanted(root.path(), &list).unwrap().missing.len(), 1);
        let link = ContextEntry { path: "l".into(), kind: ContextKind::Link("/etc".into()), ..dir("l") };
        for entries in [
            vec![dir("../x")],
            vec![dir("/x")],
            vec![dir("a/b")],
            vec![dir("")],
            vec![link, dir("l/x")],
            vec![dir("a"), dir("a")],
            vec![ContextEntry { kind: ContextKind::File(1, "zz".into()), ..dir("a") }],
        ] {
            let error = contexts.wanted(root.path(), &ContextList { entries }).unwrap_err();
            assert!(matches!(error, ContextFailure::List(_)), "{error}");
        }
    }
}
