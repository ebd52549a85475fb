//! The client against registries that authenticate, redirect, break off and lie. They are servers of this
//! test, on the loopback; a real registry is the other end of the end-to-end tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use seacow_registry::{Client, Credentials, Platform, RegistryError, Resolved, Settings};
use seacow_spec::Digest;
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SECRET: &str = "open-sesame";

/// A request as it came.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Reply {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    cut: Option<usize>,
}

fn reply(status: &'static str, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into(), cut: None }
}

impl Reply {
    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Makes something else of an honest reply.
type Liar = Box<dyn Fn(&Asked, Reply) -> Reply + Send + Sync>;

/// A server and what it was asked.
struct Server {
    host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Serves until the test's process ends.
    fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                std::thread::spawn(move || while serve(&stream, &noted, &*answer) {});
            }
        });
        Self { host, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path.contains(what)).count()
    }
}

/// One request; tells whether the connection goes on.
fn serve(stream: &TcpStream, noted: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply) -> bool {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return false;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return false };
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let asked = Asked { method, path, headers };
    noted.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    let mut head = format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut out = stream;
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    let sent = out.write_all(head.as_bytes()).and_then(|()| out.write_all(body));
    if reply.cut.is_some() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return false;
    }
    sent.is_ok()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// An image of one layer.
#[derive(Clone)]
struct Image {
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    fn new(name: &str) -> Self {
        let config =
            format!(r#"{{"name":"{name}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#).into_bytes();
        let layer: Vec<u8> = (0..300_000_u32).flat_map(|n| (n ^ name.len() as u32).to_le_bytes()).collect();
        let described = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": digest(bytes).to_string(), "size": bytes.len()});
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": [described("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        Self { config, layer, manifest: manifest.to_string().into_bytes() }
    }

    /// Answers as a registry that lets everybody in.
    fn answer(&self, asked: &Asked) -> Reply {
        let last = asked.path.split('?').next().unwrap().rsplit('/').next().unwrap();
        for (bytes, kind) in [
            (&self.config, "application/octet-stream"),
            (&self.layer, "application/octet-stream"),
            (&self.manifest, MANIFEST),
        ] {
            if last == digest(bytes).as_str() || (kind == MANIFEST && last == "1") {
                let from = asked.header("range").trim_start_matches("bytes=").trim_end_matches('-');
                return match from.parse::<usize>() {
                    Ok(from) => reply("206 Partial Content", &bytes[from..]),
                    Err(_) => reply("200 OK", bytes.as_slice()).with("Content-Type", kind),
                };
            }
        }
        let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        reply("404 Not Found", unknown)
    }
}

fn linux() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() }
}

