//! Blobs and manifests to a registry.
//!
//! ```text
//! POST uploads/ ─▶ place ─▶ PATCH … ─▶ PATCH … ─▶ PUT ?digest=
//!                            │ broken
//!                            └─▶ GET place: how much is there? ─▶ PATCH from there
//! ```
//! The digest of a blob need not be known before its end, so it can be packed while it is sent. One PATCH takes
//! all there is; where that is too much for something on the way (413), or something broke, pieces go.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use hyper::{Method, Response, StatusCode};
use seacow_spec::{Digest, Reference};

use crate::auth::Credentials;
use crate::endpoint::{Settings, Tries};
use crate::error::RegistryError;
use crate::server::Server;
use crate::session::{Ask, Failed, Scope, Session};
use crate::transport::{Body, body};

/// How often in a row an upload may break off without a byte in between.
const ATTEMPTS: u32 = 5;
/// The first pause before another attempt; each is twice the last.
const PAUSE: Duration = Duration::from_millis(250);
/// A piece, where the whole is too much: less than what proxies let through.
const PIECE: u64 = 8 << 20;
const BYTES: &str = "application/octet-stream";

/// What a source gives: the next bytes, or none at the end.
pub type NextBytes<'a> = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + 'a>>;

/// A blob to be sent, which may still be in the making.
pub trait Source: Send + Sync {
    /// Bytes from `offset` on, as many as are convenient; waits where they are yet to come. Empty: the end.
    fn read(&self, offset: u64) -> NextBytes<'_>;

    /// Its digest. Asked for when the end was read.
    ///
    /// # Errors
    /// It did not come to its end.
    fn digest(&self) -> io::Result<Digest>;

    /// The file that it is, if it is one that is whole and never changes.
    fn file(&self) -> Option<&Path> {
        None
    }
}

/// A small blob.
struct Whole {
    bytes: Bytes,
    digest: Digest,
}

impl Source for Whole {
    fn read(&self, offset: u64) -> NextBytes<'_> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let rest = self.bytes.slice(offset..);
        Box::pin(std::future::ready(Ok(rest)))
    }

    fn digest(&self) -> io::Result<Digest> {
        Ok(self.digest.clone())
    }
}

/// A repository that is sent to.
#[derive(Clone)]
pub struct Pusher {
    session: Arc<Session>,
    repository: String,
    scope: Scope,
    /// The registry, where it runs in this process.
    beside: Option<Arc<Server>>,
}

/// Where an upload is.
struct Place {
    url: String,
    /// Bytes that are there.
    have: u64,
}

/// Whether another attempt may help.
enum Broken {
    Maybe(RegistryError),
    /// The registry does not know the upload any more.
    Lost(RegistryError),
    TooMuch(RegistryError),
    ForGood(RegistryError),
}

impl Pusher {
    /// Finds the way to the registry of a name.
    ///
    /// # Errors
    /// Nobody answers there, or not to us.
    pub async fn connect(
        name: &Reference,
        settings: &Settings,
        credentials: &Credentials,
    ) -> Result<Self, RegistryError> {
        let mut tries = Tries::default();
        for way in settings.endpoints(name.domain()).into_iter().filter(|way| !way.mirror) {
            let session = Arc::new(Session::new(way.clone(), settings, credentials)?);
            let (repository, scope) = (name.path().to_owned(), Scope::push(name.path()));
            let this = Self { session, repository, scope, beside: None };
            match this.session.ask(&Ask::new(Method::GET, "", &this.scope)).await {
                Ok(_) => return Ok(this),
                Err(Failed::Status { .. }) if this.session.lacks_password() => {
                    return Err(RegistryError::Denied("no basic auth credentials".into()));
                }
                Err(failed) => tries.failed(&way, refused(failed))?,
            }
        }
        Err(tries.all_in_vain(name.domain()))
    }

    /// Where it leads to: `host:port`.
    pub fn host(&self) -> &str {
        &self.session.endpoint.host
    }

