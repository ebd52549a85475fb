//! One request: who may, what is meant, what is answered.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, LINK, LOCATION, RANGE,
};
use hyper::{Method, Request, Response, StatusCode};
use seacow_spec::Digest;

use super::access::Access;
use super::manifest::{self, MAX_MANIFEST};
use super::path::{Target, Version, digest, query, repository};
use super::refusal::Refusal;
use super::shelf::Shelf;
use super::upload::Uploads;
use crate::transport::{Body, body};

const DOCKER_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const DOCKER_UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");
const DOCKER_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
const REALM: &str = "seacow registry";
/// What is read of a blob at a time.
const PIECE: usize = 256 << 10;
/// Entries of a list where nobody says how many, and at most.
const PAGE: usize = 1000;
const MAX_PAGE: usize = 10_000;
/// How long a manifest may take to come.
const MANIFEST_TIME: Duration = Duration::from_secs(60);

/// What answers are made of.
pub(super) struct Serving {
    pub(super) shelf: Arc<Shelf>,
    pub(super) uploads: Uploads,
    pub(super) access: Option<Access>,
    pub(super) read_only: bool,
}

type Answer = Result<Response<Body>, Refusal>;

impl Serving {
    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut response = match Arc::clone(&self).try_answer(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
        tracing::debug!(%method, path, status = response.status().as_u16(), "registry");
        response.headers_mut().insert(DOCKER_VERSION, HeaderValue::from_static("registry/2.0"));
        if method == Method::HEAD {
            let length = response.headers_mut().remove(CONTENT_LENGTH);
            let known = hyper::body::Body::size_hint(response.body()).exact().map(HeaderValue::from);
            *response.body_mut() = body("");
            // That of what a GET would bring.
            if let Some(length) = length.or(known) {
                response.headers_mut().insert(CONTENT_LENGTH, length);
            }
        }
        response
    }

