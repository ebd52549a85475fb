//! The engine's API: versions, requests, errors. Above [`crate::http`], below the commands.
//!
//! docker's client asks `/_ping` before everything else to learn the server's API version. This
//! one speaks its own newest version at once and steps down when the server says that it is too
//! new: one round trip less on every command against an engine of our age.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connect::{ConnectError, Endpoint};
use crate::http::{Conn, Head, HttpError, Payload, Request, Response};

/// The engine refused, or could not be talked to. Texts are docker's where docker has one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("error during connect: {method} {path}: {source}")]
    Http { method: String, path: String, source: HttpError },
    #[error("Error response from daemon: {message}")]
    Daemon { status: u16, message: String },
    #[error("reading the engine's answer to {path}: {source}")]
    Decode { path: String, source: serde_json::Error },
    #[error("unable to upgrade to tcp, received {status}")]
    NotUpgraded { status: u16 },
}

impl ClientError {
    /// The status the engine answered with, if it did answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            ClientError::Daemon { status, .. } => Some(*status),
            ClientError::Connect(_)
            | ClientError::Http { .. }
            | ClientError::Decode { .. }
            | ClientError::NotUpgraded { .. } => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

/// An API version, `1.45`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion(pub(crate) u16, pub(crate) u16);

impl ApiVersion {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The newest version this client speaks.
    pub(crate) fn newest() -> Self {
        Self::parse(seacow_spec::docker::API_VERSION).unwrap_or(Self(1, 51))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Connections kept for the next request. One command rarely has two idle at a time.
const MAX_IDLE: usize = 4;

/// A client of one engine. Shared by the threads of a command.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) endpoint: Endpoint,
    version: AtomicU32,
    /// The server has answered a request of this version.
    agreed: AtomicBool,
    idle: Mutex<Vec<Conn>>,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let asked = std::env::var("DOCKER_API_VERSION").ok().and_then(|v| ApiVersion::parse(&v));
        let client = Self {
            endpoint,
            version: AtomicU32::new(0),
            agreed: AtomicBool::new(asked.is_some()),
            idle: Mutex::new(Vec::new()),
        };
        client.set_version(asked.unwrap_or_else(ApiVersion::newest));
        client
    }

    fn set_version(&self, version: ApiVersion) {
        self.version.store(u32::from(version.0) << 16 | u32::from(version.1), Ordering::Relaxed);
    }

    /// The version requests are sent with: agreed with the server once one was answered.
    pub(crate) fn version(&self) -> ApiVersion {
        let packed = self.version.load(Ordering::Relaxed);
        ApiVersion((packed >> 16) as u16, packed as u16)
    }

    /// Makes sure that [`Self::version`] is one the server speaks.
    pub(crate) fn negotiate(&self) -> Result<ApiVersion, ClientError> {
        if !self.agreed.load(Ordering::Relaxed) {
            let response = self.call("GET", "/_ping").unversioned().send()?;
            let theirs = response.head.field("Api-Version").and_then(ApiVersion::parse);
            self.discard(response);
            self.set_version(theirs.unwrap_or(ApiVersion(1, 24)).min(ApiVersion::newest()));
            self.agreed.store(true, Ordering::Relaxed);
        }
        Ok(self.version())
    }

    /// Starts describing a request; `path` is escaped already and has no version.
    pub(crate) fn call<'a>(&'a self, method: &'a str, path: impl Into<String>) -> Call<'a> {
        Call {
            client: self,
            method,
            path: path.into(),
            query: String::new(),
            fields: Vec::new(),
            payload: Payload::None,
            upgrade: Upgrade::No,
            versioned: true,
        }
    }

    pub(crate) fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call("GET", path)
    }

    pub(crate) fn post(&self, path: impl Into<String>) -> Call<'_> {
        self.call("POST", path)
    }

    pub(crate) fn delete(&self, path: impl Into<String>) -> Call<'_> {
        self.call("DELETE", path)
    }

    /// An idle connection, or a new one.
    pub(crate) fn connection(&self) -> Result<Conn, ClientError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        match idle {
            Some(conn) => Ok(conn),
            None => Ok(Conn::new(self.endpoint.connect()?)),
        }
    }

    /// Opens a connection ahead of the request that will need it.
    pub(crate) fn open_ahead(&self) -> Result<(), ClientError> {
        self.keep(Some(Conn::new(self.endpoint.connect()?)));
        Ok(())
    }

    /// Gives a connection back, if it can carry another request.
    pub(crate) fn keep(&self, conn: Option<Conn>) {
        if let (Some(conn), Ok(mut idle)) = (conn, self.idle.lock())
            && idle.len() < MAX_IDLE
        {
            idle.push(conn);
        }
    }

    /// Drops what is left of a small answer and keeps the connection.
    pub(crate) fn discard(&self, mut response: Response) {
        if response.body.collect().is_ok() {
            self.keep(response.body.recycle());
        }
    }
}

