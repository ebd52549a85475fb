//! Our own client: blobs whose digest comes at the end, uploads that break off, mounting, files that are handed over.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use seacow_registry::{Credentials, NextBytes, Pusher, RegistryError, Settings, Source, login, search, tags};
use seacow_spec::{Digest, Reference};

use crate::wire::{Lab, digest};

/// A blob that is given in pieces.
struct Blob {
    bytes: Vec<u8>,
    /// Where it turns out that there is no more of it.
    fails_at: Option<u64>,
    path: Option<PathBuf>,
    read: AtomicUsize,
}

impl Blob {
    fn new(len: usize) -> Self {
        let bytes = (0..len).map(|n| (n * 7 % 253) as u8).collect();
        Self { bytes, fails_at: None, path: None, read: AtomicUsize::new(0) }
    }
}

impl Source for Blob {
    fn read(&self, offset: u64) -> NextBytes<'_> {
        let from = usize::try_from(offset).unwrap();
        let to = (from + 10_000).min(self.bytes.len());
        self.read.fetch_add(to - from, Ordering::Relaxed);
        let piece = match self.fails_at {
            Some(at) if offset >= at => Err(io::Error::other("the source failed")),
            _ => Ok(Bytes::copy_from_slice(&self.bytes[from..to])),
        };
        Box::pin(std::future::ready(piece))
    }

    fn digest(&self) -> io::Result<Digest> {
        Ok(digest(&self.bytes))
    }

    fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// Passes on what comes; the first `cuts` connections end after so many bytes to the registry.
struct Cutter {
    host: String,
    cut: Arc<AtomicUsize>,
}

impl Cutter {
    fn start(registry: String, cuts: usize, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let cut = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&cut);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&registry) else { return };
                let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || drop(io::copy(&mut &server2, &mut &client2)));
                let count = Arc::clone(&count);
                std::thread::spawn(move || pass(&client, &server, &count, cuts, after));
            }
        });
        Self { host, cut }
    }
}

