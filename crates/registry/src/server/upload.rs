//! Uploads: what came so far of a blob, hashed while it comes.
//!
//! An upload is a directory, so it outlives the server: what it has is hashed again then. One writer at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use seacow_spec::{Digest, id};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::refusal::Refusal;
use super::shelf::{Shelf, found};

/// Blobs that are written at a time: each has a thread of its own.
const AT_ONCE: usize = 64;
/// Pieces between the network and the disk.
const PIECES: usize = 16;
/// How long a client may say nothing in the middle of a body.
const SILENCE: Duration = Duration::from_secs(60);
const DATA: &str = "data";
const REPOSITORY: &str = "repository";

/// All uploads.
pub(super) struct Uploads {
    shelf: Arc<Shelf>,
    /// Most bytes of a blob.
    limit: u64,
    open: Mutex<HashMap<String, Arc<Mutex<State>>>>,
    room: Arc<Semaphore>,
}

/// How far one is.
struct State {
    dir: PathBuf,
    len: u64,
    hash: Sha256,
    /// It is a file that somebody else has too, and whole: nothing is written to it.
    whole: bool,
}

/// An upload that nobody else writes to.
pub(super) struct Held {
    id: String,
    state: Arc<Mutex<State>>,
    _permit: OwnedSemaphorePermit,
}

impl Uploads {
    pub(super) fn new(shelf: Arc<Shelf>, limit: u64) -> Self {
        Self { shelf, limit, open: Mutex::default(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Mutex<State>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one, and gives its id.
    pub(super) fn begin(&self, repository: &str) -> Result<String, Refusal> {
        use std::os::unix::fs::DirBuilderExt as _;
        let id = id::random_hex()?[..32].to_owned();
        let dir = self.shelf.uploads().join(&id);
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        std::fs::write(dir.join(REPOSITORY), repository)?;
        File::create_new(dir.join(DATA))?;
        let state = State { dir, len: 0, hash: Sha256::new(), whole: false };
        self.open().insert(id.clone(), Arc::new(Mutex::new(state)));
        Ok(id)
    }

    /// The upload of an id, which must be one of that repository.
    fn find(&self, repository: &str, id: &str) -> Result<Arc<Mutex<State>>, Refusal> {
        // Nothing else becomes a part of a path.
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Refusal::upload_unknown());
        }
        let dir = self.shelf.uploads().join(id);
        let of = found(std::fs::read_to_string(dir.join(REPOSITORY)))?;
        if of.as_deref() != Some(repository) {
            return Err(Refusal::upload_unknown());
        }
        let mut open = self.open();
        if let Some(state) = open.get(id) {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(Mutex::new(State::found(dir)?));
        open.insert(id.to_owned(), Arc::clone(&state));
        Ok(state)
    }

    /// How many bytes an upload has.
    pub(super) fn len(&self, repository: &str, id: &str) -> Result<u64, Refusal> {
        let state = self.find(repository, id)?;
        // Whoever holds it writes: what is on the disk is there.
        let len = match state.try_lock() {
            Ok(state) => state.len,
            Err(_) => std::fs::metadata(self.shelf.uploads().join(id).join(DATA))?.len(),
        };
        Ok(len)
    }

    /// Holds an upload to write to it.
    pub(super) fn hold(&self, repository: &str, id: &str) -> Result<Held, Refusal> {
        let state = self.find(repository, id)?;
        if state.try_lock().is_err() {
            return Err(Refusal::upload_busy());
        }
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Refusal::busy())?;
        Ok(Held { id: id.to_owned(), state, _permit: permit })
    }

    /// Appends a body; gives how much there is then. What came of a body that breaks off stays.
    pub(super) async fn append(&self, held: &Held, mut body: Incoming) -> Result<u64, Refusal> {
        let (pieces, queue) = mpsc::channel::<Bytes>(PIECES);
        let (state, limit) = (Arc::clone(&held.state), self.limit);
        let writer = tokio::task::spawn_blocking(move || append(&state, queue, limit));
        let mut broken = None;
        loop {
            let piece = match tokio::time::timeout(SILENCE, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(error))) => {
                    broken = Some(format!("the body broke off: {error}"));
                    break;
                }
                Err(_) => {
                    broken = Some(format!("nothing came for {} seconds", SILENCE.as_secs()));
                    break;
                }
            };
            // The writer has failed, and says why.
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let len = writer.await.map_err(io::Error::other)??;
        match broken {
            None => Ok(len),
            Some(reason) => Err(Refusal::upload_invalid(reason)),
        }
    }

