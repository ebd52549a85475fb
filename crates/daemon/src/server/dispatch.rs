//! One request: route, version, headers, errors.

use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, PRAGMA, SERVER,
};
use hyper::{HeaderMap, Request, StatusCode, Version};
use seacow_engine::Engine;
use seacow_spec::ErrorClass;
use seacow_spec::docker::API_VERSION;

use crate::http::body::Body;
use crate::http::call::Peer;
use crate::http::query::Query;
use crate::http::request_body::RequestBody;
use crate::http::router::{Resolution, resolve};
use crate::http::{ApiError, Call, Reply};
use crate::routes;

/// `Server:` of every answer.
const PRODUCT: &str = concat!("Seacow/", env!("CARGO_PKG_VERSION"), " (linux)");

const NO_HOST: &str = "400 Bad Request: missing required Host header";

/// Answers requests of one connection.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    engine: Engine,
    peer: Peer,
}

impl Dispatcher {
    /// For a connection of `peer`.
    pub(crate) fn new(engine: Engine, peer: Peer) -> Self {
        Self { engine, peer }
    }

    /// Answers one request; failures are answers too.
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Reply {
        let start = Instant::now();
        let (parts, body) = request.into_parts();
        let body = RequestBody::new(body, &parts.headers);
        if parts.version == Version::HTTP_11 && !parts.headers.contains_key(HOST) {
            return Reply::text(StatusCode::BAD_REQUEST, NO_HOST).with_header("connection", "close");
        }
        let path = parts.uri.path();
        let resolution = resolve(&routes::TABLES, &parts.method, path, parts.uri.query());
        let (route, version, name) = match resolution {
            Resolution::Redirect(location) => return Reply::redirect(&location),
            Resolution::NotFound => {
                return ApiError::new(ErrorClass::NotFound, "page not found").into_reply();
            }
            Resolution::Options => return with_product_headers(Reply::ok()),
            Resolution::Route { route, version, name } => (route, version, name),
        };
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let reply = match (version, query) {
            (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
            (Ok(version), Ok(query)) => {
                let call = Call {
                    engine: self.engine,
                    version,
                    name,
                    query,
                    headers: parts.headers,
                    peer: self.peer,
                    body,
                };
                (route.handler)(call).await
            }
        };
        let reply = reply.unwrap_or_else(|refusal| {
            report(&refusal, &parts.method, path);
            refusal.into_reply()
        });
        tracing::debug!(method = %parts.method, path, status = %status(&reply), took = ?start.elapsed(), "answered");
        with_product_headers(reply)
    }
}

/// A fault of ours is the operator's business; a refusal is only the client's.
fn report(refusal: &ApiError, method: &hyper::Method, path: &str) {
    if refusal.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%method, path, "{}", refusal.message());
    } else {
        tracing::debug!(%method, path, "{}", refusal.message());
    }
}

fn status(reply: &Reply) -> StatusCode {
    match reply {
        Reply::Http(response) => response.status(),
        Reply::Hijack(_) => StatusCode::SWITCHING_PROTOCOLS,
    }
}

fn with_product_headers(mut reply: Reply) -> Reply {
    if let Reply::Http(response) = &mut reply {
        product_headers(response.headers_mut());
    }
    reply
}

/// The headers that every versioned answer has.
fn product_headers(headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("api-version"), HeaderValue::from_static(API_VERSION));
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(PRODUCT));
}

/// The same as text, for answers that are written by hand.
pub(crate) fn product_header_lines() -> String {
    format!(
        "Api-Version: {API_VERSION}\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: {PRODUCT}\r\n"
    )
}

/// `GET` and `HEAD /_ping`: how clients learn whom they talk to.
pub(crate) fn ping(with_body: bool) -> Reply {
    let mut response = hyper::Response::new(if with_body { Body::full("OK") } else { Body::Empty });
    let headers = response.headers_mut();
    if !with_body {
        // hyper leaves the length of an answer to HEAD to us.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    // 2 would send stock clients to BuildKit's gRPC, which is not here yet.
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(HeaderName::from_static("seacow-api"), HeaderValue::from_static("1"));
    Reply::Http(response)
}

/// The answer when a handler broke down; the connection is closed with it.
pub(crate) fn broke_down() -> hyper::Response<Body> {
    let refusal = ApiError::new(ErrorClass::Internal, "the daemon failed to answer; its log says why");
    match with_product_headers(refusal.into_reply()) {
        Reply::Http(mut response) => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        Reply::Hijack(_) => hyper::Response::new(Body::Empty),
    }
}
