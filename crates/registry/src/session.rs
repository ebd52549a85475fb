//! Requests to one endpoint: authentication and redirects.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};

use crate::auth::{Challenge, Credentials, Token, TokenAnswer, escape};
use crate::endpoint::{Endpoint, Settings};
use crate::error::{RegistryError, Said};
use crate::transport::{Body, Transport, body, go_name, shown, whole};

/// Redirects in a row that are followed, as Go's client does.
const MAX_REDIRECTS: usize = 10;
/// How often in a row a registry may ask to come again later, and how much later at most: limits that last for hours
/// are told to whoever waits.
const MAX_WAITS: usize = 3;
const MAX_WAIT: Duration = Duration::from_secs(10);
/// A token server's answer, a registry's complaint.
const MAX_SAID: usize = 1 << 20;
/// Who asks, in the token server's log.
const CLIENT: &str = "seacow";

/// What may be done with repositories, as token servers are asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scope(Vec<String>);

impl Scope {
    /// Nothing but to show who one is.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    pub(crate) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// The same, and to read from another repository.
    pub(crate) fn and_pull(&self, repository: &str) -> Self {
        let mut all = self.0.clone();
        all.extend(Self::pull(repository).0);
        Self(all)
    }
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// Below `/v2/`, or a whole address that the registry gave.
    pub(crate) place: String,
    pub(crate) accept: &'a str,
    pub(crate) scope: &'a Scope,
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// Makes the body, once for each time that the request is sent.
    pub(crate) body: Option<&'a (dyn Fn() -> Body + Sync)>,
    /// What has left of the body, if somebody counts.
    pub(crate) sent: Option<&'a AtomicU64>,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, place: impl Into<String>, scope: &'a Scope) -> Self {
        let (place, headers) = (place.into(), Vec::new());
        Self { method, place, accept: "*/*", scope, headers, body: None, sent: None }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An endpoint and what it has told us.
pub(crate) struct Session {
    pub(crate) endpoint: Endpoint,
    transport: Transport,
    credentials: Credentials,
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<Scope, Token>>,
    /// Whether a token is wanted that stands for the password.
    for_long: bool,
    /// That token.
    identity: Mutex<Option<String>>,
}

impl Session {
    pub(crate) fn new(
        endpoint: Endpoint,
        settings: &Settings,
        credentials: &Credentials,
    ) -> Result<Self, RegistryError> {
        let transport = Transport::to(&endpoint, settings)?;
        // A mirror is somebody else: what is the registry's is not shown to it.
        let credentials = if endpoint.mirror { Credentials::default() } else { credentials.clone() };
        let (challenge, tokens) = (Mutex::default(), Mutex::default());
        let (for_long, identity) = (false, Mutex::default());
        Ok(Self { endpoint, transport, credentials, challenge, tokens, for_long, identity })
    }

    /// Asks token servers for something that stands for the password from now on.
    pub(crate) fn for_long(mut self) -> Self {
        self.for_long = true;
        self
    }

    /// What stands for the password, if a token server gave it.
    pub(crate) fn identity(&self) -> Option<String> {
        lock(&self.identity).clone()
    }

    /// Sends a request with whatever authentication is needed, and follows where it leads. The answer is
    /// one of success; what else came is an error in the registry's words, with its status.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, Failed> {
        let mut response = self.send(ask).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.learn(response.headers()) {
            response = self.send(ask).await?;
        }
        for _ in 0..MAX_WAITS {
            let Some(pause) = pause(&response) else { break };
            tracing::debug!(place = ask.place, ?pause, "the registry asks to come again");
            tokio::time::sleep(pause).await;
            response = self.send(ask).await?;
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (method, url) = (go_name(ask.method.as_str()), self.url(ask));
        let body = whole(response, "the registry's answer", MAX_SAID).await.unwrap_or_default();
        Err(Failed::Status { method, url, status, said: Said::read(&body) })
    }

    /// Whether the registry wants a name and a password, and there are none.
    pub(crate) fn lacks_password(&self) -> bool {
        lock(&self.challenge).as_ref() == Some(&Challenge::Basic) && self.credentials.basic().is_none()
    }

    /// The whole address of what an answer to `ask` calls its place.
    pub(crate) fn place(&self, ask: &Ask<'_>, location: &str) -> String {
        resolve(&self.url(ask), location)
    }

    fn url(&self, ask: &Ask<'_>) -> String {
        match ask.place.contains("://") {
            true => ask.place.clone(),
            false => format!("{}/v2/{}", self.endpoint.base, ask.place),
        }
    }

    async fn send(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, RegistryError> {
        let mut url = self.url(ask);
        let home = authority(&self.endpoint.base);
        let mut authorization = match authority(&url) == home {
            true => self.authorization(ask.scope).await?,
            false => None,
        };
        let unnoticed = AtomicU64::new(0);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(ask.body.map_or_else(|| body(""), |body| body()));
            *request.method_mut() = ask.method.clone();
            *request.uri_mut() = uri(&url)?;
            let headers = request.headers_mut();
            headers
                .insert(USER_AGENT, HeaderValue::from_static(concat!("seacow/", env!("CARGO_PKG_VERSION"))));
            insert(headers, ACCEPT, ask.accept);
            for (name, value) in &ask.headers {
                insert(headers, name.clone(), value);
            }
            if let Some(authorization) = &authorization {
                insert(headers, AUTHORIZATION, authorization);
            }
            let response = self.transport.send(request, ask.sent.unwrap_or(&unnoticed)).await?;
            // What carries something is sent again only where the status says so.
            let reads = matches!(ask.method, Method::GET | Method::HEAD);
            let again = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT];
            if !response.status().is_redirection() || !(reads || again.contains(&response.status())) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let Some(location) = location else { return Ok(response) };
            url = resolve(&url, location);
            // Where blobs are kept has its own ways; ours must not get there.
            if authority(&url) != home {
                authorization = None;
            }
        }
        Err(exchange(ask, &url, format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    /// Takes note of what is wanted; tells whether there is anything to try with it.
    fn learn(&self, headers: &HeaderMap) -> bool {
        let offered = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = offered.filter_map(Challenge::parse).next() else { return false };
        let usable = challenge != Challenge::Basic || self.credentials.basic().is_some();
        let mut known = lock(&self.challenge);
        // A token that is refused is asked for anew; a password is not tried twice.
        let again = known.as_ref() == Some(&challenge) && challenge == Challenge::Basic;
        lock(&self.tokens).clear();
        *known = Some(challenge);
        usable && !again
    }

    async fn authorization(&self, scope: &Scope) -> Result<Option<String>, RegistryError> {
        if !self.credentials.registry_token.is_empty() {
            return Ok(Some(format!("Bearer {}", self.credentials.registry_token)));
        }
        let challenge = lock(&self.challenge).clone();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.credentials.basic()),
            Some(Challenge::Bearer { realm, service }) => {
                let known = lock(&self.tokens).get(scope).filter(|token| token.is_good()).cloned();
                let token = match known {
                    Some(token) => token,
                    None => self.token(&realm, &service, scope).await?,
                };
                lock(&self.tokens).insert(scope.clone(), token.clone());
                Ok(Some(token.header))
            }
        }
    }

    async fn token(&self, realm: &str, service: &str, scope: &Scope) -> Result<Token, RegistryError> {
        let asked = Instant::now();
        let service = escape(service);
        let request = if self.credentials.identity_token.is_empty() {
            let joint = if realm.contains('?') { '&' } else { '?' };
            let mut url = format!("{realm}{joint}service={service}");
            for scope in &scope.0 {
                url.push_str(&format!("&scope={}", escape(scope)));
            }
            let basic = self.credentials.basic();
            if self.for_long {
                url.push_str(&format!("&offline_token=true&client_id={CLIENT}"));
            }
            if basic.is_some() {
                url.push_str(&format!("&account={}", escape(&self.credentials.username)));
            }
            let mut request = Request::new(body(""));
            *request.uri_mut() = uri(&url)?;
            if let Some(basic) = basic {
                insert(request.headers_mut(), AUTHORIZATION, &basic);
            }
            request
        } else {
            let (refresh, scope) = (escape(&self.credentials.identity_token), escape(&scope.0.join(" ")));
            let form = format!(
                "grant_type=refresh_token&refresh_token={refresh}&service={service}&scope={scope}&client_id={CLIENT}"
            );
            let mut request = Request::new(body(form));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri(realm)?;
            insert(request.headers_mut(), hyper::header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            request
        };
        let (method, url) = (go_name(request.method().as_str()), shown(realm));
        let response = self.transport.send(request, &AtomicU64::new(0)).await?;
        let status = response.status();
        let said = whole(response, "the token server's answer", MAX_SAID).await?;
        if !status.is_success() {
            let reason = Said::read(&said).or(&status.to_string());
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS => RegistryError::TooMany(reason),
                _ => RegistryError::Unauthorized { method, url, reason },
            });
        }
        let answer: Option<TokenAnswer> = serde_json::from_slice(&said).ok();
        if let Some(identity) = answer.as_ref().and_then(TokenAnswer::identity) {
            *lock(&self.identity) = Some(identity.to_owned());
        }
        answer.and_then(|answer| answer.into_token(asked)).ok_or_else(|| RegistryError::Malformed {
            what: format!("the answer of {url}"),
            reason: "there is no token in it".into(),
        })
    }
}

