//! Which path means what.

use std::collections::HashMap;

use seacow_spec::{Digest, reference};

use super::refusal::Refusal;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(String),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(String, Version),
    /// `/v2/<name>/blobs/<digest>`
    Blob(String, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(String),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(String, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(String, Digest),
}

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tag(String),
    Digest(Digest),
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => f.write_str(digest.as_str()),
        }
    }
}

impl Target {
    /// Reads a path.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let Some(rest) = path.strip_prefix("/v2/").or_else(|| path.strip_prefix("/v2")) else {
            return Err(Refusal::nowhere());
        };
        match rest {
            "" => return Ok(Self::Base),
            "_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        // A name may have words in it that mean something elsewhere: the end decides.
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        let (front, last) = rest.rsplit_once('/').ok_or_else(Refusal::nowhere)?;
        let last = decoded(last);
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            let name = repository(name)?;
            return Ok(if last.is_empty() { Self::Uploads(name) } else { Self::Upload(name, last) });
        }
        if let Some(name) = front.strip_suffix("/manifests") {
            return Ok(Self::Manifest(repository(name)?, Version::parse(&last)?));
        }
        if let Some(name) = front.strip_suffix("/blobs") {
            if last == "uploads" {
                return Ok(Self::Uploads(repository(name)?));
            }
            return Ok(Self::Blob(repository(name)?, digest(&last)?));
        }
        if let Some(name) = front.strip_suffix("/referrers") {
            return Ok(Self::Referrers(repository(name)?, digest(&last)?));
        }
        Err(Refusal::nowhere())
    }
}

impl Version {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') {
            return digest(text).map(Self::Digest);
        }
        if reference::is_tag(text) { Ok(Self::Tag(text.to_owned())) } else { Err(Refusal::tag(text)) }
    }
}

/// A repository's name; nothing else ever becomes a part of a path on the disk.
pub(super) fn repository(name: &str) -> Result<String, Refusal> {
    let name = decoded(name);
    if reference::is_repository(&name) { Ok(name) } else { Err(Refusal::name(&name)) }
}

pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| Refusal::digest(format!("{text} is no digest that is known here (sha256)")))
}

/// The parameters of a request.
pub(super) fn query(text: Option<&str>) -> HashMap<String, String> {
    let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
        })
        .collect()
}

/// `%3A` is a colon; what is no UTF-8 then is no name either.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let rest = bytes.as_slice();
        let coded = (byte == b'%').then(|| rest.get(..2)).flatten();
        let value = coded
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                bytes.nth(1);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let hex = "a".repeat(64);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let tag = |tag: &str| Version::Tag(tag.into());
        for (path, expected) in [
            ("/v2/".to_owned(), Target::Base),
            ("/v2".to_owned(), Target::Base),
            ("/v2/_catalog".to_owned(), Target::Catalog),
            ("/v2/a/tags/list".to_owned(), Target::Tags("a".into())),
            ("/v2/a/b/manifests/1.0".to_owned(), Target::Manifest("a/b".into(), tag("1.0"))),
            (
                format!("/v2/a/manifests/sha256:{hex}"),
                Target::Manifest("a".into(), Version::Digest(digest.clone())),
            ),
            (format!("/v2/a/blobs/sha256%3A{hex}"), Target::Blob("a".into(), digest.clone())),
            ("/v2/a/blobs/uploads/".to_owned(), Target::Uploads("a".into())),
            ("/v2/a/blobs/uploads".to_owned(), Target::Uploads("a".into())),
            (
                "/v2/blobs/manifests/blobs/uploads/x".to_owned(),
                Target::Upload("blobs/manifests".into(), "x".into()),
            ),
            (format!("/v2/a/referrers/sha256:{hex}"), Target::Referrers("a".into(), digest)),
        ] {
            assert_eq!(Target::parse(&path).unwrap(), expected, "{path}");
        }
        for (path, status) in [
            ("/", 404),
            ("/v2/a", 404),
            ("/v2/A/tags/list", 400),
            ("/v2/../../etc/manifests/x", 400),
            ("/v2/a/%2e%2e/b/manifests/x", 400),
            ("/v2/_blobs/manifests/x", 400),
            ("/v2/a/manifests/.x", 400),
            ("/v2/a/manifests/sha256:12", 400),
            ("/v2/a/blobs/md5:12", 400),
        ] {
            assert_eq!(Target::parse(path).unwrap_err().status.as_u16(), status, "{path}");
        }
    }

    #[test]
    fn queries() {
        let found = query(Some("digest=sha256%3Aab&n=2&last=a+b&x"));
        assert_eq!((found["digest"].as_str(), found["last"].as_str()), ("sha256:ab", "a b"));
        assert_eq!((found["n"].as_str(), found["x"].as_str()), ("2", ""));
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
