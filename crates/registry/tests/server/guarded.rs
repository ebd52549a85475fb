//! Passwords, TLS, read-only, bounds, and requests that nobody sends in earnest.

use std::io::{Read as _, Write as _};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seacow_registry::server::{Server, ServerError, TlsFiles};

use crate::wire::{Lab, MANIFEST, answer, digest};

/// `myPassword`.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW";
const BYTES: &str = "Content-Type: application/octet-stream";

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[test]
fn nobody_without_a_password() {
    let lab = Lab::with(|config, dir| {
        let file = dir.join("htpasswd");
        std::fs::write(&file, format!("ann:{HASH}\n")).unwrap();
        config.htpasswd = Some(file);
    });
    let (right, wrong) = (basic("ann", "myPassword"), basic("ann", "mypassword"));
    for path in ["/v2/", "/v2/a/manifests/v1", "/v2/_catalog", "/nowhere"] {
        let refused = lab.get(path);
        refused.refuses(401, "UNAUTHORIZED");
        assert_eq!(refused.header("www-authenticate"), "Basic realm=\"seacow registry\"");
    }
    for header in
        [wrong.as_str(), &basic("bob", "myPassword"), "Authorization: Bearer x", "Authorization: Basic !"]
    {
        lab.ask("GET", "/v2/", &[header], &[]).refuses(401, "UNAUTHORIZED");
    }
    // Known again without a try, and no less strict for it.
    for _ in 0..2 {
        lab.ask("GET", "/v2/", &[&right], &[]).is(200);
        lab.ask("GET", "/v2/", &[&wrong], &[]).is(401);
    }
    lab.ask("POST", "/v2/a/blobs/uploads/", &[], &[]).is(401);
    lab.ask("POST", "/v2/a/blobs/uploads/", &[&right], &[]).is(202);
    // The file is read again when it changes.
    std::fs::write(lab.config.htpasswd.as_ref().unwrap(), format!("# nobody but bob\nbob:{HASH}\n")).unwrap();
    lab.ask("GET", "/v2/", &[&right], &[]).is(401);
    lab.ask("GET", "/v2/", &[&basic("bob", "myPassword")], &[]).is(200);
}

#[test]
fn a_file_that_is_none_keeps_the_server_from_starting() {
    let lab = Lab::new();
    let file = lab.config.root.join("htpasswd");
    let mut config = lab.config.clone();
    config.root = lab.config.root.join("other");
    config.htpasswd = Some(file.clone());
    assert!(matches!(Server::start(config.clone()), Err(ServerError::Io { .. })));
    std::fs::write(&file, "ann:{SHA}xyz\n").unwrap();
    let error = Server::start(config).err().unwrap().to_string();
    assert!(error.ends_with("htpasswd, line 1: its hash is not one of bcrypt (htpasswd -B)"), "{error}");
}

#[test]
fn read_only_is() {
    let mut lab = Lab::new();
    let manifest = lab.image("a", "v1", b"layer");
    lab.restart(|config| config.read_only = true);
    assert_eq!(lab.get("/v2/a/manifests/v1").is(200).body, manifest);
    lab.ask("POST", "/v2/a/blobs/uploads/", &[], &[]).refuses(405, "UNSUPPORTED");
    lab.put_manifest("a", "v2", MANIFEST, &manifest).refuses(405, "UNSUPPORTED");
    lab.ask("DELETE", "/v2/a/manifests/v1", &[], &[]).refuses(405, "UNSUPPORTED");
    lab.ask("DELETE", &format!("/v2/a/blobs/{}", digest(b"layer")), &[], &[]).refuses(405, "UNSUPPORTED");
}

#[test]
fn a_blob_that_is_too_large_ends_where_it_is() {
    let lab = Lab::with(|config, _| config.max_blob = 1000);
    let place = lab.begin("a");
    lab.ask("PATCH", &place, &[BYTES], &[7; 800]).is(202);
    lab.ask("PATCH", &place, &[BYTES], &[7; 300]).refuses(413, "SIZE_INVALID");
    lab.ask("PATCH", &place, &[BYTES], &[7; 200]).is(202);
    lab.ask("PUT", &format!("{place}?digest={}", digest(&[7; 1000])), &[], &[]).is(201);
}

#[test]
fn one_server_to_a_directory() {
    let lab = Lab::new();
    assert!(matches!(Server::start(lab.config.clone()), Err(ServerError::InUse(_))));
    let mut other = lab.config.clone();
    other.root = lab.config.root.join("other");
    other.listen = lab.server().address();
    assert!(matches!(Server::start(other), Err(ServerError::Listen { .. })));
}

#[test]
fn methods_and_paths_that_mean_nothing() {
    let lab = Lab::new();
    lab.ask("POST", "/v2/", &[], &[]).refuses(405, "UNSUPPORTED");
    lab.ask("PUT", "/v2/a/tags/list", &[], &[]).refuses(405, "UNSUPPORTED");
    lab.ask("PATCH", "/v2/a/manifests/v1", &[], &[]).refuses(405, "UNSUPPORTED");
    for path in
        ["/v2/../../../etc/passwd", "/v2/a/../b/manifests/v1", "/v2//manifests/v1", "/v2/a%00/manifests/v1"]
    {
        let answer = lab.get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    let long = "a/".repeat(200) + "a";
    lab.get(&format!("/v2/{long}/manifests/v1")).refuses(400, "NAME_INVALID");
}

#[test]
fn with_a_certificate() {
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem";
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("sh").args(["-c", make]).current_dir(dir.path()).output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("SKIPPED: openssl is not installed");
        return;
    }
    let files = TlsFiles { certificate: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    let lab = Lab::with(|config, _| config.tls = Some(files.clone()));
    let ask = format!("curl -sf --cacert cert.pem https://{}/v2/", lab.host());
    let asked = Command::new("sh").args(["-c", &ask]).current_dir(dir.path()).output().unwrap();
    assert!(asked.status.success(), "{asked:?}");
    assert_eq!(asked.stdout, b"{}");
    // Without TLS there is no answer, and nobody waits for one.
    let mut plain = lab.connect();
    plain.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{said:?}");
    // What is none is named.
    std::fs::write(&files.key, "no key").unwrap();
    let mut config = lab.config.clone();
    config.root = lab.config.root.join("other");
    let error = Server::start(config).err().unwrap();
    assert!(matches!(error, ServerError::Tls { ref path, .. } if *path == files.key), "{error}");
}

#[test]
fn a_request_that_never_ends_holds_up_nobody() {
    let lab = Lab::new();
    let mut slow: Vec<_> = (0..20).map(|_| lab.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost:").unwrap();
    }
    lab.get("/v2/").is(200);
    for stream in &mut slow {
        stream.write_all(b" x\r\nConnection: close\r\n\r\n").unwrap();
        answer(stream, false).is(200);
    }
}