/// A request that did not succeed.
pub(crate) enum Failed {
    /// The registry's own refusal.
    Status { method: String, url: String, status: StatusCode, said: Said },
    /// It did not come to that.
    Otherwise(RegistryError),
}

impl From<RegistryError> for Failed {
    fn from(error: RegistryError) -> Self {
        Self::Otherwise(error)
    }
}

impl Failed {
    /// The error for a request of which no status has a meaning of its own.
    pub(crate) fn plain(self) -> RegistryError {
        let (method, url, status, said) = match self {
            Self::Otherwise(error) => return error,
            Self::Status { method, url, status, said } => (method, url, status, said),
        };
        match status {
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooMany(said.or(&status.to_string())),
            StatusCode::UNAUTHORIZED => {
                RegistryError::Unauthorized { method, url, reason: said.or("no basic auth credentials") }
            }
            _ if said.text.is_empty() => RegistryError::Status { method, url, status: status.to_string() },
            _ => RegistryError::Refused(said.text),
        }
    }
}

/// How long a registry wants us to wait, if it says so and it is not long.
fn pause(response: &Response<Incoming>) -> Option<Duration> {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    let pause = Duration::from_secs(seconds);
    (busy.contains(&response.status()) && pause <= MAX_WAIT).then_some(pause)
}

