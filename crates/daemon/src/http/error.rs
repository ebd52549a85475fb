//! Refusals: `{"message":…}` with a status that follows from the error's class.

use hyper::StatusCode;
use seacow_spec::docker::ErrorBody;
use seacow_spec::{Classified, ErrorClass, ErrorReport};

use super::reply::Reply;

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    class: ErrorClass,
    message: String,
}

impl ApiError {
    /// A refusal of this class.
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::InvalidArgument, message)
    }

    /// Not built yet; the message says what.
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::NotImplemented, message)
    }

    /// What the client reads.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The status that goes with it.
    pub(crate) fn status(&self) -> StatusCode {
        status(self.class)
    }

    /// As an answer. `304` has no body.
    pub(crate) fn into_reply(self) -> Reply {
        if self.class == ErrorClass::NotModified {
            return Reply::status(self.status());
        }
        Reply::json(self.status(), &ErrorBody { message: self.message })
    }
}

impl<E: Classified> From<E> for ApiError {
    fn from(error: E) -> Self {
        // With its causes: where Docker has a text, the error already ends with its cause.
        Self { class: error.class(), message: ErrorReport::of(&error).to_string() }
    }
}

/// The only place where an error class becomes an HTTP status.
fn status(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Conflict => StatusCode::CONFLICT,
        ErrorClass::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorClass::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorClass::Forbidden => StatusCode::FORBIDDEN,
        ErrorClass::NotModified => StatusCode::NOT_MODIFIED,
        ErrorClass::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
