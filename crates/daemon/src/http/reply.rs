//! Building answers.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::{Body, Broken};
use super::go_json;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What a route answers.
pub(crate) enum Reply {
    /// An ordinary answer, which hyper sends.
    Http(Response<Body>),
    /// The end of HTTP on this connection: the socket itself is handed on.
    Hijack(Hijack),
}

/// Takes the connection over.
pub(crate) struct Hijack {
    /// Status line and headers, as they are.
    pub(crate) head: Vec<u8>,
    /// Gets the socket after the head was written.
    pub(crate) finish: Finish,
}

/// What happens with a hijacked socket.
pub(crate) type Finish = Box<dyn FnOnce(Client) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A client's connection, no longer HTTP.
pub(crate) struct Client {
    /// The client's own Unix socket, or one end of a socketpair that is pumped to it.
    pub(crate) fd: OwnedFd,
    /// What it sent after the request, before the answer.
    pub(crate) initial: Vec<u8>,
}

impl Reply {
    /// A status without a body.
    pub(crate) fn status(status: StatusCode) -> Self {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        Self::Http(response)
    }

    /// `200` without a body.
    pub(crate) fn ok() -> Self {
        Self::status(StatusCode::OK)
    }

    /// `204`.
    pub(crate) fn no_content() -> Self {
        Self::status(StatusCode::NO_CONTENT)
    }

    /// One JSON value.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match go_json::line(value) {
            Ok(text) => Self::typed(status, JSON, Body::full(text)),
            Err(error) => Self::typed(
                StatusCode::INTERNAL_SERVER_ERROR,
                JSON,
                Body::full(format!("{{\"message\":\"cannot encode the answer: {error}\"}}\n")),
            ),
        }
    }

    /// `200` with one JSON value.
    pub(crate) fn ok_json(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// `200` with a plain text.
    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        Self::typed(status, TEXT, Body::full(Bytes::from_static(text.as_bytes())))
    }

    /// Bytes of this type.
    pub(crate) fn raw(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Self {
        Self::typed(status, HeaderValue::from_static(content_type), Body::full(bytes))
    }

    /// `200` with pieces of bytes.
    pub(crate) fn stream<S, E>(content_type: &'static str, pieces: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Broken> + 'static,
    {
        Self::typed(StatusCode::OK, HeaderValue::from_static(content_type), Body::stream(pieces))
    }

    /// `200` with JSON values, each followed by `separator` and flushed when it comes.
    pub(crate) fn json_stream<S, T>(values: S, separator: &'static str) -> Self
    where
        S: Stream<Item = T> + Send + 'static,
        T: Serialize,
    {
        use futures_util::StreamExt as _;
        let pieces = values.map(move |value| {
            let mut text = go_json::encode(&value).map_err(|error| Broken(error.to_string()))?;
            text.extend_from_slice(separator.as_bytes());
            Ok::<_, Broken>(Bytes::from(text))
        });
        Self::typed(StatusCode::OK, JSON, Body::stream(pieces))
    }

    /// `301` to a cleaned path.
    pub(crate) fn redirect(location: &str) -> Self {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        if let Ok(value) = HeaderValue::from_str(location) {
            response.headers_mut().insert(LOCATION, value);
        }
        Self::Http(response)
    }

    /// The same answer with one more header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let (Self::Http(response), Ok(value)) = (&mut self, HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
        self
    }

    fn typed(status: StatusCode, content_type: HeaderValue, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        Self::Http(response)
    }
}
