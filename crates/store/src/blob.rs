//! Blobs: packed layers as registries have them, kept so that what was pulled is sent on byte for byte.
//!
//! Vocabulary
//! - *blob*: a file `blobs/<hex>`, named by its digest, whole.
//! - *part*: `blobs/<hex>.part`, the beginning of one. Whoever holds its lock goes on with it; it outlives the
//!   process, so that a pull that was killed fetches only what is missing.
//! - *claimed*: some image's manifest lists it ([`crate::image::KeptManifest`]).
//!
//! They are a cache. Nothing breaks without them, so they are never synced, they are the first to go when room is
//! wanted, and whoever reads one checks its digest as if it came from outside. What nobody claims is removed a
//! day after it was last written.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use seacow_spec::Digest;

use crate::error::{At, IoFailure};
use crate::shared::Shared;

/// How long a part, or a blob that no image claims, is kept for a next try.
const UNCLAIMED: Duration = Duration::from_secs(24 * 3600);
const PART: &str = "part";

/// The kept blobs of a store.
#[derive(Clone, Debug)]
pub struct Blobs {
    shared: Arc<Shared>,
}

/// A blob in the making, which nobody else works on.
#[derive(Debug)]
pub struct Part {
    file: Arc<File>,
    path: PathBuf,
    dir: PathBuf,
    /// What is left when it is dropped is of use to the next one.
    resumable: bool,
    done: bool,
}

impl Blobs {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Opens a blob that is here.
    pub fn open(&self, digest: &Digest) -> Option<File> {
        File::open(self.path(digest)).ok()
    }

