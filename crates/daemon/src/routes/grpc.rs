//! A gRPC server that refuses every call with a reason, and a client of one that asks for nothing.

use std::convert::Infallible;
use std::io::Cursor;
use std::os::fd::OwnedFd;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::http::Body;
use crate::http::reply::Client;

/// gRPC's `UNIMPLEMENTED`.
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");

fn socket(fd: OwnedFd) -> Option<UnixStream> {
    let socket = UnixStream::from_std(fd.into());
    socket.inspect_err(|error| tracing::warn!("grpc: {error}")).ok()
}

/// Keeps the connection until the client gives it up.
pub(crate) async fn ignore(client: Client) {
    if let Some(mut socket) = socket(client.fd) {
        // Whatever ends it is its end.
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    }
}

/// Speaks HTTP/2 with the client until it goes away.
pub(crate) async fn refuse_every_call(client: Client, reason: &'static str) {
    let Some(socket) = socket(client.fd) else { return };
    let (read, write) = socket.into_split();
    let io = tokio::io::join(Cursor::new(client.initial).chain(read), write);
    let service = service_fn(move |_: Request<hyper::body::Incoming>| async move {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", UNIMPLEMENTED);
        headers.insert("grpc-message", HeaderValue::from_static(reason));
        Ok::<_, Infallible>(response)
    });
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service);
    if let Err(error) = connection.await {
        tracing::debug!("grpc: {error}");
    }
}
