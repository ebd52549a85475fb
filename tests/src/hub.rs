//! A stand-in for Docker Hub: tokens from another host, blobs at a third one, limits, an index with attestations,
//! names below `library/`. It has one account, `ann` with the password `secret`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::{Engine, busybox_tar, sh};

const REGISTRY: &str = "registry-1.docker.io";
const TOKENS: &str = "auth.docker.io";
const CONTENT: &str = "production.cloudflare.docker.com";
const INDEX_HOST: &str = "index.docker.io";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `ann:secret`.
const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// Starts within this process so far, to tell several of them apart.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A request that came.
#[derive(Clone, Debug)]
pub struct HubAsked {
    /// `GET`.
    pub method: String,
    /// To which of the hosts.
    pub host: String,
    /// With its query.
    pub path: String,
    /// What was shown.
    pub authorization: String,
    body: Vec<u8>,
}

#[derive(Default)]
struct State {
    asked: Vec<HubAsked>,
    blobs: HashMap<String, Vec<u8>>,
    /// By repository and tag or digest: kind and bytes.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    /// How many requests for manifests are turned away.
    busy: u32,
}

/// The stand-in; serves until the test's process ends.
pub struct Hub {
    state: Arc<Mutex<State>>,
    address: Ipv4Addr,
}

struct Reply {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn reply(status: &'static str, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into() }
}

impl Reply {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Hub {
    /// Starts it on an address of the loopback that only this process has.
    pub fn start() -> Self {
        let id = std::process::id() * 8 + STARTED.fetch_add(1, Ordering::Relaxed) % 8;
        let byte = |shift: u32| u8::try_from(id >> shift & 0xff).unwrap();
        let address = Ipv4Addr::new(127, 1 + byte(16) % 254, byte(8), byte(0));
        let listener = TcpListener::bind((address, 80)).unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || while serve(&stream, &state).is_some() {});
            }
        });
        Self { state, address }
    }

    /// An engine that takes this for Docker Hub: it has a file of hosts of its own.
    pub fn engine(&self) -> Engine {
        let hosts = std::env::temp_dir().join(format!("seacow-hub-{}", self.address));
        let names = [REGISTRY, TOKENS, CONTENT, INDEX_HOST].join(" ");
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{} {names}\n", self.address)).unwrap();
        let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
        let flags = [REGISTRY, INDEX_HOST].map(|host| format!("--insecure-registry={host}"));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let engine = Engine::start_through(&["unshare", "--mount", "sh", "-c", &script], &flags);
        std::fs::remove_file(hosts).unwrap();
        engine
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<HubAsked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Turns so many requests for manifests away, with a time after which to come again.
    pub fn be_busy(&self, times: u32) {
        self.state.lock().unwrap().busy = times;
    }

    /// What is under a tag.
    pub fn manifest(&self, repository: &str, tag: &str) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        state.manifests.get(&(repository.to_owned(), tag.to_owned())).map(|(_, bytes)| bytes.clone())
    }

    /// Puts busybox into a repository, as an index with an attestation beside the image; gives the digest of the index
    /// and that of the image's manifest.
    pub fn publish(&self, repository: &str, tag: &str) -> (String, String) {
        let mut state = self.state.lock().unwrap();
        let tar = std::fs::read(busybox_tar()).unwrap();
        let packed = sh_bytes(&format!("gzip -nc {}", busybox_tar().display()));
        let config = json!({
            "architecture": go_arch(), "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&tar)]},
        });
        let image =
            state.manifest(repository, &config, "application/vnd.oci.image.layer.v1.tar+gzip", packed);
        let statement =
            state.manifest(repository, &json!({}), "application/vnd.in-toto+json", b"{}".to_vec());
        let entry = |digest: &str, size: usize, os: &str, architecture: &str| {
            json!({"mediaType": MANIFEST, "digest": digest, "size": size,
                   "platform": {"os": os, "architecture": architecture}})
        };
        let mut attestation = entry(&statement.0, statement.1, "unknown", "unknown");
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.0});
        let ours = entry(&image.0, image.1, "linux", go_arch());
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [attestation, ours]});
        let index = index.to_string().into_bytes();
        let digest = sha256(&index);
        for target in [tag, &digest] {
            state.manifests.insert((repository.into(), target.into()), (INDEX.into(), index.clone()));
        }
        (digest, image.0)
    }
}

