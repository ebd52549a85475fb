//! Who we are, and what a registry gives us for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;

/// Tokens are taken for expired a little before they are.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a token is good that does not say, by the specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// Name and password of a registry, or a token in their place: the object in `X-Registry-Auth`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Name and password, joined by a colon, in base64.
    pub auth: String,
    /// What `docker login` got in place of a password.
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    /// A token for the registry itself.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
}

/// Secrets are not printed.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A header that is no credentials.
#[derive(Debug, thiserror::Error)]
#[error("invalid X-Registry-Auth header: {0}")]
pub struct InvalidCredentials(String);

impl Credentials {
    /// From a header: base64 of a JSON object, in either alphabet. Empty: none.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_header(header: &str) -> Result<Self, InvalidCredentials> {
        let header = header.trim();
        if header.is_empty() {
            return Ok(Self::default());
        }
        let bytes = URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header));
        let bytes = bytes.map_err(|error| InvalidCredentials(error.to_string()))?;
        // serde_json's message could quote the secret: where it stopped is enough.
        let mut this: Self = serde_json::from_slice(&bytes).map_err(|error| {
            InvalidCredentials(format!("not the JSON it should be, at column {}", error.column()))
        })?;
        if this.username.is_empty()
            && let Ok(pair) = STANDARD.decode(&this.auth)
            && let Some((name, password)) = String::from_utf8_lossy(&pair).split_once(':')
        {
            (this.username, this.password) = (name.to_owned(), password.to_owned());
        }
        Ok(this)
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// The header of basic authentication.
    pub(crate) fn basic(&self) -> Option<String> {
        let pair = format!("{}:{}", self.username, self.password);
        (!self.username.is_empty()).then(|| format!("Basic {}", STANDARD.encode(pair)))
    }
}

/// What a registry wants, from `WWW-Authenticate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// Where.
        realm: String,
        /// For whom.
        service: String,
    },
}

impl Challenge {
    /// The first that is understood.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let fields = parameters(rest);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let realm = field("realm");
        let usable = realm.starts_with("https://") || realm.starts_with("http://");
        usable.then(|| Self::Bearer { realm, service: field("service") })
    }
}

/// `a="b,c",d=e`.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut out = HashMap::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        out.insert(name.trim().trim_start_matches(',').trim().to_ascii_lowercase(), value);
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    out
}

/// Up to the closing quote; a backslash quotes the next character.
fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// What a token server answers.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: u64,
    #[serde(default)]
    refresh_token: String,
}

/// A token and until when it is good.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: String,
    until: Instant,
}

impl Token {
    pub(crate) fn is_good(&self) -> bool {
        Instant::now() < self.until
    }
}

impl TokenAnswer {
    /// What stands for the password, if it was asked for and granted.
    pub(crate) fn identity(&self) -> Option<&str> {
        Some(self.refresh_token.as_str()).filter(|token| !token.is_empty())
    }

    /// `None` when there is none in it.
    pub(crate) fn into_token(self, asked: Instant) -> Option<Token> {
        let token = if self.token.is_empty() { self.access_token } else { self.token };
        let life = if self.expires_in == 0 { DEFAULT_LIFE } else { Duration::from_secs(self.expires_in) };
        let until = asked.checked_add(life.saturating_sub(MARGIN)).unwrap_or(asked);
        (!token.is_empty()).then(|| Token { header: format!("Bearer {token}"), until })
    }
}

/// A value in a query or a form.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: &str| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.into() })
        };
        for (header, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"",
                bearer("https://auth.docker.io/token", "registry.docker.io"),
            ),
            ("Bearer scope=\"a,b\", realm=\"http://x/t\" , service=y", bearer("http://x/t", "y")),
            ("Bearer realm=\"http://x/\\\"t\"", bearer("http://x/\"t", "")),
            ("Bearer realm=\"file:///etc/passwd\"", None),
            ("Bearer", None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn credentials_come_in_both_alphabets_and_forms() {
        let json = r#"{"username":"ü>?","password":"p:w"}"#;
        for header in [URL_SAFE.encode(json), STANDARD.encode(json)] {
            let found = Credentials::from_header(&header).unwrap();
            assert_eq!((found.username.as_str(), found.password.as_str()), ("ü>?", "p:w"));
            assert!(!format!("{found:?}").contains("p:w"));
        }
        let joined = STANDARD.encode(format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("n:p:q")));
        assert_eq!(
            Credentials::from_header(&joined).unwrap().basic().unwrap(),
            format!("Basic {}", STANDARD.encode("n:p:q"))
        );
        assert!(Credentials::from_header("e30=").unwrap().is_empty());
        assert!(Credentials::from_header("").unwrap().is_empty());
        assert!(Credentials::from_header("!").is_err());
        assert!(Credentials::from_header(&STANDARD.encode("[1]")).is_err());
    }

    #[test]
    fn tokens_expire() {
        let answer = |text: &str| serde_json::from_str::<TokenAnswer>(text).unwrap();
        let now = Instant::now();
        assert!(answer(r#"{"token":"t"}"#).into_token(now).unwrap().is_good());
        assert!(!answer(r#"{"access_token":"t","expires_in":5}"#).into_token(now).unwrap().is_good());
        assert!(answer("{}").into_token(now).is_none());
    }
}