fn exchange(ask: &Ask<'_>, url: &str, reason: String) -> RegistryError {
    RegistryError::Exchange { method: go_name(ask.method.as_str()), url: shown(url), reason }
}

fn insert(headers: &mut HeaderMap, name: hyper::header::HeaderName, value: &str) {
    // What cannot be in a header is left out, and the registry says what it misses.
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(name == AUTHORIZATION);
        headers.insert(name, value);
    }
}

fn uri(url: &str) -> Result<Uri, RegistryError> {
    let malformed =
        |reason: String| RegistryError::Malformed { what: format!("the address {}", shown(url)), reason };
    let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| malformed(error.to_string()))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err(malformed("it is none of http or https".into())),
    }
}

/// Scheme, host and port.
fn authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(format!("{}://{}", scheme.to_lowercase(), rest[..end].to_lowercase()))
}

/// Where a redirect leads from `base` (RFC 3986, without `..`, which servers resolve).
fn resolve(base: &str, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") {
        return location.to_owned();
    }
    let scheme = base.split("://").next().unwrap_or_default();
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let host = authority(base).unwrap_or_default();
    if location.starts_with('/') {
        return format!("{host}{location}");
    }
    let dir = base.split('?').next().unwrap_or_default().rsplit_once('/').map_or(base, |(dir, _)| dir);
    format!("{dir}/{location}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        let base = "https://r.example:5000/v2/a/blobs/x?y=1";
        for (location, expected) in [
            ("https://cdn.example/x?s=1", "https://cdn.example/x?s=1"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/other#part", "https://r.example:5000/other"),
            ("z?q", "https://r.example:5000/v2/a/blobs/z?q"),
        ] {
            assert_eq!(resolve(base, location), expected);
        }
        assert_eq!(authority("HTTPS://R.example:5000?x").unwrap(), "https://r.example:5000");
        for bad in ["file:///etc/passwd", "ftp://x/y", "/x", "https://", "a b"] {
            assert!(uri(bad).is_err(), "{bad}");
        }
    }
}
