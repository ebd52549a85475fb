//! SHA-256, and the ids that are made with it.

use std::io::{self, Read, Write};

use seacow_spec::{ChainId, Digest};
use sha2::{Digest as _, Sha256};

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    finish(Sha256::new_with_prefix(bytes))
}

/// Names the stack of `diff` on top of `parent`.
pub fn chain_id(parent: Option<&ChainId>, diff: &Digest) -> ChainId {
    match parent {
        None => ChainId(diff.clone()),
        Some(parent) => ChainId(digest(parent.preimage(diff).as_bytes())),
    }
}

/// The chain id of a whole list of diff ids, lowest first; `None` for no layers.
pub fn chain_of(diff_ids: &[Digest]) -> Option<ChainId> {
    diff_ids.iter().fold(None, |parent, diff| Some(chain_id(parent.as_ref(), diff)))
}

pub(crate) fn finish(hash: Sha256) -> Digest {
    Digest::from_sha256(&hash.finalize().into())
}

/// Hashes and counts what passes through.
pub(crate) struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn into_digest(self) -> Digest {
        finish(self.hash)
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.count += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.note(&buf[..len]);
        Ok(len)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(buf)?;
        self.note(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_follow_the_oci_rule() {
        let (a, b) = (digest(b"a"), digest(b"b"));
        let first = chain_id(None, &a);
        assert_eq!(first.0, a);
        let second = chain_id(Some(&first), &b);
        assert_eq!(second.0, digest(format!("{a} {b}").as_bytes()));
        assert_eq!(chain_of(&[a, b]), Some(second));
        assert_eq!(chain_of(&[]), None);
    }
}
