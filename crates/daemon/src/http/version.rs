//! API versions: `/v1.45/…` asks for a shape of the answers that clients of that age know.

use std::fmt;

use seacow_spec::docker::{API_VERSION, MIN_API_VERSION};

use super::error::ApiError;

/// A version that this daemon speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// What a path without version means.
    pub(crate) const NEWEST: Self = Self::new(1, 51);
    /// The oldest that is answered.
    pub(crate) const OLDEST: Self = Self::new(1, 24);

    /// A version, for comparisons.
    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Whether this is 1.`minor` or newer.
    pub(crate) fn since(self, minor: u32) -> bool {
        self >= Self::new(1, minor)
    }

    /// Reads what stands between `/v` and the next slash: digits and dots.
    ///
    /// # Errors
    /// Too old or too new for this daemon, in Docker's words.
    pub(crate) fn gate(text: &str) -> Result<Self, ApiError> {
        let mut numbers = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = Self { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) };
        if version < Self::OLDEST {
            return Err(ApiError::invalid(format!(
                "client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, \
                 please upgrade your client to a newer version"
            )));
        }
        if version > Self::NEWEST {
            return Err(ApiError::invalid(format!(
                "client version {text} is too new. Maximum supported API version is {API_VERSION}"
            )));
        }
        Ok(version)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Takes `/v1.45` off a path; `None` for the version when there is none.
pub(crate) fn split(path: &str) -> (Option<&str>, &str) {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let (version, tail) = rest.split_at(end);
        let digits = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        digits.then_some((version, tail))
    });
    match versioned {
        Some((version, tail)) => (Some(version), tail),
        None => (None, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_agree_with_the_spec_crate() {
        assert_eq!(ApiVersion::NEWEST.to_string(), API_VERSION);
        assert_eq!(ApiVersion::OLDEST.to_string(), MIN_API_VERSION);
    }

    #[test]
    fn docker_s_texts() {
        assert_eq!(
            ApiVersion::gate("1.99").unwrap_err().message(),
            "client version 1.99 is too new. Maximum supported API version is 1.51"
        );
        for old in ["1.12", "1.23"] {
            assert_eq!(
                ApiVersion::gate(old).unwrap_err().message(),
                format!(
                    "client version {old} is too old. Minimum supported API version is 1.24, please upgrade \
                     your client to a newer version"
                )
            );
        }
        assert!(ApiVersion::gate("1.45").unwrap().since(42));
        assert!(!ApiVersion::gate("1.41").unwrap().since(42));
        assert!(ApiVersion::gate("1.9").is_err());
    }

    #[test]
    fn only_digits_and_dots_are_a_version() {
        assert_eq!(split("/v1.45/info"), (Some("1.45"), "/info"));
        assert_eq!(split("/volumes/x"), (None, "/volumes/x"));
        assert_eq!(split("/info"), (None, "/info"));
        assert_eq!(split("/v1.45"), (None, "/v1.45"));
    }
}
