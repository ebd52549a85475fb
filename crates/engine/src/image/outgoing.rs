//! The blob of a layer on its way to a registry: one that is kept, or one that is packed while it is sent.
//!
//! What is packed goes through a file: an upload that breaks off is gone on with from anywhere, and the next push
//! of the layer, to any registry, sends the same bytes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use seacow_registry::{NextBytes, Pusher, Source};
use seacow_spec::Digest;
use seacow_spec::oci::image::Descriptor;
use seacow_store::layer::LayerInfo;
use seacow_store::{BlobPart, Packing, Store};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::ImageError;
use crate::blocking;
use crate::pipe::{Disconnected, ProgressSender};

/// What is read of a file at a time.
const PIECE: usize = 256 << 10;

/// What a layer needs to be sent.
pub(super) struct Sending<'a> {
    pub(super) store: &'a Store,
    pub(super) pusher: &'a Pusher,
    pub(super) handle: &'a Handle,
    pub(super) progress: &'a ProgressSender,
    /// Hears how much is there, of how much.
    pub(super) tell: &'a (dyn Fn(u64, u64) + Send + Sync),
}

impl Sending<'_> {
    /// Sends a blob that is kept; `None` when it is not.
    pub(super) fn as_it_was(&self, blob: &Descriptor) -> Result<Option<()>, ImageError> {
        let Some(file) = self.store.blobs().open(&blob.digest) else { return Ok(None) };
        let right = digest_of(&file).map_err(ImageError::Broken)? == blob.digest;
        if !right {
            tracing::warn!(blob = %blob.digest, "a kept blob is damaged; it is packed again");
            self.store.blobs().remove(&blob.digest).map_err(seacow_store::ImageError::from)?;
            return Ok(None);
        }
        let path = self.store.blobs().find(&blob.digest);
        let source = Arc::new(Kept { file: Arc::new(file), path, digest: blob.digest.clone() });
        self.upload(source, &|sent| (self.tell)(sent, blob.size))?;
        Ok(Some(()))
    }

    fn upload(
        &self,
        source: Arc<dyn Source>,
        told: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Digest, ImageError> {
        self.handle.block_on(async {
            tokio::select! {
                sent = self.pusher.upload(source, told) => Ok(sent?),
                () = self.progress.disconnected() => Err(ImageError::Disconnected(Disconnected)),
            }
        })
    }
}

/// Packs a layer and sends it meanwhile; gives the blob's digest and size, and whether it is zstd.
pub(super) fn sent_from(
    sending: &Sending<'_>,
    layer: &LayerInfo,
    packing: Option<Packing>,
) -> Result<(Digest, u64, bool), ImageError> {
    let packing = packing.unwrap_or(Packing::DOCKER);
    // Rarely more than a half of what is packed; where it is, the disk says so.
    let part = sending.store.blobs().make(layer.tar_size / 8).map_err(seacow_store::ImageError::from)?;
    let part = part.ok_or(ImageError::NoRoomToPack(layer.tar_size))?;
    let (state, _) = watch::channel(Grown::default());
    let growing = Arc::new(Growing { file: Arc::clone(part.file()), state });
    let packed_so_far = AtomicU64::new(0);
    if sending.pusher.is_beside() {
        // It is handed over as a file: there is nothing to do while it grows.
        packed(sending.store, layer, packing, &part, &growing, &packed_so_far)?;
        let digest = growing.digest().map_err(ImageError::Broken)?;
        let size = part.len().map_err(seacow_store::ImageError::from)?;
        part.finish(&digest).map_err(seacow_store::ImageError::from)?;
        let blob = super::push::descriptor(digest.clone(), size);
        sending.as_it_was(&blob)?.ok_or(ImageError::NoRoomToPack(layer.tar_size))?;
        return Ok((digest, size, matches!(packing, Packing::Zstd(_))));
    }
    let (sent, packed) = std::thread::scope(|scope| {
        let packer = scope.spawn(|| packed(sending.store, layer, packing, &part, &growing, &packed_so_far));
        let told = |_| (sending.tell)(packed_so_far.load(Ordering::Relaxed), layer.tar_size);
        let sent = sending.upload(Arc::clone(&growing) as Arc<dyn Source>, &told);
        if sent.is_err() {
            // Nobody wants the rest.
            growing.state.send_modify(|grown| grown.unwanted = true);
        }
        let panicked = || Err(ImageError::Broken(io::Error::other("a thread panicked")));
        (sent, packer.join().unwrap_or_else(|_| panicked()))
    });
    let digest = match (sent, packed) {
        // A registry that failed says more than a packer that was stopped, but not than one that stopped it.
        (Err(ImageError::Registry(seacow_registry::RegistryError::Source(_))), Err(error)) => {
            return Err(error);
        }
        (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
        (Ok(digest), Ok(())) => digest,
    };
    let size = part.len().map_err(seacow_store::ImageError::from)?;
    part.finish(&digest).map_err(seacow_store::ImageError::from)?;
    Ok((digest, size, matches!(packing, Packing::Zstd(_))))
}

/// Packs a layer into a file that others read meanwhile.
fn packed(
    store: &Store,
    layer: &LayerInfo,
    packing: Packing,
    part: &BlobPart,
    growing: &Growing,
    so_far: &AtomicU64,
) -> Result<(), ImageError> {
    let mut out = Grower { part, growing, hash: Sha256::new(), len: 0 };
    let outcome = seacow_store::pack(packing, &mut out, |to| {
        let mut counting = Counting { inner: to, so_far };
        let exported = store.layers().export(&layer.chain_id, &mut counting);
        exported.map_err(|error| ImageError::Store(error.into()))
    });
    let digest = Digest::from_sha256(&std::mem::take(&mut out.hash).finalize().into());
    growing.state.send_modify(|grown| {
        grown.end = Some(outcome.as_ref().map(|()| digest).map_err(ToString::to_string));
    });
    outcome
}

struct Counting<'a> {
    inner: &'a mut dyn Write,
    so_far: &'a AtomicU64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.so_far.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes to the file and tells its readers.
struct Grower<'a> {
    part: &'a BlobPart,
    growing: &'a Growing,
    hash: Sha256,
    len: u64,
}