    /// Makes an upload the very file at `path`, without copying it where the file systems allow; tells whether that
    /// was done. It must be empty.
    pub(super) fn fill(&self, id: &str, path: &Path) -> io::Result<bool> {
        let Some(state) = self.open().get(id).cloned() else { return Ok(false) };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.len > 0 || state.whole {
            return Ok(false);
        }
        let data = state.dir.join(DATA);
        let source = File::open(path)?;
        let target = File::options().write(true).open(&data)?;
        if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
            // One file by two names: neither is ever written to again.
            let link = state.dir.join("link");
            if std::fs::hard_link(path, &link).is_err() {
                return Ok(false);
            }
            std::fs::rename(&link, &data)?;
        }
        // Whoever says it is whole names the digest, and that is looked at.
        (state.hash, state.len) = hash(&data)?;
        state.whole = true;
        Ok(true)
    }

    /// Ends an upload: it becomes a blob of its repository if it is what the digest says.
    pub(super) fn finish(&self, repository: &str, held: &Held, digest: &Digest) -> Result<(), Refusal> {
        let state = held.state.lock().unwrap_or_else(PoisonError::into_inner);
        let actual = Digest::from_sha256(&state.hash.clone().finalize().into());
        if actual != *digest {
            let message = format!("provided digest did not match uploaded content: it is {actual}");
            self.remove(&held.id, &state.dir)?;
            return Err(Refusal::digest(message));
        }
        self.shelf.take_blob(repository, digest, &state.dir.join(DATA))?;
        self.remove(&held.id, &state.dir)?;
        Ok(())
    }

    /// Nobody will go on with it.
    pub(super) fn cancel(&self, repository: &str, id: &str) -> Result<(), Refusal> {
        self.find(repository, id)?;
        self.remove(id, &self.shelf.uploads().join(id))?;
        Ok(())
    }

    /// Removes those that nobody has written to for so long; tells how many.
    pub(super) fn remove_old(&self, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for id in super::shelf::names(&self.shelf.uploads())? {
            let dir = self.shelf.uploads().join(&id);
            let Some(metadata) = found(std::fs::metadata(dir.join(DATA)))? else { continue };
            let held = self.open().get(&id).is_some_and(|state| state.try_lock().is_err());
            if !held && metadata.modified()?.elapsed().unwrap_or_default() >= age {
                self.remove(&id, &dir)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn remove(&self, id: &str, dir: &Path) -> io::Result<()> {
        self.open().remove(id);
        found(std::fs::remove_dir_all(dir)).map(drop)
    }
}

impl State {
    /// One of an earlier server.
    fn found(dir: PathBuf) -> io::Result<Self> {
        let (hash, len) = hash(&dir.join(DATA))?;
        Ok(Self { dir, len, hash, whole: false })
    }
}

impl Held {
    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).len
    }
}

fn hash(path: &Path) -> io::Result<(Sha256, u64)> {
    let (mut file, mut hash, mut len) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash, len)),
            read => {
                hash.update(&buffer[..read]);
                len += read as u64;
            }
        }
    }
}

fn append(state: &Mutex<State>, mut queue: mpsc::Receiver<Bytes>, limit: u64) -> Result<u64, Refusal> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.whole {
        return Err(Refusal::out_of_order(state.len));
    }
    let mut file = File::options().append(true).open(state.dir.join(DATA))?;
    while let Some(piece) = queue.blocking_recv() {
        if state.len + piece.len() as u64 > limit {
            return Err(Refusal::too_large(limit));
        }
        if let Err(error) = file.write_all(&piece) {
            // A part of the piece may be there; what was told is what counts.
            file.set_len(state.len)?;
            return Err(error.into());
        }
        state.hash.update(&piece);
        state.len += piece.len() as u64;
    }
    Ok(state.len)
}
