//! `ADD https://…`: one file over HTTP, with TLS or without.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{LAST_MODIFIED, LOCATION};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use seacow_build::Cancel;
use seacow_build::executor::Fetched;
use seacow_spec::{ErrorClass, ErrorReport};

use super::executor::BuildExecutor;
use super::mounts::TemporaryDir;

/// Redirects that are followed, as many as Go's client follows.
const REDIRECTS: usize = 10;
/// How long a server may take to connect, to answer, and to say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest file; a disk that is smaller ends it before.
const LARGEST: u64 = 64 << 30;

/// A directory with what was fetched.
pub(super) struct Download {
    pub(super) dir: TemporaryDir,
    pub(super) root: OwnedFd,
    pub(super) commit: Option<String>,
}

impl Fetched for Download {
    fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }
}

impl Download {
    pub(super) fn begin(build: &BuildExecutor) -> Result<Self, ErrorReport> {
        let made = TemporaryDir::new(&build.disk_dir()).and_then(|dir| Ok((File::open(&dir.0)?, dir)));
        let (root, dir) = made.map_err(|error| internal(format!("make a directory: {error}")))?;
        Ok(Self { dir, root: root.into(), commit: None })
    }
}

fn internal(text: String) -> ErrorReport {
    ErrorReport::new(ErrorClass::Internal, text)
}

/// Fetches a file; it is its owner's alone, as Docker has it.
pub(super) fn file(
    build: &BuildExecutor,
    url: &str,
    name: &str,
    cancel: &Cancel,
) -> Result<Download, ErrorReport> {
    let download = Download::begin(build)?;
    let path = download.dir.0.join(name);
    let work = async {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        cancel.on_cancel(move || _ = stop.send(()));
        tokio::select! {
            done = fetch(url, &path) => done,
            _ = stopped => Err(internal("the build was cancelled".into())),
        }
    };
    let modified = build.runtime.block_on(work)?;
    let settle = || -> std::io::Result<()> {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let time = std::time::UNIX_EPOCH + Duration::from_secs(modified);
        File::options().write(true).open(&path)?.set_modified(time)
    };
    settle().map_err(|error| internal(format!("keep {name}: {error}")))?;
    Ok(download)
}

/// Writes the file; the time of its last change in seconds, 0 when nobody says it.
async fn fetch(url: &str, path: &std::path::Path) -> Result<u64, ErrorReport> {
    let response = answer(url).await?;
    let modified = response.headers().get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
    let modified = modified.and_then(http_time).unwrap_or(0);
    let failed =
        |error: String| ErrorReport::new(ErrorClass::Unavailable, format!("get {}: {error}", bare(url)));
    let mut file = File::create(path).map_err(|error| failed(error.to_string()))?;
    let mut body = response.into_body();
    let mut total = 0u64;
    loop {
        let next = tokio::time::timeout(PATIENCE, body.frame()).await;
        let next = next.map_err(|_| failed(format!("nothing came for {} seconds", PATIENCE.as_secs())))?;
        let Some(frame) = next else { return Ok(modified) };
        let frame = frame.map_err(|error| failed(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        total += data.len() as u64;
        if total > LARGEST {
            return Err(failed(format!("it has more than {LARGEST} bytes")));
        }
        file.write_all(data).map_err(|error| failed(error.to_string()))?;
    }
}

/// The answer behind all redirects.
async fn answer(url: &str) -> Result<Response<Incoming>, ErrorReport> {
    let failed = |class, url: &str, why: String| ErrorReport::new(class, format!("get {}: {why}", bare(url)));
    let client = client().map_err(internal)?;
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        let uri: Uri =
            url.parse().map_err(|error| failed(ErrorClass::InvalidArgument, &url, format!("{error}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(failed(ErrorClass::InvalidArgument, &url, "neither http nor https".into()));
        }
        let request = Request::get(uri.clone())
            .header("User-Agent", "seacow")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(ErrorClass::InvalidArgument, &url, error.to_string()))?;
        let response = match tokio::time::timeout(PATIENCE, client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(ErrorClass::Unavailable, &url, deepest(&error))),
            Err(_) => {
                let why = format!("no answer within {} seconds", PATIENCE.as_secs());
                return Err(failed(ErrorClass::Unavailable, &url, why));
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match location {
            Some(location) if status.is_redirection() => url = joined(&uri, location),
            _ => {
                let class = if status == 404 { ErrorClass::NotFound } else { ErrorClass::Unavailable };
                return Err(failed(class, &url, format!("response status {status}")));
            }
        }
    }
    Err(failed(ErrorClass::Unavailable, &url, format!("more than {REDIRECTS} redirects")))
}

type Https = hyper_rustls::HttpsConnector<HttpConnector>;

fn client() -> Result<Client<Https, Empty<Bytes>>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(PATIENCE));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// A redirect's target, which may leave out what stays the same.
fn joined(base: &Uri, location: &str) -> String {
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map(ToString::to_string).unwrap_or_default();
    match location {
        absolute if absolute.contains("://") => absolute.to_owned(),
        other if other.starts_with("//") => format!("{scheme}:{other}"),
        rooted if rooted.starts_with('/') => format!("{scheme}://{authority}{rooted}"),
        relative => {
            let dir = base.path().rsplit_once('/').map_or("", |(dir, _)| dir);
            format!("{scheme}://{authority}{dir}/{relative}")
        }
    }
}

/// A URL as it may be shown: no password, no query.
pub(super) fn bare(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
            let host = authority.rsplit('@').next().unwrap_or_default();
            path.map_or(format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
        }
        None => url.to_owned(),
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

/// `Wed, 21 Oct 2015 07:28:00 GMT` in seconds since the epoch.
fn http_time(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, clock, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)? as i64 + 1;
    let (day, year) = (day.parse::<i64>().ok()?, year.parse::<i64>().ok()?);
    let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days of the civil calendar, with years that begin in March.
    let shifted = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + of_year - 719_468;
    u64::try_from(days * 86_400 + hour * 3_600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(http_time("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(http_time("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_time("yesterday"), None);
    }

    #[test]
    fn redirects_and_what_is_shown() {
        let base: Uri = "https://h:1/a/b?x".parse().unwrap();
        for (location, want) in [
            ("http://o/c", "http://o/c"),
            ("//o/c", "https://o/c"),
            ("/c", "https://h:1/c"),
            ("c", "https://h:1/a/c"),
        ] {
            assert_eq!(joined(&base, location), want);
        }
        assert_eq!(bare("https://u:p@h/x?sig=1"), "https://h/x");
        assert_eq!(bare("https://h"), "https://h");
    }
}