    /// Where a blob is that is here.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        path.is_file().then_some(path)
    }

    /// The beginning of a blob of `size` bytes, to be gone on with. `None` while somebody else does, or where
    /// there is no room for it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Part>, IoFailure> {
        if !self.has_room(size)? {
            return Ok(None);
        }
        let path = self.path(digest).with_extension(PART);
        let part = self.part(path, true)?;
        let Some(part) = part else { return Ok(None) };
        // One that is longer is something else.
        if part.len()? > size {
            part.file.set_len(0).at("empty", &part.path)?;
        }
        Ok(Some(part))
    }

    /// A blob whose digest is not known before its end. `None` where there is no room for one of `size` bytes.
    ///
    /// # Errors
    /// The disk failed.
    pub fn make(&self, size: u64) -> Result<Option<Part>, IoFailure> {
        if !self.has_room(size)? {
            return Ok(None);
        }
        let name = format!("new-{}.{PART}", crate::layout::random()?);
        self.part(self.shared.layout.blobs().join(name), false)
    }

    fn part(&self, path: PathBuf, resumable: bool) -> Result<Option<Part>, IoFailure> {
        let file = File::options().read(true).append(true).create(true).open(&path).at("open", &path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(IoFailure::new("lock", path, errno)),
        }
        // Its last holder may have finished it, or thrown it away, just before it was locked.
        if !is_named(&file, &path) {
            return Ok(None);
        }
        let dir = self.shared.layout.blobs();
        Ok(Some(Part { file: Arc::new(file), path, dir, resumable, done: false }))
    }

    /// Removes a blob: it is not what its name says, or nobody needs it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove(&self, digest: &Digest) -> Result<(), IoFailure> {
        remove(&self.path(digest))
    }

    /// Bytes that all blobs and parts take.
    ///
    /// # Errors
    /// The disk failed.
    pub fn bytes(&self) -> Result<u64, IoFailure> {
        Ok(self.all()?.iter().map(|found| found.bytes).sum())
    }

    /// Removes blobs, the one that was written longest ago first, until `bytes` are free; tells how many became so.
    /// What is being written stays.
    ///
    /// # Errors
    /// The disk failed.
    pub fn evict(&self, bytes: u64) -> Result<u64, IoFailure> {
        let mut all = self.all()?;
        all.sort_by_key(|found| found.written);
        let mut freed = 0;
        for found in all {
            if freed >= bytes {
                break;
            }
            if remove_unless_held(&found.path)? {
                freed += found.bytes;
            }
        }
        Ok(freed)
    }

    /// Removes those of `gone` that no manifest lists any more.
    pub(crate) fn forget(shared: &Shared, gone: impl IntoIterator<Item = Digest>) {
        let claimed = claimed(shared);
        for digest in gone.into_iter().filter(|digest| !claimed.contains(digest)) {
            // What stays is found when the store opens.
            let _ = remove(&shared.layout.blobs().join(digest.hex()));
        }
    }

    /// Removes what nobody claims and nobody has written for a day, and what was made for a digest that will not
    /// be known any more.
    pub(crate) fn tidy(&self) -> Result<(), IoFailure> {
        let claimed: HashSet<String> =
            claimed(&self.shared).iter().map(|digest| digest.hex().to_owned()).collect();
        for found in self.all()? {
            let name = found.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let old = found.written.elapsed().is_ok_and(|age| age > UNCLAIMED);
            if name.starts_with("new-") || (old && !claimed.contains(name)) {
                remove(&found.path)?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.layout.blobs().join(digest.hex())
    }

    fn has_room(&self, size: u64) -> Result<bool, IoFailure> {
        let dir = self.shared.layout.blobs();
        let stat = rustix::fs::statvfs(&dir).at("look at", &dir)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        // The layer itself takes some three times as much.
        let need = size.saturating_mul(4).saturating_add(self.shared.limits.reserve);
        Ok(free > need)
    }

    fn all(&self) -> Result<Vec<Found>, IoFailure> {
        use std::os::unix::fs::MetadataExt as _;
        let dir = self.shared.layout.blobs();
        let mut out = Vec::new();
        for name in crate::store::names(&dir)? {
            let path = dir.join(name);
            // What goes meanwhile is gone.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            out.push(Found { path, bytes: metadata.blocks() * 512, written });
        }
        Ok(out)
    }
}

/// A file among the blobs.
struct Found {
    path: PathBuf,
    bytes: u64,
    written: SystemTime,
}

impl Part {
    /// The file: read from anywhere, written at its end.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Bytes that are there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn len(&self) -> Result<u64, IoFailure> {
        Ok(self.file.metadata().at("look at", &self.path)?.len())
    }

    /// Whether nothing is there yet.
    ///
    /// # Errors
    /// The disk failed.
    pub fn is_empty(&self) -> Result<bool, IoFailure> {
        Ok(self.len()? == 0)
    }

    /// Begins from the beginning.
    pub(crate) fn empty(&self) -> Result<(), IoFailure> {
        self.file.set_len(0).at("empty", &self.path)
    }

    /// Appends.
    ///
    /// # Errors
    /// The disk failed.
    pub fn append(&self, bytes: &[u8]) -> Result<(), IoFailure> {
        (&*self.file).write_all(bytes).at("write", &self.path)
    }

    /// It is whole, and its digest was checked.
    ///
    /// # Errors
    /// The disk failed.
    pub fn finish(mut self, digest: &Digest) -> Result<(), IoFailure> {
        let to = self.dir.join(digest.hex());
        std::fs::rename(&self.path, &to).at("rename to", to)?;
        self.done = true;
        Ok(())
    }

    /// Nobody is to go on with it.
    pub fn discard(mut self) {
        self.resumable = false;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.done && !self.resumable {
            // What stays is removed when the store opens.
            let _ = remove(&self.path);
        }
    }
}

/// The blobs that manifests list.
fn claimed(shared: &Shared) -> HashSet<Digest> {
    let catalog = shared.catalog();
    let listed = catalog.manifests.values().flat_map(|kept| &kept.manifest.layers);
    listed.map(|layer| layer.digest.clone()).collect()
}

/// Whether an open file is what a path leads to.
fn is_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn remove_unless_held(path: &Path) -> Result<bool, IoFailure> {
    let Ok(file) = File::open(path) else { return Ok(false) };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    remove(path).map(|()| true)
}

fn remove(path: &Path) -> Result<(), IoFailure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IoFailure::new("remove", path, error)),
        _ => Ok(()),
    }
}
