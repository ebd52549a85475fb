//! Content addresses: `sha256:` and 64 hex digits.
//!
//! Vocabulary: a *diff id* is the digest of a layer's uncompressed tar; a *chain id* names a stack
//! of layers (OCI image specification); an *image id* is the digest of the image's config blob.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The only algorithm that is produced and accepted.
pub const ALGORITHM: &str = "sha256";

/// A string that is not a supported digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid digest {0:?}: expected sha256: and 64 lower-case hex digits")]
pub struct InvalidDigest(pub String);

/// `sha256:<64 hex digits>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// From a finished SHA-256.
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        Self(format!("{ALGORITHM}:{}", crate::id::hex(hash)))
    }

    /// The whole text, with the algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0[ALGORITHM.len() + 1..]
    }

    /// The first 12 hex digits, as tables show it.
    pub fn short(&self) -> &str {
        &self.hex()[..crate::id::SHORT_LEN]
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let valid = text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidDigest(text.to_owned())) }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{}", self.short())
    }
}

/// Names a stack of layers: `sha256(parent chain id + " " + diff id)`, or the diff id of the first.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The text whose SHA-256 is the chain id of `diff` on top of `self`.
    ///
    /// Hashing is left to whoever has a hash function; this crate has none.
    pub fn preimage(&self, diff: &Digest) -> String {
        format!("{} {}", self.0, diff)
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        self.0.hex()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_what_it_prints() {
        let digest = Digest::from_sha256(&[0xab; 32]);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for bad in ["sha256:abc", "md5:00", digest.hex(), &digest.as_str().to_uppercase()] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