/// Whether the connection itself is wanted after the answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    No,
    Welcome,
    Needed,
}

/// One request being described.
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: &'a str,
    path: String,
    query: String,
    fields: Vec<(&'a str, String)>,
    payload: Payload<'a>,
    upgrade: Upgrade,
    versioned: bool,
}

impl<'a> Call<'a> {
    /// Adds `name=value` to the query.
    pub(crate) fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&escape(value.as_ref()));
        self
    }

    /// Adds `name=value` if there is a value.
    pub(crate) fn query_some(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.query(name, value) }
    }

    /// Adds `name=1` if `on`.
    pub(crate) fn flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    pub(crate) fn field(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(crate) fn stream(mut self, content_type: &'a str, reader: Box<dyn std::io::Read + Send>) -> Self {
        self.payload = Payload::Stream { content_type, reader: Some(reader) };
        self
    }

    /// Asks for the connection itself after the answer's head.
    pub(crate) fn hijack(mut self) -> Self {
        self.upgrade = Upgrade::Needed;
        self
    }

    /// As [`Self::hijack`]; an ordinary answer is as good.
    pub(crate) fn hijack_if_offered(mut self) -> Self {
        self.upgrade = Upgrade::Welcome;
        self
    }

    pub(crate) fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    /// With a JSON body.
    pub(crate) fn body<'b>(self, bytes: &'b [u8]) -> Call<'b>
    where
        'a: 'b,
    {
        Call { payload: Payload::Bytes { content_type: "application/json", bytes }, ..self }
    }

    /// Sends a JSON body and returns the response.
    pub(crate) fn send_json<T: Serialize>(self, value: &T) -> Result<Response, ClientError> {
        let bytes = self.encode(value)?;
        self.body(&bytes).send()
    }

    /// A body for [`Self::body`].
    pub(crate) fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(value).map_err(|source| ClientError::Decode { path: self.path.clone(), source })
    }

    /// Sends, and decodes the JSON answer.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let (client, path) = (self.client, self.path.clone());
        let response = self.send()?;
        decode(client, path, response)
    }

    /// Sends a JSON body and decodes the JSON answer.
    pub(crate) fn exchange_json<B: Serialize, T: DeserializeOwned>(self, body: &B) -> Result<T, ClientError> {
        let (client, path) = (self.client, self.path.clone());
        let response = self.send_json(body)?;
        decode(client, path, response)
    }

    /// Sends, and reads the whole answer.
    pub(crate) fn bytes(self) -> Result<Vec<u8>, ClientError> {
        let client = self.client;
        let (method, path) = (self.method.to_owned(), self.path.clone());
        let mut response = self.send()?;
        let bytes = response.body.collect().map_err(|source| ClientError::Http { method, path, source })?;
        client.keep(response.body.recycle());
        Ok(bytes)
    }

    /// Sends, and wants no more than success.
    pub(crate) fn done(self) -> Result<(), ClientError> {
        let client = self.client;
        let response = self.send()?;
        client.discard(response);
        Ok(())
    }

    /// Sends and returns the answer's head with the body unread. Statuses from 400 on are errors.
    pub(crate) fn send(mut self) -> Result<Response, ClientError> {
        if self.versioned && !self.payload.replayable() {
            self.client.negotiate()?;
        }
        loop {
            let spoken = self.client.version();
            let response = self.attempt()?;
            if response.head.status < 400 {
                return self.accept(response);
            }
            let theirs = response.head.field("Api-Version").and_then(ApiVersion::parse);
            let refusal = refusal(self.client, spoken, response);
            if !self.stepped_down(spoken, theirs, &refusal) {
                return Err(refusal);
            }
        }
    }

    fn accept(&self, response: Response) -> Result<Response, ClientError> {
        if self.versioned {
            self.client.agreed.store(true, Ordering::Relaxed);
        }
        if self.upgrade == Upgrade::Needed && !matches!(response.head.status, 101 | 200) {
            return Err(ClientError::NotUpgraded { status: response.head.status });
        }
        Ok(response)
    }

    /// Whether the refusal was only about our version, and an older one is worth an attempt.
    ///
    /// A refusal of `HEAD` has no text, so the header is believed as well; and another thread may
    /// have stepped down already.
    fn stepped_down(&self, spoken: ApiVersion, theirs: Option<ApiVersion>, refusal: &ClientError) -> bool {
        let ClientError::Daemon { status: 400, message } = refusal else { return false };
        let named = message
            .split_once("is too new. Maximum supported API version is ")
            .and_then(|(_, version)| ApiVersion::parse(version));
        let named = if self.method == "HEAD" { named.or(theirs) } else { named };
        let Some(named) = named.filter(|v| self.versioned && self.payload.replayable() && *v < spoken) else {
            return false;
        };
        self.client.set_version(named);
        true
    }

    /// One attempt; a kept-alive connection that the server has closed meanwhile is replaced.
    fn attempt(&mut self) -> Result<Response, ClientError> {
        loop {
            let mut conn = self.client.connection()?;
            let reused = conn.reused;
            let outcome = match self.send_on(&mut conn) {
                Ok(()) => self.receive(conn),
                Err(e) => Err(e),
            };
            match outcome {
                Err(HttpError::Closed) if reused && self.payload.replayable() => {}
                Ok(response) => return Ok(response),
                Err(source) => return Err(self.http_error(source)),
            }
        }
    }

    fn http_error(&self, source: HttpError) -> ClientError {
        ClientError::Http { method: self.method.to_owned(), path: self.path.clone(), source }
    }

    /// Writes the request to a connection of the caller's choice (see `commands::run`).
    pub(crate) fn send_on(&mut self, conn: &mut Conn) -> Result<(), HttpError> {
        let target = self.target();
        let fields: Vec<(&str, &str)> = self.fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let payload = std::mem::replace(&mut self.payload, Payload::None);
        let mut request = Request {
            method: self.method,
            target: &target,
            fields: &fields,
            hijack: self.upgrade != Upgrade::No,
            payload,
        };
        let sent = request.send(conn);
        self.payload = request.payload;
        sent
    }

    fn receive(&self, conn: Conn) -> Result<Response, HttpError> {
        let target = String::new();
        Request {
            method: self.method,
            target: &target,
            fields: &[],
            hijack: self.upgrade != Upgrade::No,
            payload: Payload::None,
        }
        .receive(conn)
    }

    /// The other half of [`Self::send_on`]; statuses from 400 on are errors.
    pub(crate) fn receive_on(&self, conn: Conn) -> Result<Response, ClientError> {
        let response = self.receive(conn).map_err(|e| self.http_error(e))?;
        if response.head.status >= 400 {
            return Err(refusal(self.client, self.client.version(), response));
        }
        self.accept(response)
    }

    /// As [`Self::receive_on`], and decodes the JSON answer.
    pub(crate) fn json_on<T: DeserializeOwned>(self, conn: Conn) -> Result<T, ClientError> {
        let response = self.receive_on(conn)?;
        decode(self.client, self.path, response)
    }

    fn target(&self) -> String {
        if self.versioned {
            format!("/v{}{}{}", self.client.version(), self.path, self.query)
        } else {
            format!("{}{}", self.path, self.query)
        }
    }
}

