//! A blocking HTTP/1.1 client, as much of it as a container engine's API needs.
//!
//! Keep-alive connections over Unix sockets or TCP, bodies by length, in chunks or until EOF,
//! streamed uploads, and hijacking (`101 UPGRADED`) with half-close. What it does not do:
//! redirects, compression, proxies, TLS, pipelining.
//!
//! A connection is a value: a request takes it, the response's body owns it and gives it back
//! when it was read to the end. Everything read from the peer is bounded ([`MAX_HEAD`]).

mod body;
mod conn;
mod head;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use body::Body;
pub(crate) use conn::{Conn, Dial, Socket};
pub(crate) use head::Head;
pub(crate) use request::{Payload, Request};

use std::io;

/// Largest response head accepted. Docker's largest regular head (the archive stat header) stays
/// below 8 KiB; the rest is room for proxies in between.
pub(crate) const MAX_HEAD: usize = 64 << 10;

/// Largest response body that is collected into memory (an inspect, a list, an error).
pub(crate) const MAX_COLLECTED: usize = 256 << 20;

/// A conversation that could not be carried on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("sending the request: {0}")]
    Send(#[source] io::Error),
    #[error("reading the response: {0}")]
    Receive(#[source] io::Error),
    /// The peer closed the connection without a word: a kept-alive connection that timed out, or
    /// a server that died.
    #[error("EOF")]
    Closed,
    #[error("the response's head is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    #[error("the response's body is longer than {MAX_COLLECTED} bytes")]
    BodyTooLong,
    #[error("malformed HTTP response: {0}")]
    Malformed(&'static str),
    #[error("reading the request's body: {0}")]
    Upload(#[source] io::Error),
}

/// A response whose head has been read; the body is still in the connection.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Body,
}