impl Write for Grower<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.growing.state.borrow().unwanted {
            return Err(io::Error::other("the push has ended"));
        }
        self.part.append(bytes).map_err(io::Error::other)?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        let len = self.len;
        self.growing.state.send_modify(|grown| grown.len = len);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How far a file is.
#[derive(Clone, Debug, Default)]
struct Grown {
    len: u64,
    /// Its digest, or why it will not have one.
    end: Option<Result<Digest, String>>,
    unwanted: bool,
}

/// A blob in the making.
struct Growing {
    file: Arc<File>,
    state: watch::Sender<Grown>,
}

impl Source for Growing {
    fn read(&self, offset: u64) -> NextBytes<'_> {
        let mut state = self.state.subscribe();
        Box::pin(async move {
            let grown = state.wait_for(|grown| grown.len > offset || grown.end.is_some()).await;
            let grown = grown.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?.clone();
            match grown.end {
                Some(Err(reason)) => Err(io::Error::other(reason)),
                _ => read_at(Arc::clone(&self.file), offset, grown.len).await,
            }
        })
    }

    fn digest(&self) -> io::Result<Digest> {
        match &self.state.borrow().end {
            Some(end) => end.clone().map_err(io::Error::other),
            None => Err(io::Error::other("it is not packed yet")),
        }
    }
}

/// A blob that is kept.
struct Kept {
    file: Arc<File>,
    path: Option<PathBuf>,
    digest: Digest,
}

impl Source for Kept {
    fn read(&self, offset: u64) -> NextBytes<'_> {
        Box::pin(read_at(Arc::clone(&self.file), offset, u64::MAX))
    }

    fn digest(&self) -> io::Result<Digest> {
        Ok(self.digest.clone())
    }

    fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

async fn read_at(file: Arc<File>, offset: u64, end: u64) -> io::Result<Bytes> {
    let read = blocking::run("read a blob", move || {
        let len = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE);
        let mut buffer = vec![0; len];
        let read = file.read_at(&mut buffer, offset)?;
        buffer.truncate(read);
        Ok(Bytes::from(buffer))
    });
    read.await.map_err(io::Error::other)?
}

fn digest_of(file: &File) -> io::Result<Digest> {
    let (mut hash, mut buffer, mut at) = (Sha256::new(), vec![0; PIECE], 0);
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok(Digest::from_sha256(&hash.finalize().into())),
            len => {
                hash.update(&buffer[..len]);
                at += len as u64;
            }
        }
    }
}
