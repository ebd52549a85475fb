//! What can go wrong between us and a registry, in the words that Docker's clients know.

use seacow_spec::digest::InvalidDigest;
use seacow_spec::{Classified, Digest, ErrorClass};
use serde::Deserialize;

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers there, or not in this protocol.
    #[error("{method} \"{url}\": {reason}")]
    Exchange {
        /// As Go's client writes it: `Get`, `Head`.
        method: String,
        /// Without credentials and without a query, which may hold a signature.
        url: String,
        /// What happened.
        reason: String,
    },
    /// There is no such manifest.
    #[error("manifest for {name} not found: {reason}")]
    ManifestUnknown {
        /// As people type it.
        name: String,
        /// The registry's words.
        reason: String,
    },
    /// The repository is not there for whoever asks.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login'{reason}")]
    PullDenied {
        /// As people type it, without a tag.
        name: String,
        /// The registry's words after a colon, or nothing.
        reason: String,
    },
    /// Too many requests.
    #[error("toomanyrequests: {0}")]
    TooMany(String),
    /// The registry refused, in its own words.
    #[error("{0}")]
    Refused(String),
    /// What is to be sent cannot be had.
    #[error("{0}")]
    Source(String),
    /// Whoever asks may not do that here.
    #[error("{0}")]
    Denied(String),
    /// Name and password, or the token, are not what the registry wants.
    #[error("{method} \"{url}\": unauthorized: {reason}")]
    Unauthorized {
        /// As in [`RegistryError::Exchange`].
        method: String,
        /// As in [`RegistryError::Exchange`].
        url: String,
        /// The registry's words.
        reason: String,
    },
    /// A status that means nothing here.
    #[error("{method} \"{url}\": received unexpected HTTP status: {status}")]
    Status {
        /// As in [`RegistryError::Exchange`].
        method: String,
        /// As in [`RegistryError::Exchange`].
        url: String,
        /// `500 Internal Server Error`.
        status: String,
    },
    /// A document that is not what it should be.
    #[error("{what}: {reason}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry announced a digest that is none.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// The content is not what its digest says.
    #[error("{what}: digest does not match: expected {expected}, got {actual}")]
    WrongDigest {
        /// Which content.
        what: String,
        /// As announced.
        expected: Digest,
        /// As it is.
        actual: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("{what}: {got} bytes came, {expected} were announced")]
    WrongSize {
        /// Which content.
        what: String,
        /// As announced.
        expected: u64,
        /// As it is.
        got: u64,
    },
    /// None of the images of an index is for this platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoPlatform {
        /// `linux/amd64`.
        platform: String,
    },
    /// Certificates of a registry that cannot be used.
    #[error("{path}: {reason}")]
    Certificates {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Classified for RegistryError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::ManifestUnknown { .. } | Self::PullDenied { .. } | Self::NoPlatform { .. } => {
                ErrorClass::NotFound
            }
            Self::Unauthorized { .. } => ErrorClass::Unauthorized,
            Self::Denied(_) => ErrorClass::Forbidden,
            Self::TooMany(_) => ErrorClass::Unavailable,
            Self::Exchange { .. }
            | Self::Refused(_)
            | Self::Source(_)
            | Self::Status { .. }
            | Self::Malformed { .. }
            | Self::Digest(_)
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::Certificates { .. } => ErrorClass::Internal,
        }
    }
}

/// The body of a registry's refusal.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<Complaint>,
    /// Of services that are no registries: token servers, proxies.
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Complaint {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry said with a status of failure.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Codes, such as `MANIFEST_UNKNOWN`.
    pub(crate) codes: Vec<String>,
    /// `manifest unknown: manifest unknown`, empty when it said nothing that can be read.
    pub(crate) text: String,
}

impl Said {
    pub(crate) fn read(body: &[u8]) -> Self {
        let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
        let codes: Vec<String> = refusal.errors.iter().map(|error| error.code.clone()).collect();
        let told = |error: &Complaint| {
            // The code in words, as the distribution library prints it.
            let code = error.code.to_lowercase().replace('_', " ");
            if error.code == "TOOMANYREQUESTS" {
                error.message.clone()
            } else {
                format!("{code}: {}", error.message)
            }
        };
        let mut text: Vec<String> = refusal.errors.iter().map(told).collect();
        if text.is_empty() {
            text.extend(refusal.details.or(refusal.message));
        }
        Self { codes, text: text.join("\n") }
    }

    pub(crate) fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|known| known == code)
    }

    /// The words, or what stands for them.
    pub(crate) fn or(&self, otherwise: &str) -> String {
        if self.text.is_empty() { otherwise.to_owned() } else { self.text.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_as_docker_reads_them() {
        let said = Said::read(
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
        );
        assert_eq!(said.text, "manifest unknown: manifest unknown");
        assert!(said.has("MANIFEST_UNKNOWN"));
        let said =
            Said::read(br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit"}]}"#);
        assert_eq!(said.text, "You have reached your limit");
        assert_eq!(
            Said::read(br#"{"details":"incorrect username or password"}"#).text,
            "incorrect username or password"
        );
        assert_eq!(Said::read(b"<html>").or("404 Not Found"), "404 Not Found");
    }
}
