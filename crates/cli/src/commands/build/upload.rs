//! What of the context the engine lacks.
//!
//! Every file's hash goes to the engine in a list. Hashes are remembered with the files' times and numbers, so
//! that only what changed is read again: in the user's cache directory, one file for each context.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use seacow_spec::docker::build::{ContextEntry, ContextKind, ContextList, ContextWanted};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::archive::ignore::Ignore;
use crate::archive::{Kind, Walk};
use crate::client::Client;
use crate::failure::Failure;

/// A file that was changed within this time before it was read may change again without a trace.
const RACY: i64 = 1_000_000_000;
/// Threads that hash.
const THREADS: usize = 4;
const PIECE: usize = 256 << 10;

/// The files of a context.
pub(super) struct Files {
    root: PathBuf,
    list: ContextList,
    /// Name of the list.
    pub(super) id: String,
}

/// What is remembered of a context.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    files: HashMap<String, Stamped>,
}

/// A file's hash, good as long as its stamp is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamped {
    #[serde(rename = "s")]
    stamp: Stamp,
    #[serde(rename = "h")]
    hash: String,
}

/// Size, inode, times of last change of contents and of anything, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self(
            meta.len(),
            meta.ino(),
            nanos(meta.mtime(), meta.mtime_nsec()),
            nanos(meta.ctime(), meta.ctime_nsec()),
        )
    }
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

impl Files {
    /// Lists a directory. `None` when something in it cannot be in a list: devices, pipes, capabilities.
    pub(super) fn list(root: &Path, ignore: Ignore) -> Result<Option<Self>, Failure> {
        let cache = cache_file(root);
        let known: Remembered = cache
            .as_ref()
            .and_then(|path| std::fs::read(path).ok())
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let mut entries = Vec::new();
        let mut stamps = HashMap::new();
        let mut unknown = Vec::new();
        for entry in Walk::context(root, ignore)? {
            let entry = entry?;
            let path = root.join(&entry.name);
            let meta = path.symlink_metadata()?;
            let kind = match entry.kind {
                Kind::Directory => ContextKind::Directory,
                Kind::Symlink(target) => ContextKind::Link(target),
                Kind::File { .. } | Kind::Hardlink(_) if entry.capability.is_none() && meta.is_file() => {
                    let stamp = Stamp::of(&meta);
                    let hash = known.files.get(&entry.name).filter(|file| file.stamp == stamp);
                    let hash = hash.map(|file| file.hash.clone());
                    if hash.is_none() {
                        unknown.push(entries.len());
                    }
                    stamps.insert(entry.name.clone(), stamp);
                    ContextKind::File(stamp.0, hash.unwrap_or_default())
                }
                _ => return Ok(None),
            };
            let mtime = nanos(meta.mtime(), meta.mtime_nsec());
            entries.push(ContextEntry { path: entry.name, mode: entry.mode, mtime, kind });
        }
        let changed = !unknown.is_empty() || stamps.len() != known.files.len();
        hash_all(root, &mut entries, &unknown)?;
        if let (true, Some(cache)) = (changed, cache) {
            // Without it the next build is slower.
            let _ = remember(&cache, &entries, &stamps);
        }
        let list = ContextList { entries };
        let text = serde_json::to_vec(&list).map_err(|error| Failure::Refused(error.to_string()))?;
        let id = seacow_spec::id::hex(&Sha256::digest(text));
        Ok(Some(Self { root: root.to_owned(), list, id }))
    }

    /// Sends what the engine lacks.
    pub(super) fn send(&self, client: &Client) -> Result<(), Failure> {
        let wanted: ContextWanted = client.post("/build/context").exchange_json(&self.list)?;
        let paths: HashMap<&str, (&str, u64)> = self
            .list
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                ContextKind::File(size, hash) => Some((hash.as_str(), (entry.path.as_str(), *size))),
                ContextKind::Directory | ContextKind::Link(_) => None,
            })
            .collect();
        let text = serde_json::to_vec(&self.list).map_err(|error| Failure::Refused(error.to_string()))?;
        let mut head = (text.len() as u64).to_be_bytes().to_vec();
        head.extend(text);
        let missing = wanted.missing.iter().filter_map(|hash| paths.get(hash.as_str()));
        let files: Vec<(PathBuf, u64)> = missing.map(|(path, size)| (self.root.join(path), *size)).collect();
        let body = Body { head: Cursor::new(head), files: files.into_iter(), open: None };
        let call = client.call("PUT", "/build/context");
        let response = call.stream("application/octet-stream", Box::new(body)).send()?;
        client.discard(response);
        Ok(())
    }
}