    async fn try_answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        if let Some(access) = &self.access {
            let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            if !access.allows(header).await {
                return Err(Refusal::unauthorized(REALM));
            }
        }
        let target = Target::parse(request.uri().path())?;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if self.read_only && !reads {
            return Err(Refusal::read_only());
        }
        let parameters = query(request.uri().query());
        let parameter = |name: &str| parameters.get(name).map(String::as_str);
        let (parts, incoming) = request.into_parts();
        let headers = parts.headers;
        match (parts.method, target) {
            (Method::GET | Method::HEAD, Target::Base) => Ok(json("{}")),
            (Method::GET | Method::HEAD, Target::Catalog) => {
                let (n, last) = page(&parameters)?;
                self.blocking(move |this| this.catalog(n, last.as_deref())).await
            }
            (Method::GET | Method::HEAD, Target::Tags(name)) => {
                let (n, last) = page(&parameters)?;
                self.blocking(move |this| this.tags(&name, n, last.as_deref())).await
            }
            (Method::GET | Method::HEAD, Target::Manifest(name, version)) => {
                self.blocking(move |this| this.manifest(&name, &version, &headers)).await
            }
            (Method::PUT, Target::Manifest(name, version)) => {
                self.put_manifest(name, version, &headers, incoming).await
            }
            (Method::DELETE, Target::Manifest(name, version)) => {
                self.blocking(move |this| this.delete_manifest(&name, &version)).await
            }
            (Method::GET | Method::HEAD, Target::Blob(name, digest)) => {
                self.blocking(move |this| this.blob(&name, &digest, &headers)).await
            }
            (Method::DELETE, Target::Blob(name, digest)) => {
                self.blocking(move |this| this.delete_blob(&name, &digest)).await
            }
            (Method::POST, Target::Uploads(name)) => {
                let whole = parameter("digest").map(digest).transpose()?;
                let mount = parameter("mount").map(digest).transpose()?;
                let from = parameter("from").map(repository).transpose()?;
                match (whole, mount) {
                    (Some(digest), _) => self.whole(name, digest, incoming).await,
                    (None, mount) => self.blocking(move |this| this.begin(&name, mount, from)).await,
                }
            }
            (Method::GET | Method::HEAD, Target::Upload(name, id)) => {
                self.blocking(move |this| {
                    let len = this.uploads.len(&name, &id)?;
                    Ok(progress(StatusCode::NO_CONTENT, &name, &id, len))
                })
                .await
            }
            (Method::PATCH, Target::Upload(name, id)) => self.piece(name, id, &headers, incoming).await,
            (Method::PUT, Target::Upload(name, id)) => {
                let text = parameter("digest").ok_or_else(|| Refusal::digest("the digest is missing"))?;
                let digest = digest(text)?;
                self.finish(name, id, digest, &headers, incoming).await
            }
            (Method::DELETE, Target::Upload(name, id)) => {
                self.blocking(move |this| {
                    this.uploads.cancel(&name, &id)?;
                    Ok(empty(StatusCode::NO_CONTENT))
                })
                .await
            }
            (Method::GET | Method::HEAD, Target::Referrers(name, subject)) => {
                let kind = parameter("artifactType").map(str::to_owned);
                self.blocking(move |this| this.referrers(&name, &subject, kind.as_deref())).await
            }
            _ => Err(Refusal::method()),
        }
    }

    async fn blocking(self: Arc<Self>, work: impl FnOnce(&Self) -> Answer + Send + 'static) -> Answer {
        tokio::task::spawn_blocking(move || work(&self)).await.map_err(io::Error::other)?
    }

    fn catalog(&self, n: usize, last: Option<&str>) -> Answer {
        let (repositories, more) = cut(self.shelf.repositories()?, n, last);
        let next = more.then(|| next_page("/v2/_catalog", &repositories, n)).flatten();
        Ok(linked(json(serde_json::json!({"repositories": repositories}).to_string()), next))
    }

    fn tags(&self, name: &str, n: usize, last: Option<&str>) -> Answer {
        if !self.shelf.has_repository(name) {
            return Err(Refusal::name_unknown(name));
        }
        let (tags, more) = cut(self.shelf.tags(name)?, n, last);
        let next = more.then(|| next_page(&format!("/v2/{name}/tags/list"), &tags, n)).flatten();
        Ok(linked(json(serde_json::json!({"name": name, "tags": tags}).to_string()), next))
    }

    fn manifest(&self, name: &str, version: &Version, headers: &HeaderMap) -> Answer {
        let unknown = || match self.shelf.has_repository(name) {
            true => Refusal::manifest_unknown(version),
            false => Refusal::name_unknown(name),
        };
        let digest = match version {
            Version::Digest(digest) => digest.clone(),
            Version::Tag(tag) => self.shelf.tag(name, tag)?.ok_or_else(unknown)?,
        };
        let (kind, bytes) = self.shelf.manifest(name, &digest)?.ok_or_else(unknown)?;
        let tag = format!("\"{digest}\"");
        let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let mut response = match known.is_some_and(|known| known == tag || known == digest.as_str()) {
            true => empty(StatusCode::NOT_MODIFIED),
            false => Response::new(body(bytes)),
        };
        set(&mut response, CONTENT_TYPE, &kind);
        set(&mut response, ETAG, &tag);
        set(&mut response, DOCKER_DIGEST, digest.as_str());
        Ok(response)
    }

    async fn put_manifest(
        self: Arc<Self>,
        name: String,
        version: Version,
        headers: &HeaderMap,
        incoming: Incoming,
    ) -> Answer {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.to_owned();
        let reading = Limited::new(incoming, MAX_MANIFEST).collect();
        let bytes = match tokio::time::timeout(MANIFEST_TIME, reading).await {
            Ok(Ok(bytes)) => bytes.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Refusal::too_large(MAX_MANIFEST as u64));
            }
            Ok(Err(error)) => return Err(Refusal::manifest(format!("it broke off: {error}"))),
            Err(_) => return Err(Refusal::manifest("it did not come in time")),
        };
        self.blocking(move |this| {
            let taken = manifest::put(&this.shelf, &name, &version, &kind, &bytes)?;
            let mut response = empty(StatusCode::CREATED);
            set(&mut response, LOCATION, &format!("/v2/{name}/manifests/{}", taken.digest));
            set(&mut response, DOCKER_DIGEST, taken.digest.as_str());
            if let Some(subject) = taken.subject {
                set(&mut response, OCI_SUBJECT, subject.as_str());
            }
            Ok(response)
        })
        .await
    }

    fn delete_manifest(&self, name: &str, version: &Version) -> Answer {
        let removed = match version {
            Version::Tag(tag) => self.shelf.remove_tag(name, tag)?,
            Version::Digest(digest) => self.shelf.remove_manifest(name, digest)?,
        };
        if removed { Ok(empty(StatusCode::ACCEPTED)) } else { Err(Refusal::manifest_unknown(version)) }
    }

    fn blob(&self, name: &str, digest: &Digest, headers: &HeaderMap) -> Answer {
        let file = self.shelf.open_blob(name, digest)?.ok_or_else(|| Refusal::blob_unknown(digest))?;
        let size = file.metadata()?.len();
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let part = match range.and_then(|text| part(text, size)) {
            Some(Part::Bytes(from, to)) => Some((from, to)),
            Some(Part::Outside) => return Err(Refusal::range(size)),
            None => None,
        };
        let (from, to) = part.unwrap_or((0, size));
        let mut response = Response::new(of_file(file, from, to));
        if part.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, CONTENT_RANGE, &format!("bytes {from}-{}/{size}", to - 1));
        }
        set(&mut response, CONTENT_LENGTH, &(to - from).to_string());
        set(&mut response, CONTENT_TYPE, "application/octet-stream");
        set(&mut response, ACCEPT_RANGES, "bytes");
        set(&mut response, ETAG, &format!("\"{digest}\""));
        set(&mut response, DOCKER_DIGEST, digest.as_str());
        Ok(response)
    }

    fn delete_blob(&self, name: &str, digest: &Digest) -> Answer {
        match self.shelf.unlink_blob(name, digest)? {
            true => Ok(empty(StatusCode::ACCEPTED)),
            false => Err(Refusal::blob_unknown(digest)),
        }
    }

    /// Begins an upload, unless the blob can be had from another repository.
    fn begin(&self, name: &str, mount: Option<Digest>, from: Option<String>) -> Answer {
        if let (Some(digest), Some(from)) = (mount, from)
            && self.shelf.mount_blob(name, &digest, &from)?
        {
            return Ok(blob_made(name, &digest));
        }
        let id = self.uploads.begin(name)?;
        Ok(progress(StatusCode::ACCEPTED, name, &id, 0))
    }

    /// A blob in one request.
    async fn whole(self: Arc<Self>, name: String, digest: Digest, incoming: Incoming) -> Answer {
        let (this, repository) = (Arc::clone(&self), name.clone());
        let begun = tokio::task::spawn_blocking(move || this.uploads.begin(&repository));
        let id = begun.await.map_err(io::Error::other)??;
        let headers = HeaderMap::new();
        let done = Arc::clone(&self).finish(name.clone(), id.clone(), digest, &headers, incoming);
        let outcome = done.await;
        if outcome.is_err() {
            let gone = tokio::task::spawn_blocking(move || self.uploads.cancel(&name, &id));
            // It may be gone already.
            drop(gone.await);
        }
        outcome
    }

    async fn piece(
        self: Arc<Self>,
        name: String,
        id: String,
        headers: &HeaderMap,
        incoming: Incoming,
    ) -> Answer {
        let held = self.uploads.hold(&name, &id)?;
        in_order(headers, held.len())?;
        let len = self.uploads.append(&held, incoming).await?;
        Ok(progress(StatusCode::ACCEPTED, &name, &id, len))
    }

    async fn finish(
        self: Arc<Self>,
        name: String,
        id: String,
        digest: Digest,
        headers: &HeaderMap,
        incoming: Incoming,
    ) -> Answer {
        let held = self.uploads.hold(&name, &id)?;
        if !hyper::body::Body::is_end_stream(&incoming) {
            in_order(headers, held.len())?;
            self.uploads.append(&held, incoming).await?;
        }
        self.blocking(move |this| {
            this.uploads.finish(&name, &held, &digest)?;
            Ok(blob_made(&name, &digest))
        })
        .await
    }

    fn referrers(&self, name: &str, subject: &Digest, kind: Option<&str>) -> Answer {
        let index = manifest::referrers(&self.shelf, name, subject, kind)?;
        let mut response = Response::new(body(index));
        set(&mut response, CONTENT_TYPE, seacow_spec::oci::image::INDEX);
        if kind.is_some() {
            set(&mut response, OCI_FILTERS, "artifactType");
        }
        Ok(response)
    }
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    // What is written here has nothing in it that a header may not have.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body(""));
    *response.status_mut() = status;
    response
}

