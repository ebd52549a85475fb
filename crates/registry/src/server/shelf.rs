//! What a registry has on the disk.
//!
//! ```text
//! <root>/
//!   lock                                   held by the one server that may use it
//!   blobs/<hex>                            contents, manifests among them, each once for all repositories
//!   uploads/<id>/                          data: what came so far · repository: for which
//!   repositories/<name>/
//!     _blobs/<hex>                         the repository has this blob
//!     _manifests/<hex>                     it has this manifest; the file holds its media type
//!     _tags/<tag>                          a digest
//!     _referrers/<subject>/<hex>           this manifest tells something of that one
//! ```
//! Names of repositories never begin with an underscore, so they nest. Whatever appears is written under another
//! name, synced, and renamed; what a manifest lists is there before it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use seacow_spec::{Digest, id};

const BLOBS: &str = "_blobs";
const MANIFESTS: &str = "_manifests";
const TAGS: &str = "_tags";
const REFERRERS: &str = "_referrers";

/// The files of a registry.
#[derive(Debug)]
pub(super) struct Shelf {
    root: PathBuf,
    /// Writers of links share it; the collector of garbage has it alone.
    collecting: RwLock<()>,
    _lock: File,
}

impl Shelf {
    /// Opens what is there, or makes it.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        for dir in ["blobs", "uploads", "repositories"] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(dir))?;
        }
        let lock =
            File::options().read(true).write(true).create(true).truncate(false).open(root.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { root: root.to_owned(), collecting: RwLock::new(()), _lock: lock })
    }

    /// Keeps the collector away while something is made of several files.
    pub(super) fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.collecting.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody else away.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.collecting.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.root.join("repositories").join(name)
    }

    /// Whether anything was ever put into a repository.
    pub(super) fn has_repository(&self, name: &str) -> bool {
        let dir = self.repository(name);
        [BLOBS, MANIFESTS, TAGS].iter().any(|part| dir.join(part).is_dir())
    }

    pub(super) fn has_blob(&self, name: &str, digest: &Digest) -> bool {
        let dir = self.repository(name);
        [BLOBS, MANIFESTS].iter().any(|part| dir.join(part).join(digest.hex()).exists())
            && self.blob_path(digest).exists()
    }

    /// Opens a blob of a repository.
    pub(super) fn open_blob(&self, name: &str, digest: &Digest) -> io::Result<Option<File>> {
        if !self.has_blob(name, digest) {
            return Ok(None);
        }
        found(File::open(self.blob_path(digest)))
    }

    /// Puts a file that is whole and verified in its place among the contents, and gives it to a repository.
    pub(super) fn take_blob(&self, name: &str, digest: &Digest, file: &Path) -> io::Result<()> {
        let _writing = self.writing();
        let to = self.blob_path(digest);
        if !to.exists() {
            File::open(file)?.sync_all()?;
            std::fs::rename(file, &to)?;
            sync_dir(&self.root.join("blobs"))?;
        }
        self.link_blob(name, digest)
    }

    /// Gives a repository a blob that another one has.
    pub(super) fn mount_blob(&self, name: &str, digest: &Digest, from: &str) -> io::Result<bool> {
        let _writing = self.writing();
        let has = self.has_blob(from, digest);
        if has {
            self.link_blob(name, digest)?;
        }
        Ok(has)
    }

    fn link_blob(&self, name: &str, digest: &Digest) -> io::Result<()> {
        let dir = self.repository(name).join(BLOBS);
        std::fs::create_dir_all(&dir)?;
        let link = File::create(dir.join(digest.hex()))?;
        // One that was there is of now: the collector looks at its age.
        link.set_modified(SystemTime::now())
    }

    /// Takes a blob away from a repository; tells whether it had it.
    pub(super) fn unlink_blob(&self, name: &str, digest: &Digest) -> io::Result<bool> {
        Ok(found(std::fs::remove_file(self.repository(name).join(BLOBS).join(digest.hex())))?.is_some())
    }

    /// The digest that a tag stands for.
    pub(super) fn tag(&self, name: &str, tag: &str) -> io::Result<Option<Digest>> {
        let text = found(std::fs::read_to_string(self.repository(name).join(TAGS).join(tag)))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// All tags of a repository, sorted.
    pub(super) fn tags(&self, name: &str) -> io::Result<Vec<String>> {
        let mut tags = names(&self.repository(name).join(TAGS))?;
        // What is being written begins with a dot, as no tag does.
        tags.retain(|tag| !tag.starts_with('.'));
        Ok(tags)
    }

    /// Media type and bytes of a manifest.
    pub(super) fn manifest(&self, name: &str, digest: &Digest) -> io::Result<Option<(String, Vec<u8>)>> {
        let kind = found(std::fs::read_to_string(self.repository(name).join(MANIFESTS).join(digest.hex())))?;
        let Some(kind) = kind else { return Ok(None) };
        Ok(found(std::fs::read(self.blob_path(digest)))?.map(|bytes| (kind, bytes)))
    }

    /// Puts a manifest in its place, and then everything that leads to it.
    pub(super) fn put_manifest(&self, name: &str, new: &NewManifest<'_>) -> io::Result<()> {
        let _writing = self.writing();
        let dir = self.repository(name);
        let blob = self.blob_path(new.digest);
        if !blob.exists() {
            write(&blob, new.bytes)?;
        }
        write(&dir.join(MANIFESTS).join(new.digest.hex()), new.kind.as_bytes())?;
        if let Some(subject) = new.subject {
            write(&dir.join(REFERRERS).join(subject.hex()).join(new.digest.hex()), b"")?;
        }
        if let Some(tag) = new.tag {
            write(&dir.join(TAGS).join(tag), new.digest.as_str().as_bytes())?;
        }
        Ok(())
    }

    /// Takes a tag away; tells whether it was there.
    pub(super) fn remove_tag(&self, name: &str, tag: &str) -> io::Result<bool> {
        Ok(found(std::fs::remove_file(self.repository(name).join(TAGS).join(tag)))?.is_some())
    }

    /// Takes a manifest away with all its tags; tells whether it was there.
    pub(super) fn remove_manifest(&self, name: &str, digest: &Digest) -> io::Result<bool> {
        let _writing = self.writing();
        let dir = self.repository(name);
        if !dir.join(MANIFESTS).join(digest.hex()).exists() {
            return Ok(false);
        }
        for tag in self.tags(name)? {
            if self.tag(name, &tag)?.as_ref() == Some(digest) {
                self.remove_tag(name, &tag)?;
            }
        }
        for subject in names(&dir.join(REFERRERS))? {
            found(std::fs::remove_file(dir.join(REFERRERS).join(subject).join(digest.hex())))?;
        }
        Ok(found(std::fs::remove_file(dir.join(MANIFESTS).join(digest.hex())))?.is_some())
    }

    /// Manifests that tell something of another one.
    pub(super) fn referrers(&self, name: &str, subject: &Digest) -> io::Result<Vec<Digest>> {
        digests(&self.repository(name).join(REFERRERS).join(subject.hex()))
    }

    /// The manifests of a repository.
    pub(super) fn manifests(&self, name: &str) -> io::Result<Vec<Digest>> {
        digests(&self.repository(name).join(MANIFESTS))
    }

    /// The blobs that a repository was given, with how long ago.
    pub(super) fn linked(&self, name: &str) -> io::Result<Vec<(Digest, Duration)>> {
        aged(&self.repository(name).join(BLOBS))
    }

    /// All contents, with how long ago they came.
    pub(super) fn contents(&self) -> io::Result<Vec<(Digest, Duration)>> {
        aged(&self.root.join("blobs"))
    }

    /// All repositories, sorted.
    pub(super) fn repositories(&self) -> io::Result<Vec<String>> {
        let mut out = Vec::new();
        self.below("", &mut out)?;
        out.sort();
        Ok(out)
    }

    fn below(&self, prefix: &str, out: &mut Vec<String>) -> io::Result<()> {
        let dir = if prefix.is_empty() { self.root.join("repositories") } else { self.repository(prefix) };
        let mut is_one = false;
        for name in names(&dir)? {
            if name.starts_with('_') {
                is_one = true;
                continue;
            }
            let deeper = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            self.below(&deeper, out)?;
        }
        if is_one {
            out.push(prefix.to_owned());
        }
        Ok(())
    }
}