impl State {
    fn manifest(&mut self, repository: &str, config: &Value, kind: &str, layer: Vec<u8>) -> (String, usize) {
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(&config), "size": config.len()},
            "layers": [{"mediaType": kind, "digest": sha256(&layer), "size": layer.len()}],
        });
        for blob in [config, layer] {
            self.blobs.insert(sha256(&blob), blob);
        }
        let bytes = manifest.to_string().into_bytes();
        let (digest, size) = (sha256(&bytes), bytes.len());
        self.manifests.insert((repository.into(), digest.clone()), (MANIFEST.into(), bytes));
        (digest, size)
    }

    fn answer(&mut self, asked: &HubAsked) -> Reply {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        match asked.host.as_str() {
            TOKENS => token(asked, query),
            CONTENT => self.content(asked, path),
            INDEX_HOST => search(query),
            REGISTRY => self.registry(asked, path, query),
            other => reply("404 Not Found", format!("who is {other}?")),
        }
    }

    fn content(&self, asked: &HubAsked, path: &str) -> Reply {
        if !asked.authorization.is_empty() {
            return reply("400 Bad Request", "only one auth mechanism is allowed");
        }
        match self.blobs.get(path.trim_start_matches('/')) {
            Some(blob) => reply("200 OK", blob.clone()),
            None => reply("404 Not Found", ""),
        }
    }

    fn registry(&mut self, asked: &HubAsked, path: &str, query: &str) -> Reply {
        let Some(token) = asked.authorization.strip_prefix("Bearer ") else { return challenge() };
        let rest = path.trim_start_matches("/v2/");
        if rest.is_empty() {
            return reply("200 OK", "{}");
        }
        let (repository, what) = split(rest);
        let needed = if matches!(asked.method.as_str(), "GET" | "HEAD") { "pull" } else { "push" };
        if !token.split('+').any(|granted| granted == format!("{needed}:{repository}")) {
            return complaint("403 Forbidden", "DENIED", "requested access to the resource is denied");
        }
        match (asked.method.as_str(), what) {
            ("GET" | "HEAD", What::Manifest(target)) => {
                if self.busy > 0 {
                    self.busy -= 1;
                    let text = "You have reached your unauthenticated pull rate limit.";
                    return complaint("429 Too Many Requests", "TOOMANYREQUESTS", text)
                        .with("Retry-After", "1");
                }
                match self.manifests.get(&(repository.to_owned(), target.to_owned())) {
                    Some((kind, bytes)) => reply("200 OK", bytes.clone()).with("Content-Type", kind),
                    None => complaint("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
                }
            }
            ("PUT", What::Manifest(target)) => {
                let kept = (MANIFEST.to_owned(), asked.body.clone());
                self.manifests.insert((repository.to_owned(), sha256(&asked.body)), kept.clone());
                self.manifests.insert((repository.to_owned(), target.to_owned()), kept);
                reply("201 Created", "")
            }
            ("HEAD", What::Blob(digest)) if self.blobs.contains_key(digest) => reply("200 OK", ""),
            ("GET", What::Blob(digest)) if self.blobs.contains_key(digest) => {
                reply("307 Temporary Redirect", "")
                    .with("Location", format!("http://{CONTENT}/{digest}?signature=x"))
            }
            (_, What::Blob(_)) => complaint("404 Not Found", "BLOB_UNKNOWN", "blob unknown to registry"),
            ("POST", What::Upload(_)) => {
                let id = self.uploads.len().to_string();
                self.uploads.insert(id.clone(), Vec::new());
                reply("202 Accepted", "").with("Location", format!("/v2/{repository}/blobs/uploads/{id}"))
            }
            ("PATCH" | "PUT", What::Upload(id)) => {
                let Some(mut upload) = self.uploads.remove(id) else { return reply("404 Not Found", "") };
                upload.extend_from_slice(&asked.body);
                if let Some(digest) = query.strip_prefix("digest=") {
                    let digest = digest.replace("%3A", ":");
                    if sha256(&upload) != digest {
                        return complaint("400 Bad Request", "DIGEST_INVALID", "wrong digest");
                    }
                    self.blobs.insert(digest, upload);
                    return reply("201 Created", "");
                }
                let range = format!("0-{}", upload.len().max(1) - 1);
                self.uploads.insert(id.to_owned(), upload);
                reply("202 Accepted", "").with("Location", path).with("Range", range)
            }
            _ => reply("404 Not Found", ""),
        }
    }
}