fn pass(mut client: &TcpStream, mut server: &TcpStream, cut: &AtomicUsize, cuts: usize, after: usize) {
    let (mut passed, mut buffer) = (0, [0; 4096]);
    while let Ok(len @ 1..) = client.read(&mut buffer) {
        if server.write_all(&buffer[..len]).is_err() {
            break;
        }
        passed += len;
        if passed > after && cut.fetch_add(1, Ordering::SeqCst) < cuts {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Write);
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn name(host: &str, path: &str) -> Reference {
    format!("{host}/{path}").parse().unwrap()
}

async fn pusher(host: &str, path: &str) -> Pusher {
    Pusher::connect(&name(host, path), &Settings::default(), &Credentials::default()).await.unwrap()
}

#[test]
fn a_blob_goes_there_once() {
    let lab = Lab::new();
    run(async {
        let pusher = pusher(&lab.host(), "a/b").await;
        let blob = Arc::new(Blob::new(300_000));
        let expected = digest(&blob.bytes);
        assert!(!pusher.has(&expected).await.unwrap());
        let told = Mutex::new(0);
        let hear = |far| *told.lock().unwrap() = far;
        let sent = pusher.upload(Arc::clone(&blob) as Arc<dyn Source>, &hear).await;
        assert_eq!(sent.unwrap(), expected);
        assert_eq!(*told.lock().unwrap(), 300_000);
        assert!(pusher.has(&expected).await.unwrap());
        assert!(lab.get(&format!("/v2/a/b/blobs/{expected}")).body == blob.bytes);
        let empty = pusher.upload(Arc::new(Blob::new(0)), &|_| {}).await.unwrap();
        assert_eq!(empty, digest(b""));
    });
}

#[test]
fn an_upload_that_breaks_off_is_gone_on_with() {
    let lab = Lab::new();
    let cutter = Cutter::start(lab.host(), 3, 200_000);
    run(async {
        let pusher = pusher(&cutter.host, "a").await;
        let blob = Arc::new(Blob::new(3_000_000));
        let sent = pusher.upload(Arc::clone(&blob) as Arc<dyn Source>, &|_| {}).await.unwrap();
        assert!(lab.get(&format!("/v2/a/blobs/{sent}")).body == blob.bytes);
        assert!(cutter.cut.load(Ordering::SeqCst) >= 3);
    });
}

#[test]
fn a_registry_that_does_not_take_it_is_given_up() {
    let lab = Lab::with(|config, _| config.max_blob = 1000);
    let error = run(async {
        let pusher = pusher(&lab.host(), "a").await;
        pusher.upload(Arc::new(Blob::new(300_000)), &|_| {}).await.unwrap_err()
    });
    // Whole it was too much, and so it was in pieces.
    assert!(error.to_string().starts_with("size invalid: "), "{error:?}");
    assert_eq!(std::fs::read_dir(lab.config.root.join("uploads")).unwrap().count(), 0);
}

#[test]
fn a_source_that_fails_leaves_nothing() {
    let lab = Lab::new();
    let error = run(async {
        let pusher = pusher(&lab.host(), "a").await;
        let blob = Blob { fails_at: Some(100_000), ..Blob::new(300_000) };
        pusher.upload(Arc::new(blob), &|_| {}).await.unwrap_err()
    });
    assert!(
        error.to_string().contains("the source failed") || matches!(error, RegistryError::Exchange { .. }),
        "{error:?}"
    );
    assert!(
        lab.server()
            .collect(seacow_registry::server::Collect { grace: std::time::Duration::ZERO, untagged: false })
            .is_ok()
    );
    assert_eq!(std::fs::read_dir(lab.config.root.join("uploads")).unwrap().count(), 0);
}

#[test]
fn a_file_is_handed_over_as_it_is() {
    let lab = Lab::new();
    let dir = tempfile::tempdir_in(lab.config.root.parent().unwrap()).unwrap();
    let mut blob = Blob::new(500_000);
    let path = dir.path().join("blob");
    std::fs::write(&path, &blob.bytes).unwrap();
    blob.path = Some(path.clone());
    let expected = digest(&blob.bytes);
    let blob = Arc::new(blob);
    // A second handle on the same registry, as the engine has it.
    let Lab { server, config, _dir } = lab;
    let server = Arc::new(server.unwrap());
    run(async {
        let pusher = pusher(&server.address().to_string(), "a").await.beside(Arc::clone(&server));
        assert_eq!(pusher.upload(Arc::clone(&blob) as Arc<dyn Source>, &|_| {}).await.unwrap(), expected);
    });
    assert_eq!(blob.read.load(Ordering::Relaxed), 0, "it was read to be sent");
    assert!(std::fs::read(config.root.join("blobs").join(expected.hex())).unwrap() == blob.bytes);
    // Nobody writes to it by the other name.
    std::fs::remove_file(&path).unwrap();
    assert!(std::fs::read(config.root.join("blobs").join(expected.hex())).unwrap() == blob.bytes);
    // A file that is not what it says is not taken.
    let wrong = Blob { path: Some(config.root.join("lock")), ..Blob::new(1000) };
    run(async {
        let pusher = pusher(&server.address().to_string(), "a").await.beside(Arc::clone(&server));
        assert_eq!(pusher.upload(Arc::new(wrong), &|_| {}).await.unwrap(), digest(&Blob::new(1000).bytes));
    });
}

#[test]
fn mounting_manifests_and_tags() {
    let lab = Lab::new();
    let manifest = lab.image("from", "v1", b"layer");
    run(async {
        let pusher = pusher(&lab.host(), "to").await;
        assert!(pusher.mount(&digest(b"layer"), "from").await.unwrap());
        assert!(!pusher.mount(&digest(b"layer"), "nobody").await.unwrap());
        assert!(!pusher.mount(&digest(b"other"), "from").await.unwrap());
        // The upload that began instead was cancelled.
        assert_eq!(std::fs::read_dir(lab.config.root.join("uploads")).unwrap().count(), 0);
        let error = pusher.manifest("v1", crate::wire::MANIFEST, &manifest).await.unwrap_err();
        assert!(error.to_string().contains("manifest blob unknown"), "{error}");
        for tag in ["a", "b", "c"] {
            lab.image("to", tag, b"layer");
        }
        let all =
            tags(&name(&lab.host(), "to"), &Settings::default(), &Credentials::default()).await.unwrap();
        assert_eq!(all, ["a", "b", "c"]);
        let nobody = tags(&name(&lab.host(), "nobody"), &Settings::default(), &Credentials::default()).await;
        assert!(matches!(nobody, Err(RegistryError::PullDenied { .. })), "{nobody:?}");
        let found =
            search(&format!("{}/x", lab.host()), 5, &Settings::default(), &Credentials::default()).await;
        assert!(found.unwrap_err().to_string().contains("Unexpected status code 404"));
    });
}

#[test]
fn logging_in() {
    let hash = "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW";
    let lab = Lab::with(|config, dir| {
        let file = dir.join("htpasswd");
        std::fs::write(&file, format!("ann:{hash}\n")).unwrap();
        config.htpasswd = Some(file);
    });
    let who = |password: &str| Credentials {
        username: "ann".into(),
        password: password.into(),
        ..Credentials::default()
    };
    run(async {
        let settings = Settings::default();
        assert_eq!(login(&lab.host(), &settings, &who("myPassword")).await.unwrap(), None);
        let refused = login(&format!("http://{}/v1/", lab.host()), &settings, &who("x")).await.unwrap_err();
        assert!(matches!(refused, RegistryError::Unauthorized { .. }), "{refused:?}");
        let none = Pusher::connect(&name(&lab.host(), "a"), &settings, &Credentials::default()).await;
        assert!(
            matches!(none.err().unwrap(), RegistryError::Denied(text) if text == "no basic auth credentials")
        );
        Pusher::connect(&name(&lab.host(), "a"), &settings, &who("myPassword")).await.unwrap();
    });
}
