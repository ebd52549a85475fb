//! Refusals, with the codes of the specification.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::transport::{Body, body};

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn blob_unknown(digest: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("blob unknown to registry: {digest}"))
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
    }

    pub(super) fn upload_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    /// Somebody writes to that upload at this moment.
    pub(super) fn upload_busy() -> Self {
        Self::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", "the upload is being written to")
    }

    /// A piece does not begin where the last one ended.
    pub(super) fn out_of_order(have: u64) -> Self {
        let message = format!("the upload has {have} bytes, and the piece does not go on from there");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn range(size: u64) -> Self {
        let refusal = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "UNSUPPORTED",
            format!("the range is not within the {size} bytes"),
        );
        refusal.with(hyper::header::CONTENT_RANGE, format!("bytes */{size}"))
    }

    pub(super) fn digest(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn name(name: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", format!("invalid repository name: {name}"))
    }

    pub(super) fn name_unknown(name: &str) -> Self {
        let message = format!("repository name not known to registry: {name}");
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    pub(super) fn tag(tag: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", format!("invalid tag: {tag}"))
    }

    pub(super) fn manifest_unknown(target: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", format!("manifest unknown: {target}"))
    }

    pub(super) fn manifest(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    /// A manifest lists what is not in its repository.
    pub(super) fn manifest_blob_unknown(digest: impl std::fmt::Display) -> Self {
        let message = format!("blob unknown to registry: {digest}");
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message)
    }

    pub(super) fn too_large(limit: u64) -> Self {
        let message = format!("the content is larger than the {limit} bytes that are taken");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    pub(super) fn unauthorized(realm: &str) -> Self {
        let refusal = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        refusal.with(hyper::header::WWW_AUTHENTICATE, format!("Basic realm=\"{realm}\""))
    }

    pub(super) fn read_only() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the registry is read-only")
    }

    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported")
    }

    pub(super) fn nowhere() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing of that path")
    }

    pub(super) fn busy() -> Self {
        let refusal = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TOOMANYREQUESTS",
            "too many uploads at a time; try again",
        );
        refusal.with(hyper::header::RETRY_AFTER, "1")
    }

    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// What is sent.
    pub(super) fn into_response(self) -> Response<Body> {
        let errors =
            serde_json::json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        let mut response = Response::new(body(format!("{errors}\n")));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The disk failed. What it said is for the log: paths are nobody's business.
impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            let message = "no space is left in the registry";
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", message);
        }
        tracing::error!(%error, "the registry's storage");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry's storage failed")
    }
}