fn json(text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body(text));
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

fn linked(mut response: Response<Body>, next: Option<String>) -> Response<Body> {
    if let Some(next) = next {
        set(&mut response, LINK, &format!("<{next}>; rel=\"next\""));
    }
    response
}

fn blob_made(name: &str, digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    set(&mut response, DOCKER_DIGEST, digest.as_str());
    response
}

fn progress(status: StatusCode, name: &str, id: &str, len: u64) -> Response<Body> {
    let mut response = empty(status);
    set(&mut response, LOCATION, &format!("/v2/{name}/blobs/uploads/{id}"));
    // The last byte that is there; clients know that of none it is the first all the same.
    set(&mut response, RANGE, &format!("0-{}", len.saturating_sub(1)));
    set(&mut response, DOCKER_UPLOAD, id);
    response
}

/// `n` and `last` of a list.
fn page(parameters: &std::collections::HashMap<String, String>) -> Result<(usize, Option<String>), Refusal> {
    let n = match parameters.get("n") {
        None => PAGE,
        Some(text) => text.parse().map_err(|_| Refusal::bad(format!("n={text} is no number")))?,
    };
    Ok((n.min(MAX_PAGE), parameters.get("last").filter(|last| !last.is_empty()).cloned()))
}

/// The entries after `last`, at most `n`; and whether there are more.
fn cut(all: Vec<String>, n: usize, last: Option<&str>) -> (Vec<String>, bool) {
    let mut after: Vec<String> =
        all.into_iter().filter(|entry| last.is_none_or(|last| entry.as_str() > last)).collect();
    let more = after.len() > n;
    after.truncate(n);
    (after, more)
}