/// A manifest to be put in its place.
pub(super) struct NewManifest<'a> {
    pub(super) digest: &'a Digest,
    pub(super) kind: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) tag: Option<&'a str>,
    pub(super) subject: Option<&'a Digest>,
}

/// Not there is no failure.
pub(super) fn found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Names in a directory, sorted; none where there is none.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = found(std::fs::read_dir(dir))? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for entry in entries {
        out.extend(entry?.file_name().into_string());
    }
    out.sort();
    Ok(out)
}

fn digests(dir: &Path) -> io::Result<Vec<Digest>> {
    Ok(names(dir)?.into_iter().filter_map(|name| format!("sha256:{name}").parse().ok()).collect())
}

fn aged(dir: &Path) -> io::Result<Vec<(Digest, Duration)>> {
    let mut out = Vec::new();
    for digest in digests(dir)? {
        // What goes meanwhile is gone.
        let Some(metadata) = found(std::fs::metadata(dir.join(digest.hex())))? else { continue };
        out.push((digest, metadata.modified()?.elapsed().unwrap_or_default()));
    }
    Ok(out)
}

/// A small file, all of it or nothing.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir)?;
    let draft = dir.join(format!(".{}", &id::random_hex()?[..16]));
    let put = || {
        let mut file = File::create_new(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        sync_dir(dir)
    };
    put().inspect_err(|_| {
        // What stays has a name that nothing is looked for under.
        let _ = std::fs::remove_file(&draft);
    })
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