/// Decodes the JSON body of an answer.
pub(crate) fn decode<T: DeserializeOwned>(
    client: &Client,
    path: String,
    mut response: Response,
) -> Result<T, ClientError> {
    let bytes = response.body.collect().map_err(|source| ClientError::Http {
        method: "reading".to_owned(),
        path: path.clone(),
        source,
    })?;
    client.keep(response.body.recycle());
    serde_json::from_slice(&bytes).map_err(|source| ClientError::Decode { path, source })
}

/// Turns an answer with an error status into the error it tells of.
fn refusal(client: &Client, version: ApiVersion, mut response: Response) -> ClientError {
    let body = response.body.collect().unwrap_or_default();
    let head = response.head;
    client.keep(response.body.recycle());
    ClientError::Daemon { status: head.status, message: refusal_text(&head, version, &body) }
}

fn refusal_text(head: &Head, version: ApiVersion, body: &[u8]) -> String {
    if let Ok(body) = serde_json::from_slice::<seacow_spec::docker::ErrorBody>(body) {
        return body.message.trim().to_owned();
    }
    let text = String::from_utf8_lossy(body).trim().to_owned();
    if text.is_empty() {
        return format!(
            "request returned {} {} for API version {version}, check if the server supports the requested API version",
            head.status, head.reason
        );
    }
    text
}

/// Percent-encodes one query value or path segment.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Percent-encodes a name that may contain slashes (image references).
pub(crate) fn escape_path(text: &str) -> String {
    text.split('/').map(escape).collect::<Vec<_>>().join("/").replace("%3A", ":").replace("%40", "@")
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod conversations;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping() {
        assert_eq!(escape("a b/c=ü"), "a%20b%2Fc%3D%C3%BC");
        assert_eq!(escape_path("localhost:5000/a b@sha256:1"), "localhost:5000/a%20b@sha256:1");
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(ApiVersion::parse("1.9") < ApiVersion::parse("1.41"));
        assert_eq!(ApiVersion::newest().to_string(), seacow_spec::docker::API_VERSION);
    }
}
