//! One request as a route sees it.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, BodyStream, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::body::Body as _;
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use seacow_engine::Engine;
use serde::de::DeserializeOwned;

use super::body::Broken;
use super::error::ApiError;
use super::go_json;
use super::query::Query;
use super::request_body::RequestBody;
use super::version::ApiVersion;

/// Largest JSON body. A create request with a seccomp profile and two megabytes of environment is
/// the largest that a client has reason to send.
const MAX_JSON: usize = 16 << 20;

/// Who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this machine, as the kernel names it (`SO_PEERCRED`).
    Local {
        /// Effective user when it connected.
        uid: u32,
    },
    /// Somebody over TCP, unknown.
    Remote(SocketAddr),
}

impl Peer {
    /// The user, when the kernel vouches for it.
    pub(crate) fn uid(self) -> Option<u32> {
        match self {
            Self::Local { uid } => Some(uid),
            Self::Remote(_) => None,
        }
    }
}

/// A request with everything a route needs.
pub(crate) struct Call {
    /// The engine.
    pub(crate) engine: Engine,
    /// Which shape the client wants its answers in.
    pub(crate) version: ApiVersion,
    /// What `{name}` of the route's pattern stood for.
    pub(crate) name: String,
    /// Parameters.
    pub(crate) query: Query,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Who asks.
    pub(crate) peer: Peer,
    /// The body, not read yet.
    pub(crate) body: RequestBody,
}

impl Call {
    /// Reads a JSON body that must be there. `null` leaves everything unsaid, as in Go.
    ///
    /// # Errors
    /// Wrong content type, no body, too long, or not the JSON that was expected; Docker's texts.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        self.json_or_null().await.map(Option::unwrap_or_default)
    }

    async fn json_or_null<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        let text = self.json_text().await?;
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
        }
        decode(&text)
    }

    /// Reads a JSON body, which may be absent, or `null`: docker's client before 23 sends that with
    /// `commit`.
    ///
    /// # Errors
    /// Wrong content type, too long, or not the JSON that was expected.
    pub(crate) async fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        if self.body.is_end_stream() {
            return Ok(None);
        }
        self.json_or_null().await
    }

    /// The bytes of a JSON body, after a check of its content type.
    ///
    /// # Errors
    /// Wrong content type, too long, or the client went away.
    pub(crate) async fn json_text(&mut self) -> Result<Bytes, ApiError> {
        self.check_json_type()?;
        match Limited::new(&mut self.body, MAX_JSON).collect().await {
            Ok(text) => Ok(text.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(ApiError::invalid(format!("the request's body is longer than {MAX_JSON} bytes")))
            }
            Err(error) => Err(ApiError::invalid(format!("cannot read the request's body: {error}"))),
        }
    }

    fn check_json_type(&self) -> Result<(), ApiError> {
        let given = self.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or(""));
        let given = match given {
            None if self.body.is_end_stream() => return Ok(()),
            None | Some("") => {
                return Err(ApiError::invalid("malformed Content-Type header (): mime: no media type"));
            }
            Some(given) => given,
        };
        let media_type = given.split(';').next().unwrap_or("").trim();
        if media_type.eq_ignore_ascii_case("application/json") {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "unsupported Content-Type header ({given}): must be 'application/json'"
        )))
    }

    /// The body as a stream of pieces, unbounded: whoever reads it bounds what he does with it, and
    /// the client waits while nobody reads.
    pub(crate) fn into_pieces(self) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
        BodyStream::new(self.body).filter_map(|frame| {
            let piece = match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(Broken(error.to_string()))),
            };
            std::future::ready(piece)
        })
    }

    /// Whether the client asked to leave HTTP (`Connection: Upgrade`, `Upgrade: tcp`).
    pub(crate) fn wants_upgrade(&self) -> bool {
        let asked = |value: &str| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
        self.headers.contains_key(UPGRADE)
            && self.headers.get_all(CONNECTION).iter().any(|value| value.to_str().is_ok_and(asked))
    }
}

/// Decodes JSON; refusals in Go's words.
///
/// # Errors
/// It is not what was expected.
pub(crate) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<T>();
    match stream.next() {
        Some(Ok(value)) if !go_json::has_more(text) => Ok(value),
        Some(Ok(_)) => Err(ApiError::invalid("unexpected content after JSON")),
        Some(Err(error)) => {
            let says = go_json::syntax_error(text).unwrap_or_else(|| error.to_string());
            Err(ApiError::invalid(format!("invalid JSON: {says}")))
        }
        None => Err(ApiError::invalid("invalid JSON: got EOF while reading request body")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_refuses_in_docker_s_words() {
        let says =
            |text: &str| decode::<serde_json::Value>(text.as_bytes()).unwrap_err().message().to_owned();
        assert_eq!(
            says("{bad"),
            "invalid JSON: invalid character 'b' looking for beginning of object key string"
        );
        assert_eq!(says(""), "invalid JSON: got EOF while reading request body");
        assert_eq!(says("{} {}"), "unexpected content after JSON");
        assert_eq!(says("{"), "invalid JSON: unexpected EOF");
        assert!(decode::<serde_json::Value>(b"{}\n").is_ok());
    }
}
