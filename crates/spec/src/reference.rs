//! Image names as Docker reads and prints them.
//!
//! ```text
//! [domain/]path[:tag][@digest]
//! ```
//! The *familiar* form is what people type (`bb`), the *full* form what is stored and sent
//! (`docker.io/library/bb:latest`). A first component is a domain when it contains `.` or `:`, is
//! `localhost`, or has upper-case letters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Where names without a domain live.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Where names without a path component live on the default domain.
pub const OFFICIAL_PREFIX: &str = "library/";
/// What a name without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";
/// The image name that stands for the root file system of this machine.
pub const HOST_IMAGE: &str = "host";

const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A text that is not an image name; the message is Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidReference {
    /// Malformed.
    #[error("invalid reference format")]
    Format,
    /// Upper-case letters in the path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// More than 255 characters.
    #[error("repository name must not be more than {MAX_NAME} characters")]
    NameTooLong,
    /// 64 hex digits would be taken for an id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
}

/// A parsed image name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Registry host, such as `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository below the domain, such as `library/bb`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Domain and path as people type them.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        // `library/a/b` must keep its prefix, or it would be read as user `a`.
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole name as people type it.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// The same name with the default tag, if it had neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// The tag is malformed.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Self {
            domain: self.domain.clone(),
            path: self.path.clone(),
            tag: Some(tag.to_owned()),
            digest: None,
        })
    }

    /// Whether this is the reserved name of the host image.
    pub fn is_host(&self) -> bool {
        self.domain == DEFAULT_DOMAIN
            && self.path == "library/host"
            && self.digest.is_none()
            && self.tag.as_deref().is_none_or(|tag| tag == DEFAULT_TAG)
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.repository();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;
    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.len() == crate::id::ID_LEN
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest.parse().map_err(|_| InvalidReference::Format)?)),
            None => (text, None),
        };
        let (domain, rest) = split_domain(named);
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path.to_owned()
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidReference::UpperCase(path));
        }
        if !is_domain(domain)
            || !path.split('/').all(is_path_component)
            || tag.is_some_and(|tag| !is_tag(tag))
        {
            return Err(InvalidReference::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(InvalidReference::NameTooLong);
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_upper(first) => {
            // Docker's old name of the default domain.
            (if first == "index.docker.io" { DEFAULT_DOMAIN } else { first }, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !domain.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let alnum_edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
            alnum_edge(label.bytes().next())
                && alnum_edge(label.bytes().last())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    host_ok && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether this may be the name of a repository in a registry.
pub fn is_repository(path: &str) -> bool {
    path.len() <= MAX_NAME && path.split('/').all(is_path_component)
}

/// Lower-case words joined by one of `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut seen_word = false;
    for byte in component.bytes() {
        if word(byte) {
            let joined = separator.is_empty()
                || (seen_word
                    && (matches!(separator.as_str(), "." | "_" | "__")
                        || separator.bytes().all(|b| b == b'-')));
            if !joined {
                return false;
            }
            separator.clear();
            seen_word = true;
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    seen_word && separator.is_empty()
}

/// Whether this may be a tag.
pub fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_and_full_forms() {
        for (text, full, familiar) in [
            ("bb", "docker.io/library/bb", "bb"),
            ("bb:v2", "docker.io/library/bb:v2", "bb:v2"),
            ("user/bb", "docker.io/user/bb", "user/bb"),
            ("docker.io/library/bb:1", "docker.io/library/bb:1", "bb:1"),
            ("index.docker.io/bb", "docker.io/library/bb", "bb"),
            ("localhost:5000/big:1", "localhost:5000/big:1", "localhost:5000/big:1"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("example.com/a/b__c.d-e", "example.com/a/b__c.d-e", "example.com/a/b__c.d-e"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn docker_s_refusals() {
        assert_eq!(
            "BAD".parse::<Reference>().unwrap_err().to_string(),
            "invalid reference format: repository name (library/BAD) must be lowercase"
        );
        for bad in [
            "",
            ":",
            "a:",
            "a::b",
            "/a",
            "a//b",
            "a b",
            "a@sha256:1",
            "-a",
            "a_.b",
            "a___b",
            "a.",
            "../x",
            "a:-t",
        ] {
            assert_eq!(bad.parse::<Reference>(), Err(InvalidReference::Format), "{bad:?}");
        }
        assert!(matches!("a".repeat(64).parse::<Reference>(), Err(InvalidReference::LooksLikeId(_))));
        assert_eq!("x".repeat(300).parse::<Reference>(), Err(InvalidReference::NameTooLong));
    }

    #[test]
    fn tags_and_digests() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let reference: Reference = format!("bb:1@{digest}").parse().unwrap();
        assert_eq!((reference.tag(), reference.digest().unwrap().as_str()), (Some("1"), digest.as_str()));
        assert_eq!("bb".parse::<Reference>().unwrap().or_latest().tag(), Some("latest"));
        assert!("host".parse::<Reference>().unwrap().is_host());
        assert!(!"user/host".parse::<Reference>().unwrap().is_host());
    }
}