fn block<T>(work: impl std::future::Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Resolves `HOST/a/b:1` and reads its layer.
fn pull(host: &str, settings: &Settings, who: &Credentials) -> Result<(Resolved, Vec<u8>), RegistryError> {
    pull_named(&format!("{host}/a/b:1"), settings, who)
}

fn pull_named(
    name: &str,
    settings: &Settings,
    who: &Credentials,
) -> Result<(Resolved, Vec<u8>), RegistryError> {
    block(async {
        let (client, resolved) = Client::resolve(&name.parse().unwrap(), &linux(), settings, who).await?;
        let mut pieces = std::pin::pin!(client.blob(&resolved.manifest.layers[0]).pieces());
        let mut layer = Vec::new();
        while let Some(piece) = pieces.next().await {
            layer.extend_from_slice(&piece?);
        }
        Ok((resolved, layer))
    })
}

fn user(password: &str) -> Credentials {
    Credentials { username: "me".into(), password: password.into(), ..Credentials::default() }
}

#[test]
fn tokens_are_got_with_a_password_and_used_again() {
    let image = Image::new("tokens");
    let home: Arc<Mutex<String>> = Arc::default();
    let realm = Arc::clone(&home);
    let whole = image.clone();
    let server = Server::start(move |asked| {
        if asked.path.starts_with("/token") {
            let expected = "/token?service=the%20registry&scope=repository%3Aa%2Fb%3Apull&account=me";
            assert_eq!(asked.path, expected);
            // me:open-sesame
            return match asked.header("authorization") {
                "Basic bWU6b3Blbi1zZXNhbWU=" => reply("200 OK", r#"{"token":"T1","expires_in":300}"#),
                _ => reply("401 Unauthorized", r#"{"details":"incorrect username or password"}"#),
            };
        }
        if asked.header("authorization") == "Bearer T1" {
            return whole.answer(asked);
        }
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"the registry\",scope=\"whatever\"",
            realm.lock().unwrap()
        );
        reply(
            "401 Unauthorized",
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
        )
        .with("WWW-Authenticate", challenge)
    });
    home.lock().unwrap().clone_from(&server.host);
    let (resolved, layer) = pull(&server.host, &Settings::default(), &user(SECRET)).unwrap();
    assert_eq!((resolved.config, layer), (image.config, image.layer));
    assert_eq!(resolved.digest, digest(&image.manifest));
    assert_eq!(server.count("/token"), 1);
    let error = pull(&server.host, &Settings::default(), &user("wrong-one")).unwrap_err().to_string();
    assert!(error.contains("unauthorized: incorrect username or password"), "{error}");
    assert!(!error.contains("wrong-one"), "{error}");
}

#[test]
fn a_password_goes_where_it_belongs_and_nowhere_else() {
    let image = Image::new("basic");
    let elsewhere = image.clone();
    // Where the blobs are knows nothing of the registry's passwords, and must not learn them.
    let blobs = Server::start(move |asked| elsewhere.answer(asked));
    let (place, whole) = (blobs.host.clone(), image.clone());
    let server = Server::start(move |asked| {
        if !asked.header("authorization").starts_with("Basic ") {
            return reply("401 Unauthorized", "").with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if asked.path.contains("/blobs/") {
            let name = asked.path.rsplit('/').next().unwrap();
            let location = format!("http://{place}/bucket/{name}?signature=s");
            return reply("307 Temporary Redirect", "").with("Location", location);
        }
        whole.answer(asked)
    });
    let (_, layer) = pull(&server.host, &Settings::default(), &user(SECRET)).unwrap();
    assert_eq!(layer, image.layer);
    assert_eq!(blobs.count("/bucket/"), 2);
    assert!(
        blobs.asked().iter().all(|asked| asked.header("authorization").is_empty() && asked.method == "GET")
    );
    // Without a password, and with one that is refused.
    let error = pull(&server.host, &Settings::default(), &Credentials::default()).unwrap_err().to_string();
    assert!(error.contains("no basic auth credentials"), "{error}");
}

#[test]
fn what_breaks_off_is_taken_up_again() {
    for ranges in [true, false] {
        let image = Image::new("broken");
        let (whole, times) = (image.clone(), Mutex::new(0));
        let server = Server::start(move |asked| {
            let is_layer = asked.path.ends_with(digest(&whole.layer).as_str());
            let mut plain = asked.clone();
            if !ranges {
                plain.headers.remove("range");
            }
            let mut reply = whole.answer(&plain);
            let mut times = times.lock().unwrap();
            if is_layer && *times < 3 {
                *times += 1;
                reply.cut = Some(100_000 * *times);
            }
            reply
        });
        let (_, layer) = pull(&server.host, &Settings::default(), &Credentials::default()).unwrap();
        assert!(layer == image.layer, "ranges: {ranges}");
        assert_eq!(server.count(digest(&image.layer).as_str()), 4);
    }
}

#[test]
fn lies_are_found_out() {
    let image = Image::new("lies");
    let error = |answer: Liar| {
        let whole = image.clone();
        let server = Server::start(move |asked| answer(asked, whole.answer(asked)));
        pull(&server.host, &Settings::default(), &Credentials::default()).unwrap_err()
    };
    let is_layer = {
        let name = digest(&image.layer);
        move |asked: &Asked| asked.path.ends_with(name.as_str())
    };
    let layer = is_layer.clone();
    let changed = error(Box::new(move |asked, mut reply| {
        if layer(asked) {
            reply.body[7] ^= 1;
        }
        reply
    }));
    assert!(
        matches!(&changed, RegistryError::WrongDigest { what, .. } if what.starts_with("blob ")),
        "{changed}"
    );
    let layer = is_layer.clone();
    let longer = error(Box::new(move |asked, mut reply| {
        if layer(asked) {
            reply.body.extend([0; 10]);
        }
        reply
    }));
    assert!(matches!(longer, RegistryError::WrongSize { .. }), "{longer}");
    let promised =
        error(Box::new(|_, reply| reply.with("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64)))));
    assert!(matches!(promised, RegistryError::WrongDigest { .. }), "{promised}");
    let huge = error(Box::new(|asked, mut reply| {
        if asked.path.contains("/manifests/") {
            reply.body = vec![b' '; 5 << 20];
        }
        reply
    }));
    assert!(huge.to_string().contains("more than 4194304 bytes"), "{huge}");
    let circle = error(Box::new(|asked, _| reply("302 Found", "").with("Location", asked.path.clone())));
    assert!(circle.to_string().contains("stopped after 10 redirects"), "{circle}");
    let file = error(Box::new(|_, _| reply("302 Found", "").with("Location", "file:///etc/passwd")));
    assert!(file.to_string().starts_with("the address file:///etc/passwd"), "{file}");
    let many = error(Box::new(|_, _| {
        reply(
            "429 Too Many Requests",
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#,
        )
    }));
    assert_eq!(many.to_string(), "toomanyrequests: You have reached your pull rate limit.");
    let denied = error(Box::new(|_, _| {
        reply(
            "403 Forbidden",
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
        )
    }));
    assert!(denied.to_string().contains("may require 'docker login': denied: requested access"), "{denied}");
}

#[test]
fn an_index_leads_to_the_image_for_this_machine() {
    let image = Image::new("index");
    let entry = |bytes: &[u8], os: &str, architecture: &str| {
        serde_json::json!({"mediaType": MANIFEST, "digest": digest(bytes).to_string(), "size": bytes.len(),
            "platform": {"os": os, "architecture": architecture}})
    };
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        entry(b"attestation", "unknown", "unknown"), entry(b"arm", "linux", "arm64"),
        entry(&image.manifest, "linux", "amd64"),
    ]});
    let (index, whole) = (index.to_string().into_bytes(), image.clone());
    let sent = index.clone();
    let server = Server::start(move |asked| match asked.path.ends_with("/manifests/1") {
        true => reply("200 OK", sent.clone()).with("Content-Type", INDEX),
        false => whole.answer(asked),
    });
    let (resolved, _) = pull(&server.host, &Settings::default(), &Credentials::default()).unwrap();
    assert_eq!((resolved.digest, resolved.manifest_bytes), (digest(&index), image.manifest));
}

#[test]
fn a_mirror_is_asked_first_and_told_nothing() {
    let (image, other) = (Image::new("mirrored"), Image::new("the registry's own"));
    let whole = image.clone();
    let mirror = Server::start(move |asked| whole.answer(asked));
    let empty = Server::start(|_| reply("404 Not Found", ""));
    let whole = other.clone();
    let registry = Server::start(move |asked| match asked.header("authorization") {
        "" => reply("401 Unauthorized", "").with("WWW-Authenticate", "Basic realm=x"),
        _ => whole.answer(asked),
    });
    let mut settings = Settings::default();
    settings.mirrors.insert(registry.host.clone(), vec![format!("http://{}", mirror.host)]);
    let (_, layer) = pull(&registry.host, &settings, &user(SECRET)).unwrap();
    assert!(layer == image.layer && registry.asked().is_empty());
    settings.mirrors.insert(registry.host.clone(), vec![format!("http://{}", empty.host)]);
    let (_, layer) = pull(&registry.host, &settings, &user(SECRET)).unwrap();
    assert!(layer == other.layer);
    assert!(
        mirror.asked().iter().chain(&empty.asked()).all(|asked| asked.header("authorization").is_empty())
    );
    let error = pull_named("127.0.0.1:1/a/b:1", &Settings::default(), &Credentials::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"http://127.0.0.1:1/v2/a/b/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
}