/// The list, and then the files, each as long as it was when it was listed.
struct Body {
    head: Cursor<Vec<u8>>,
    files: std::vec::IntoIter<(PathBuf, u64)>,
    open: Option<(PathBuf, io::Take<File>)>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.head.read(buffer)?;
        if len > 0 || buffer.is_empty() {
            return Ok(len);
        }
        loop {
            if let Some((path, file)) = &mut self.open {
                let len = file.read(buffer)?;
                if len > 0 {
                    return Ok(len);
                }
                if file.limit() > 0 {
                    return Err(io::Error::other(format!("{} became shorter meanwhile", path.display())));
                }
            }
            let Some((path, size)) = self.files.next() else { return Ok(0) };
            self.open = Some((path.clone(), File::open(&path)?.take(size)));
        }
    }
}

/// Hashes files on several threads.
fn hash_all(root: &Path, entries: &mut [ContextEntry], unknown: &[usize]) -> io::Result<()> {
    let next = Mutex::new(unknown.iter());
    let found: Mutex<Vec<(usize, io::Result<String>)>> = Mutex::default();
    let paths: HashMap<usize, PathBuf> =
        unknown.iter().map(|index| (*index, root.join(&entries[*index].path))).collect();
    let work = || {
        let mut buffer = vec![0; PIECE];
        loop {
            let index = next.lock().ok().and_then(|mut next| next.next().copied());
            let Some((index, path)) = index.and_then(|index| paths.get(&index).map(|path| (index, path)))
            else {
                return;
            };
            let hash = hash_of(path, &mut buffer);
            if let Ok(mut found) = found.lock() {
                found.push((index, hash));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(unknown.len()) {
            scope.spawn(work);
        }
        work();
    });
    for (index, hash) in found.into_inner().unwrap_or_default() {
        if let ContextKind::File(_, own) = &mut entries[index].kind {
            *own = hash?;
        }
    }
    Ok(())
}

fn hash_of(path: &Path, buffer: &mut [u8]) -> io::Result<String> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(named)?;
    let mut hash = Sha256::new();
    loop {
        match file.read(buffer).map_err(named)? {
            0 => return Ok(seacow_spec::id::hex(&hash.finalize())),
            len => hash.update(&buffer[..len]),
        }
    }
}

fn cache_file(root: &Path) -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let name = seacow_spec::id::hex(&Sha256::digest(root.as_os_str().as_encoded_bytes()));
    Some(base.join("seacow/contexts").join(name.get(..32)?))
}

fn remember(cache: &Path, entries: &[ContextEntry], stamps: &HashMap<String, Stamp>) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let settled = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX) - RACY;
    let files = entries.iter().filter_map(|entry| match &entry.kind {
        ContextKind::File(_, hash) => {
            let stamp = *stamps.get(&entry.path).filter(|stamp| stamp.2 < settled && stamp.3 < settled)?;
            Some((entry.path.clone(), Stamped { stamp, hash: hash.clone() }))
        }
        ContextKind::Directory | ContextKind::Link(_) => None,
    });
    let text = serde_json::to_vec(&Remembered { files: files.collect() })?;
    let parent = cache.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent)?;
    let draft = parent.join(format!(".{}", std::process::id()));
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for (name, text) in [("d/a", "aaa"), ("b", "bb"), ("skip", "")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("b", dir.path().join("l")).unwrap();
        std::fs::hard_link(dir.path().join("b"), dir.path().join("x")).unwrap();
        let list = || Files::list(dir.path(), Ignore::parse("skip")).unwrap().unwrap();
        let files = list();
        let names: Vec<&str> = files.list.entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(names, ["b", "d", "d/a", "l", "x"]);
        assert_eq!(files.list.entries[0].kind, files.list.entries[4].kind);
        assert!(matches!(&files.list.entries[3].kind, ContextKind::Link(target) if target == "b"));
        assert_eq!(list().id, files.id);
        std::fs::write(dir.path().join("b"), "cc").unwrap();
        assert_ne!(list().id, files.id);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("p"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert!(Files::list(dir.path(), Ignore::default()).unwrap().is_none());
    }
}