enum What<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Upload(&'a str),
}

fn split(path: &str) -> (&str, What<'_>) {
    if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
        return (repository, What::Upload(id));
    }
    if let Some((repository, digest)) = path.split_once("/blobs/") {
        return (repository, What::Blob(digest));
    }
    let (repository, target) = path.split_once("/manifests/").unwrap_or((path, ""));
    (repository, What::Manifest(target))
}

/// What is granted: everybody may pull what is public, ann also what is hers, and push it.
fn token(asked: &HubAsked, query: &str) -> Reply {
    let is_ann = match asked.authorization.as_str() {
        "" => false,
        ANN => true,
        _ => return reply("401 Unauthorized", r#"{"details":"incorrect username or password"}"#),
    };
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let mut granted = vec!["token".to_owned()];
    for scope in scopes {
        let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let mut parts = scope.split(':').skip(1);
        let (repository, actions) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        for action in actions.split(',') {
            let hers = is_ann && repository.starts_with("ann/");
            if hers || (action == "pull" && !repository.starts_with("ann/")) {
                granted.push(format!("{action}:{repository}"));
            }
        }
    }
    reply("200 OK", json!({"token": granted.join("+"), "expires_in": 300}).to_string())
}

fn search(query: &str) -> Reply {
    let results = json!([
        {"name": "bb", "description": "all in one", "star_count": 7, "is_official": true, "is_automated": false},
        {"name": "ann/bb", "description": null, "star_count": 1, "is_official": false, "is_automated": false},
    ]);
    if !query.starts_with("q=bb") {
        return reply("200 OK", json!({"num_results": 0, "results": null}).to_string());
    }
    reply("200 OK", json!({"num_results": 2, "results": results}).to_string())
}

fn challenge() -> Reply {
    let wanted = format!("Bearer realm=\"http://{TOKENS}/token\",service=\"registry.docker.io\"");
    complaint("401 Unauthorized", "UNAUTHORIZED", "authentication required").with("WWW-Authenticate", wanted)
}

fn complaint(status: &'static str, code: &str, message: &str) -> Reply {
    reply(status, json!({"errors": [{"code": code, "message": message}]}).to_string())
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let (first, rest) = lines.split_first()?;
    let mut words = first.split(' ').map(str::to_owned);
    let headers: HashMap<String, String> = rest
        .iter()
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
        .collect();
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let asked = HubAsked {
        method: words.next()?,
        path: words.next()?,
        host: header("host"),
        authorization: header("authorization"),
        body: body(&mut reader, &header("content-length"), &header("transfer-encoding"))?,
    };
    let answer = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        state.answer(&asked)
    };
    let mut head = format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut out = stream;
    out.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if asked.method == "HEAD" { Some(()) } else { out.write_all(&answer.body).ok() }
}

fn body(reader: &mut BufReader<&TcpStream>, length: &str, encoding: &str) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if encoding != "chunked" {
        reader.take(length.parse().unwrap_or(0)).read_to_end(&mut body).ok()?;
        return Some(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let len = u64::from_str_radix(line.trim(), 16).ok()?;
        reader.take(len).read_to_end(&mut body).ok()?;
        reader.read_line(&mut line).ok()?;
        if len == 0 {
            return Some(body);
        }
    }
}

fn sh_bytes(script: &str) -> Vec<u8> {
    Command::new("sh").args(["-ec", script]).output().unwrap().stdout
}

fn sha256(bytes: &[u8]) -> String {
    // One name per thread and process: several tests hash at once.
    let name = format!("seacow-hub-{}-{:?}", std::process::id(), std::thread::current().id());
    let file: PathBuf = std::env::temp_dir().join(name.replace(['(', ')'], "-"));
    std::fs::write(&file, bytes).unwrap();
    let sum = sh(&std::env::temp_dir(), &format!("sha256sum < {}", file.display()));
    std::fs::remove_file(file).unwrap();
    format!("sha256:{}", sum.split(' ').next().unwrap())
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