    /// The registry runs in this process: files need not be sent to it. Whether they may be is for it to say
    /// all the same.
    pub fn beside(mut self, server: Arc<Server>) -> Self {
        self.beside = Some(server);
        self
    }

    /// Whether files need not be sent.
    pub fn is_beside(&self) -> bool {
        self.beside.is_some()
    }

    /// Whether the repository has a blob already.
    ///
    /// # Errors
    /// The registry refuses to say.
    pub async fn has(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let place = format!("{}/blobs/{digest}", self.repository);
        match self.session.ask(&Ask::new(Method::HEAD, place, &self.scope)).await {
            Ok(_) => Ok(true),
            Err(Failed::Status { status: StatusCode::NOT_FOUND, .. }) => Ok(false),
            Err(failed) => Err(refused(failed)),
        }
    }

    /// Takes a blob over from another repository of the registry, without sending it; tells whether that was done.
    ///
    /// # Errors
    /// The registry refuses pushes.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<bool, RegistryError> {
        let scope = self.scope.and_pull(from);
        let place = format!("{}/blobs/uploads/?mount={digest}&from={from}", self.repository);
        let ask = Ask { body: Some(&|| body("")), ..Ask::new(Method::POST, place, &scope) };
        match self.session.ask(&ask).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(true),
            Ok(response) => {
                // An upload was begun instead, which nobody wants.
                if let Some(url) = self.location(&ask, &response) {
                    drop(self.session.ask(&Ask::new(Method::DELETE, url, &self.scope)).await);
                }
                Ok(false)
            }
            // Who may write here may not read there.
            Err(Failed::Status { .. }) => Ok(false),
            Err(failed) => Err(failed.plain()),
        }
    }

    /// Sends a blob that is here, small and whole.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn small(&self, bytes: impl Into<Bytes>, digest: &Digest) -> Result<(), RegistryError> {
        let source = Whole { bytes: bytes.into(), digest: digest.clone() };
        self.upload(Arc::new(source), &|_| {}).await.map(drop)
    }

    /// Sends a blob, and gives its digest. `told` hears how much of it is there.
    ///
    /// # Errors
    /// The registry does not take it, or the source failed.
    pub async fn upload(
        &self,
        source: Arc<dyn Source>,
        told: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Digest, RegistryError> {
        let mut place = self.begin().await?;
        if let (Some(server), Some(path)) = (&self.beside, source.file()) {
            let (server, url, path) = (Arc::clone(server), place.url.clone(), path.to_owned());
            let filling = tokio::task::spawn_blocking(move || server.fill(&url, &path));
            if matches!(filling.await, Ok(Ok(true)))
                && let Ok(digest) = self.finish(&place, &source).await
            {
                return Ok(digest);
            }
            // It is sent like any other; the registry says what is wrong, if something is.
            place = self.begin().await?;
        }
        let (mut failures, mut piece) = (0, None);
        loop {
            let before = place.have;
            let outcome = match self.send(&mut place, &source, piece, told).await {
                Ok(false) => Ok(None),
                Ok(true) => self.finish(&place, &source).await.map(Some),
                Err(broken) => Err(broken),
            };
            let broken = match outcome {
                Ok(Some(digest)) => return Ok(digest),
                Ok(None) => {
                    failures = 0;
                    continue;
                }
                Err(broken) => broken,
            };
            let lost = matches!(broken, Broken::Lost(_));
            let error = match broken {
                Broken::ForGood(error) => return self.give_up(&place, error).await,
                Broken::TooMuch(error) if piece.is_some() => return self.give_up(&place, error).await,
                Broken::TooMuch(error) | Broken::Maybe(error) | Broken::Lost(error) => error,
            };
            piece = Some(PIECE);
            failures = if place.have > before { 1 } else { failures + 1 };
            if failures >= ATTEMPTS {
                return self.give_up(&place, error).await;
            }
            tracing::debug!(place = place.url, have = place.have, %error, "upload broke off");
            tokio::time::sleep(PAUSE * 2_u32.pow(failures - 1)).await;
            if lost || self.look(&mut place).await.is_err() {
                place = self.begin().await?;
            }
        }
    }

    /// Sends a manifest under a tag, or under its digest.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn manifest(&self, target: &str, kind: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let place = format!("{}/manifests/{target}", self.repository);
        let content = Bytes::copy_from_slice(bytes);
        let make = move || body(content.clone());
        let ask = Ask::new(Method::PUT, place, &self.scope).header(CONTENT_TYPE, kind);
        self.session.ask(&Ask { body: Some(&make), ..ask }).await.map(drop).map_err(refused)
    }

    async fn begin(&self) -> Result<Place, RegistryError> {
        let ask = Ask::new(Method::POST, format!("{}/blobs/uploads/", self.repository), &self.scope);
        let ask = Ask { body: Some(&|| body("")), ..ask.header(CONTENT_LENGTH, "0") };
        let response = self.session.ask(&ask).await.map_err(refused)?;
        let malformed = || RegistryError::Malformed {
            what: format!("the answer to an upload to {}", self.repository),
            reason: "it does not say where to".into(),
        };
        let url = self.location(&ask, &response).ok_or_else(malformed)?;
        Ok(Place { url, have: 0 })
    }

    /// Sends what is there from where the upload is; at most `piece`, if that is bounded. Tells whether that
    /// was the end.
    async fn send(
        &self,
        place: &mut Place,
        source: &Arc<dyn Source>,
        piece: Option<u64>,
        told: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Broken> {
        let from = place.have;
        let end = match piece {
            None => None,
            Some(piece) => Some(self.reach(source, from, piece).await?),
        };
        if end == Some(from) {
            return Ok(true);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let make = {
            let (source, sent) = (Arc::clone(source), Arc::clone(&sent));
            move || from_source(&source, from, end, &sent)
        };
        let mut ask = Ask::new(Method::PATCH, place.url.clone(), &self.scope).header(CONTENT_TYPE, BYTES);
        if let Some(end) = end {
            ask = ask.header(CONTENT_RANGE, format!("{from}-{}", end - 1));
            ask = ask.header(CONTENT_LENGTH, (end - from).to_string());
        }
        let ask = Ask { body: Some(&make), sent: Some(&sent), ..ask };
        let mut asking = std::pin::pin!(self.session.ask(&ask));
        let response = loop {
            match tokio::time::timeout(TOLD_EVERY, &mut asking).await {
                Ok(outcome) => break outcome.map_err(broken)?,
                Err(_) => told(from + sent.load(Ordering::Relaxed)),
            }
        };
        let reached = from + sent.load(Ordering::Relaxed);
        place.have = range(response.headers()).unwrap_or(reached);
        if let Some(url) = self.location(&ask, &response) {
            place.url = url;
        }
        told(place.have);
        if place.have < reached {
            let reason = format!("the registry has {} of {reached} bytes", place.have);
            return Err(Broken::Maybe(RegistryError::Refused(reason)));
        }
        Ok(end.is_none())
    }

    /// Where a piece ends that begins at `from`: at the source's end, if that comes first.
    async fn reach(&self, source: &Arc<dyn Source>, from: u64, piece: u64) -> Result<u64, Broken> {
        let mut at = from;
        while at < from + piece {
            let bytes = source.read(at).await.map_err(|error| Broken::ForGood(failed(&error)))?;
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
        }
        Ok(at.min(from + piece))
    }

    /// Ends the upload.
    async fn finish(&self, place: &Place, source: &Arc<dyn Source>) -> Result<Digest, Broken> {
        let digest = source.digest().map_err(|error| Broken::ForGood(failed(&error)))?;
        let joint = if place.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{joint}digest={}", place.url, crate::auth::escape(digest.as_str()));
        let ask = Ask::new(Method::PUT, url, &self.scope).header(CONTENT_LENGTH, "0");
        let ask = Ask { body: Some(&|| body("")), ..ask };
        self.session.ask(&ask).await.map(|_| digest).map_err(broken)
    }

    /// Asks how much of an upload is there.
    async fn look(&self, place: &mut Place) -> Result<(), RegistryError> {
        let ask = Ask::new(Method::GET, place.url.clone(), &self.scope);
        let response = self.session.ask(&ask).await.map_err(Failed::plain)?;
        if let Some(url) = self.location(&ask, &response) {
            place.url = url;
        }
        place.have = range(response.headers()).unwrap_or(0);
        Ok(())
    }

    /// The registry need not keep what nobody will go on with.
    async fn give_up<T>(&self, place: &Place, error: RegistryError) -> Result<T, RegistryError> {
        let ask = Ask::new(Method::DELETE, place.url.clone(), &self.scope);
        drop(self.session.ask(&ask).await);
        Err(error)
    }

    fn location<T>(&self, ask: &Ask<'_>, response: &Response<T>) -> Option<String> {
        let location = response.headers().get(LOCATION)?.to_str().ok()?;
        Some(self.session.place(ask, location))
    }
}

/// How often it is told how far an upload is.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// A body that reads a source from `from` to `end`, and counts.
fn from_source(source: &Arc<dyn Source>, from: u64, end: Option<u64>, sent: &Arc<AtomicU64>) -> Body {
    sent.store(0, Ordering::Relaxed);
    let (source, sent) = (Arc::clone(source), Arc::clone(sent));
    let frames = stream::unfold(Some(from), move |state| {
        let (source, sent) = (Arc::clone(&source), Arc::clone(&sent));
        async move {
            let at = state.filter(|at| end != Some(*at))?;
            let mut bytes = match source.read(at).await {
                Ok(bytes) if bytes.is_empty() => return None,
                Ok(bytes) => bytes,
                Err(error) => return Some((Err(error), None)),
            };
            if let Some(end) = end {
                bytes.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
            }
            let next = at + bytes.len() as u64;
            sent.store(next - from, Ordering::Relaxed);
            Some((Ok(Frame::data(bytes)), Some(next)))
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// `Range: 0-99` of an upload: there are a hundred bytes. `0-0` is what some say of none.
fn range(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let (_, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    let last: u64 = last.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

fn failed(error: &io::Error) -> RegistryError {
    RegistryError::Source(error.to_string())
}

/// What a failure in the middle of an upload leaves to be tried.
fn broken(failed: Failed) -> Broken {
    let status = match &failed {
        Failed::Status { status, .. } => *status,
        Failed::Otherwise(RegistryError::Exchange { .. }) => return Broken::Maybe(failed.plain()),
        Failed::Otherwise(_) => return Broken::ForGood(failed.plain()),
    };
    let again = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::RANGE_NOT_SATISFIABLE,
        StatusCode::REQUEST_TIMEOUT,
        // A token that was good when the upload began.
        StatusCode::UNAUTHORIZED,
    ];
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Broken::TooMuch(refused(failed)),
        StatusCode::NOT_FOUND => Broken::Lost(refused(failed)),
        status if status.is_server_error() || again.contains(&status) => Broken::Maybe(refused(failed)),
        _ => Broken::ForGood(refused(failed)),
    }
}

/// A refusal in the words that Docker's clients know.
fn refused(failed: Failed) -> RegistryError {
    match failed {
        Failed::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, said, .. } => {
            RegistryError::Denied(said.or("requested access to the resource is denied"))
        }
        other => other.plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_is_there() {
        for (text, expected) in
            [("0-99", Some(100)), ("bytes=0-99", Some(100)), ("0-0", Some(0)), ("0--1", None), ("x", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, text.parse().unwrap());
            assert_eq!(range(&headers), expected, "{text}");
        }
    }
}
