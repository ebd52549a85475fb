//! SHA-256, and the ids that are made with it.

use std::io::{self, Read, Write};

use seacow_spec::{ChainId, Digest};
use sha2::{Digest as _, Sha256};

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    finish(Sha256::new_with_prefix(bytes))
}

/// The digest of a file's content, from its beginning.
pub(crate) fn of_file(mut file: &std::fs::File) -> io::Result<Digest> {
    use std::io::Seek as _;
    file.rewind()?;
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut file, &mut hashing)?;
    Ok(hashing.into_digest())
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

/// Digests in 43 characters that may be in a file name (RFC 4648 §5, without padding).
pub(crate) mod base64 {
    use seacow_spec::Digest;

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const LEN: usize = 43;

    pub(crate) fn encode(digest: &Digest) -> String {
        // Four bits at a time in, six at a time out.
        let mut bits = digest.hex().bytes().flat_map(|digit| {
            let value = if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
            (0..4).rev().map(move |bit| value >> bit & 1)
        });
        (0..LEN)
            .map(|_| {
                let six = (0..6).fold(0, |six, _| six << 1 | bits.next().unwrap_or(0));
                char::from(ALPHABET[usize::from(six)])
            })
            .collect()
    }

    pub(crate) fn decode(text: &str) -> Option<Digest> {
        if text.len() != LEN {
            return None;
        }
        let mut hash = [0u8; 32];
        for (at, byte) in text.bytes().enumerate() {
            let six = ALPHABET.iter().position(|known| *known == byte)?;
            for bit in 0..6 {
                let to = at * 6 + bit;
                let value = (six >> (5 - bit) & 1) as u8;
                match hash.get_mut(to / 8) {
                    Some(byte) => *byte |= value << (7 - to % 8),
                    None if value != 0 => return None,
                    None => {}
                }
            }
        }
        Some(Digest::from_sha256(&hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_one_to_one() {
        for n in 0..200u32 {
            let digest = digest(&n.to_le_bytes());
            let text = base64::encode(&digest);
            assert_eq!(text.len(), 43);
            assert_eq!(base64::decode(&text), Some(digest));
        }
        let known = Digest::from_sha256(&[0xff; 32]);
        assert_eq!(base64::encode(&known), format!("{}8", "_".repeat(42)));
        for bad in ["", "scratch", &"_".repeat(43), &"=".repeat(43)] {
            assert_eq!(base64::decode(bad), None);
        }
    }

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