fn next_page(path: &str, shown: &[String], n: usize) -> Option<String> {
    let last = shown.last()?;
    Some(format!("{path}?last={}&n={n}", crate::auth::escape(last)))
}

/// Whether a piece goes on where the upload is, if it says where it begins.
fn in_order(headers: &HeaderMap, have: u64) -> Result<(), Refusal> {
    let Some(text) = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()) else { return Ok(()) };
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next().unwrap_or(text);
    let bounds = text.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let Some((from, to)): Option<(u64, u64)> = bounds else {
        return Err(Refusal::upload_invalid(format!("Content-Range: {text} is none")));
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if to < from || length.is_some_and(|length| to - from + 1 != length) {
        return Err(Refusal::upload_invalid(format!("Content-Range: {text} is not what comes")));
    }
    if from == have { Ok(()) } else { Err(Refusal::out_of_order(have)) }
}

/// What `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// From the first on to before the second.
    Bytes(u64, u64),
    Outside,
}

/// One range of bytes (RFC 9110 §14); several, or what is none, mean the whole.
fn part(text: &str, size: u64) -> Option<Part> {
    let (from, to) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let (from, to) = match (from, to) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (from, "") => (from.parse().ok()?, size),
        (from, to) => {
            let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
            if to < from {
                return None;
            }
            (from, to.saturating_add(1).min(size))
        }
    };
    Some(if from < to { Part::Bytes(from, to) } else { Part::Outside })
}

fn of_file(file: File, from: u64, to: u64) -> Body {
    let file = Arc::new(file);
    let frames = stream::unfold(Some(from), move |at| {
        let file = Arc::clone(&file);
        async move {
            let at = at.filter(|at| *at < to)?;
            let read = tokio::task::spawn_blocking(move || {
                let len = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
                let mut buffer = vec![0; len];
                let read = file.read_at(&mut buffer, at)?;
                buffer.truncate(read);
                if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Bytes::from(buffer)) }
            });
            match read.await.map_err(io::Error::other) {
                Ok(Ok(bytes)) => {
                    let next = at + bytes.len() as u64;
                    Some((Ok(Frame::data(bytes)), Some(next)))
                }
                Ok(Err(error)) | Err(error) => Some((Err(error), None)),
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_blobs() {
        for (text, expected) in [
            ("bytes=0-0", Some(Part::Bytes(0, 1))),
            ("bytes=2-", Some(Part::Bytes(2, 10))),
            ("bytes=2-99", Some(Part::Bytes(2, 10))),
            ("bytes=-3", Some(Part::Bytes(7, 10))),
            ("bytes=-99", Some(Part::Bytes(0, 10))),
            ("bytes=10-", Some(Part::Outside)),
            ("bytes=-0", Some(Part::Outside)),
            ("bytes=3-2", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
        ] {
            assert_eq!(part(text, 10), expected, "{text}");
        }
    }

    #[test]
    fn pieces_in_order() {
        let check = |range: &str, length: &str, have| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, range.parse().unwrap());
            headers.insert(CONTENT_LENGTH, length.parse().unwrap());
            in_order(&headers, have).map_err(|refusal| refusal.status.as_u16()).err()
        };
        assert_eq!(check("0-9", "10", 0), None);
        assert_eq!(check("bytes 10-19/20", "10", 10), None);
        assert_eq!(check("0-9", "10", 5), Some(416));
        assert_eq!(check("0-9", "9", 0), Some(400));
        assert_eq!(check("9-0", "10", 9), Some(400));
        assert_eq!(check("x", "10", 0), Some(400));
    }

    #[test]
    fn lists_are_cut() {
        let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(cut(all(), 2, None), (vec!["a".into(), "b".into()], true));
        assert_eq!(cut(all(), 2, Some("a")), (vec!["b".into(), "c".into()], false));
        assert_eq!(cut(all(), 0, None), (Vec::new(), true));
        assert_eq!(next_page("/x", &[], 0), None);
    }
}
