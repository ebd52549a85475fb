//! A server of the test's own, and requests to it.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use seacow_registry::server::{MAX_BLOB, Server, ServerConfig};
use seacow_spec::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// A registry in a directory of its own.
pub(crate) struct Lab {
    pub(crate) server: Option<Server>,
    pub(crate) config: ServerConfig,
    pub(crate) _dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts a refusal with a code of the specification.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["errors"][0]["code"], code, "{self:?}");
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {}", String::from_utf8_lossy(&self.body), self.status);
        self
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ServerConfig, &std::path::Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            root: dir.path().join("registry"),
            read_only: false,
            htpasswd: None,
            tls: None,
            max_blob: MAX_BLOB,
        };
        change(&mut config, dir.path());
        let server = Server::start(config.clone()).unwrap();
        Self { server: Some(server), config, _dir: dir }
    }

    /// Stops it and starts it again, otherwise if wanted.
    pub(crate) fn restart(&mut self, change: impl FnOnce(&mut ServerConfig)) {
        self.server = None;
        change(&mut self.config);
        self.server = Some(Server::start(self.config.clone()).unwrap());
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn host(&self) -> String {
        self.server().address().to_string()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server().address()).unwrap()
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host());
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if !headers.iter().any(|header| header.starts_with("Content-Length")) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses at once need not read it.
        let _ = stream.write_all(body);
        answer(&stream, method == "HEAD")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], &[])
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        self.ask("HEAD", path, &[], &[])
    }

    /// Begins an upload; gives its place.
    pub(crate) fn begin(&self, name: &str) -> String {
        let begun = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], &[]).is(202);
        begun.header("location").to_owned()
    }

    /// Uploads a blob in one request.
    pub(crate) fn blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        self.ask("POST", &path, &["Content-Type: application/octet-stream"], bytes).is(201);
        digest
    }

    pub(crate) fn put_manifest(&self, name: &str, target: &str, kind: &str, bytes: &[u8]) -> Answer {
        let kind = format!("Content-Type: {kind}");
        self.ask("PUT", &format!("/v2/{name}/manifests/{target}"), &[&kind], bytes)
    }

    /// Uploads an image of one layer under a tag; gives its manifest.
    pub(crate) fn image(&self, name: &str, tag: &str, layer: &[u8]) -> Vec<u8> {
        let manifest = self.manifest_of(name, layer).to_string().into_bytes();
        self.put_manifest(name, tag, MANIFEST, &manifest).is(201);
        manifest
    }

    /// Uploads what an image is made of; gives the manifest that it is to have.
    pub(crate) fn manifest_of(&self, name: &str, layer: &[u8]) -> Value {
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
        let config = config.to_string().into_bytes();
        let (layer_digest, config_digest) = (self.blob(name, layer), self.blob(name, &config));
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": layer_digest, "size": layer.len()}],
        })
    }
}

/// Reads an answer to its end.
pub(crate) fn answer(stream: &TcpStream, is_head: bool) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}")).parse().unwrap();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if !is_head {
        reader.read_to_end(&mut body).unwrap();
        if headers.get("transfer-encoding").is_some_and(|how| how == "chunked") {
            body = unchunked(&body);
        }
    }
    Answer { status, headers, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return out;
        }
        out.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 4 + len..];
    }
}
