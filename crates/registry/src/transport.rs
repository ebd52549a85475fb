//! HTTP over TCP, with TLS or without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use crate::certificates;
use crate::endpoint::{Endpoint, Settings};
use crate::error::RegistryError;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a registry may think about a request.
const ANSWER: Duration = Duration::from_secs(60);
/// How long it may say nothing in the middle of a body.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// What a request carries.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body of one piece, which may be empty.
pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Connections to one endpoint and wherever it sends us.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Body>,
}

impl Transport {
    pub(crate) fn to(endpoint: &Endpoint, settings: &Settings) -> Result<Self, RegistryError> {
        // Another may be installed for the process already, which then is what is used.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| RegistryError::Certificates {
                path: endpoint.host.clone(),
                reason: error.to_string(),
            })?;
        let dirs = settings.certificate_dirs(&endpoint.host);
        let identity = certificates::identity(&dirs)?;
        let builder = if endpoint.verified {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            for certificate in certificates::trusted(&dirs)? {
                roots.add_parsable_certificates([certificate]);
            }
            builder.with_root_certificates(roots)
        } else {
            let any = certificates::Any::of(&provider);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(any))
        };
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
                RegistryError::Certificates { path: endpoint.host.clone(), reason: error.to_string() }
            })?,
            None => builder.with_no_client_auth(),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Sends a request. Silence ends it; `sent` counts what has left of its body, and is no silence.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
        sent: &AtomicU64,
    ) -> Result<Response<Incoming>, RegistryError> {
        let (method, url) = (go_name(request.method().as_str()), shown(&request.uri().to_string()));
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let failed = |reason: String| RegistryError::Exchange { method, url, reason };
        let mut answer = std::pin::pin!(self.client.request(request));
        let mut before = sent.load(Ordering::Relaxed);
        loop {
            match tokio::time::timeout(ANSWER, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(failed(reason(&error, &host))),
                Err(_) => {}
            }
            let now = sent.load(Ordering::Relaxed);
            if now == before {
                return Err(failed(format!("no answer within {} seconds", ANSWER.as_secs())));
            }
            before = now;
        }
    }
}

/// A whole body that may have `limit` bytes.
pub(crate) async fn whole(
    response: Response<Incoming>,
    what: &str,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let malformed = |reason: String| RegistryError::Malformed { what: what.to_owned(), reason };
    let body = Limited::new(response.into_body(), limit).collect();
    match tokio::time::timeout(ANSWER, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(malformed(format!("it has more than {limit} bytes")))
        }
        Ok(Err(error)) => Err(malformed(error.to_string())),
        Err(_) => Err(malformed(format!("it did not come whole within {} seconds", ANSWER.as_secs()))),
    }
}

/// `Get`, as Go's client names methods.
pub(crate) fn go_name(method: &str) -> String {
    let lower = method.to_lowercase();
    let mut characters = lower.chars();
    characters.next().map(|first| first.to_ascii_uppercase().to_string()).unwrap_or_default()
        + characters.as_str()
}

/// A URL as it may be shown: a query may hold a signature.
pub(crate) fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

fn reason(error: &hyper_util::client::legacy::Error, host: &str) -> String {
    let mut deepest: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    let io = deepest.downcast_ref::<std::io::Error>();
    if let Some(errno) = io.and_then(std::io::Error::raw_os_error) {
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        // Without Rust's " (os error 111)".
        let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        return if error.is_connect() { format!("dial tcp {host}: connect: {text}") } else { text };
    }
    // rustls's errors are inside of I/O errors, as their payload.
    let tls =
        deepest.downcast_ref::<rustls::Error>().or_else(|| io?.get_ref()?.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".into(),
        Some(rustls::Error::InvalidCertificate(why)) => format!("tls: failed to verify certificate: {why}"),
        Some(other) => format!("tls: {other}"),
        None if deepest.to_string().starts_with("failed to lookup address") => {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            format!("dial tcp: lookup {name}: no such host")
        }
        None if error.is_connect() => format!("dial tcp {host}: {deepest}"),
        None => deepest.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown() {
        assert_eq!((go_name("GET"), go_name("HEAD")), ("Get".to_owned(), "Head".to_owned()));
        assert_eq!(shown("https://a/b?signature=x"), "https://a/b");
    }
}
