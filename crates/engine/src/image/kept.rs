//! The blob of a layer on its way: what is here of it first, then what comes; and what comes is kept.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use seacow_spec::Digest;
use seacow_spec::oci::image::Descriptor;
use seacow_store::{BlobPart, Blobs};

use crate::pipe::UploadReader;

const BUFFER: usize = 128 << 10;

/// What is here of a blob.
pub(super) struct Kept {
    blobs: Blobs,
    digest: Digest,
    /// The blob, or its beginning.
    file: Option<Arc<File>>,
    /// Bytes of it.
    had: u64,
    /// Where the rest is kept; nowhere when all is here, or somebody else is at it, or there is no room.
    part: Option<BlobPart>,
}

impl Kept {
    /// Looks for what is here.
    pub(super) fn open(blobs: &Blobs, layer: &Descriptor) -> io::Result<Self> {
        let (blobs, digest) = (blobs.clone(), layer.digest.clone());
        if let Some(file) = blobs.open(&digest) {
            if file.metadata()?.len() == layer.size {
                return Ok(Self { blobs, digest, file: Some(Arc::new(file)), had: layer.size, part: None });
            }
            blobs.remove(&digest).map_err(io::Error::other)?;
        }
        let part = blobs.begin(&digest, layer.size).map_err(io::Error::other)?;
        let had = part.as_ref().map_or(Ok(0), BlobPart::len).map_err(io::Error::other)?;
        let file = part.as_ref().map(|part| Arc::clone(part.file()));
        Ok(Self { blobs, digest, file, had, part })
    }

    /// How much is here.
    pub(super) fn had(&self) -> u64 {
        self.had
    }

    /// Shows what is here, piece by piece.
    pub(super) fn each(&self, mut see: impl FnMut(&[u8])) -> io::Result<()> {
        let mut all = Beginning { file: self.file.clone(), at: 0, end: self.had };
        let mut buffer = vec![0; BUFFER];
        loop {
            match all.read(&mut buffer)? {
                0 => return Ok(()),
                len => see(&buffer[..len]),
            }
        }
    }

    /// What is here, and then what comes.
    pub(super) fn then(self, rest: UploadReader) -> Keeping {
        let beginning = Beginning { file: self.file, at: 0, end: self.had };
        Keeping { blobs: self.blobs, digest: self.digest, beginning, rest, part: self.part }
    }
}

struct Beginning {
    file: Option<Arc<File>>,
    at: u64,
    end: u64,
}

impl Read for Beginning {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(0) };
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        if left == 0 {
            return Ok(0);
        }
        let read = file.read_at(&mut buffer[..left], self.at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// A blob that is kept while it is read.
pub(super) struct Keeping {
    blobs: Blobs,
    digest: Digest,
    beginning: Beginning,
    rest: UploadReader,
    part: Option<BlobPart>,
}

impl Keeping {
    /// All of it came, and is what its digest says.
    pub(super) fn finish(&mut self, digest: &Digest) {
        if let Some(part) = self.part.take()
            && let Err(error) = part.finish(digest)
        {
            tracing::warn!(%error, "a blob is not kept");
        }
    }

    /// It is not what its digest says.
    pub(super) fn discard(&mut self) {
        match self.part.take() {
            Some(part) => part.discard(),
            // What is left is found out again by whoever reads it.
            None => drop(self.blobs.remove(&self.digest)),
        }
    }
}

impl Read for Keeping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.beginning.read(buffer)?;
        if read > 0 {
            return Ok(read);
        }
        let read = self.rest.read(buffer)?;
        if let Some(part) = &self.part
            && let Err(error) = part.append(&buffer[..read])
        {
            // The pull does not need it.
            tracing::warn!(%error, "a blob is not kept");
            self.discard();
        }
        Ok(read)
    }
}
