//! A registry of one's own: the OCI distribution specification 1.1 over files.
//!
//! ```text
//! Server::start ─▶ a thread with an event loop of its own: accept ─▶ TLS? ─▶ HTTP ─▶ who? ─▶ what? ─▶ files
//! ```
//! It shares nothing with the engine beside it but, at will, bytes: [`Server::fill`] makes an upload the very file
//! that the engine has already. Contents are taken when they are what their digest says, a manifest when what it
//! lists is there; what no manifest lists any more goes by [`Server::collect`].
//!
//! | module | what |
//! |---|---|
//! | `access` | names and passwords |
//! | `collect` | garbage |
//! | `manifest` | what is looked at in manifests; referrers |
//! | `path` | which path means what |
//! | `refusal` | the specification's error codes |
//! | `serve` | one request |
//! | `shelf` | the files |
//! | `upload` | blobs on their way in |

mod access;
mod collect;
mod manifest;
mod path;
mod refusal;
mod serve;
mod shelf;
mod upload;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig as TlsConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use seacow_spec::{Classified, ErrorClass};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

pub use collect::{Collect, Collected};

use access::Access;
use serve::Serving;
use shelf::Shelf;
use upload::Uploads;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 1024;
/// How long a handshake, or a request's head, may take.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Pause after a failed accept: the usual reason is that descriptors ran out, and some come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may still take when the server is to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Threads for the disk: as many as blobs may be written at a time, and some for all else.
const DISK_THREADS: usize = 96;
/// Most bytes of a blob where nobody says: that of a layer that the store unpacks.
pub const MAX_BLOB: u64 = 64 << 30;

/// How a registry is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its files are.
    pub root: PathBuf,
    /// Nothing is taken and nothing removed.
    #[serde(default)]
    pub read_only: bool,
    /// Names and passwords (`htpasswd -B`); without, everybody may do everything.
    #[serde(default)]
    pub htpasswd: Option<PathBuf>,
    /// Certificates and key, in PEM; without, there is no TLS.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// Most bytes of a blob.
    #[serde(default = "max_blob")]
    pub max_blob: u64,
}

fn max_blob() -> u64 {
    MAX_BLOB
}

/// Who the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// Its certificate, and those that vouch for it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file or a directory.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another server uses the directory.
    #[error("the registry in {} is in use by another server", .0.display())]
    InUse(PathBuf),
    /// The address.
    #[error("listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A line of the file with passwords.
    #[error("{}, line {line}: {reason}", path.display())]
    Passwords {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Certificate or key.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Classified for ServerError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::InUse(_) => ErrorClass::Conflict,
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => ErrorClass::Conflict,
            Self::Passwords { .. } | Self::Tls { .. } => ErrorClass::InvalidArgument,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorClass::InvalidArgument
            }
            Self::Io { .. } | Self::Listen { .. } => ErrorClass::Internal,
        }
    }
}

/// A running registry; it ends when this is dropped.
pub struct Server {
    config: ServerConfig,
    address: SocketAddr,
    serving: Arc<Serving>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Opens the files, listens, and serves.
    ///
    /// # Errors
    /// One of them cannot be had.
    pub fn start(config: ServerConfig) -> Result<Self, ServerError> {
        let io = |step: &'static str| {
            let path = config.root.clone();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::WouldBlock => ServerError::InUse(path),
                _ => ServerError::Io { step, path, source },
            }
        };
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        let access = config.htpasswd.as_deref().map(Access::open).transpose()?;
        let shelf = Arc::new(Shelf::open(&config.root).map_err(io("open the registry in"))?);
        let refused = |source| ServerError::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let uploads = Uploads::new(Arc::clone(&shelf), config.max_blob);
        let serving = Arc::new(Serving { shelf, uploads, access, read_only: config.read_only });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(DISK_THREADS)
            .build()
            .map_err(io("start the event loop of"))?;
        let served = Arc::clone(&serving);
        let thread = std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                runtime.block_on(accept(listener, tls, served, stopped));
                runtime.shutdown_timeout(Duration::from_secs(1));
            })
            .map_err(io("start the thread of"))?;
        Ok(Self { config, address, serving, stop, thread: Some(thread) })
    }

    /// How it was to be.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a registry's host, as names have it, is this one on this machine.
    pub fn is(&self, host: &str) -> bool {
        let Some((name, port)) = host.rsplit_once(':') else { return false };
        if port.parse() != Ok(self.address.port()) {
            return false;
        }
        let own = self.address.ip();
        let asked: Option<std::net::IpAddr> = match name.trim_matches(['[', ']']) {
            "localhost" => Some(std::net::Ipv4Addr::LOCALHOST.into()),
            other => other.parse().ok(),
        };
        asked.is_some_and(|asked| asked == own || (own.is_unspecified() && asked.is_loopback()))
    }

    /// Makes an upload, which its sender begun here and has sent nothing to, the very file at `path`. `false`: it
    /// has to be sent.
    ///
    /// # Errors
    /// The disk failed.
    pub fn fill(&self, place: &str, path: &Path) -> io::Result<bool> {
        let id = place.split('?').next().and_then(|place| place.rsplit('/').next()).unwrap_or_default();
        self.serving.uploads.fill(id, path)
    }

    /// Removes garbage.
    ///
    /// # Errors
    /// The disk failed.
    pub fn collect(&self, how: Collect) -> io::Result<Collected> {
        collect::collect(&self.serving.shelf, &self.serving.uploads, how)
    }

    /// Repositories and contents that are there: how many of each, and the bytes of these.
    ///
    /// # Errors
    /// The disk failed.
    pub fn counts(&self) -> io::Result<(usize, usize, u64)> {
        let contents = self.serving.shelf.contents()?;
        let size = |digest| std::fs::metadata(self.serving.shelf.blob_path(digest)).map_or(0, |m| m.len());
        let bytes = contents.iter().map(|(digest, _)| size(digest)).sum();
        Ok((self.serving.shelf.repositories()?.len(), contents.len(), bytes))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when nobody serves any more.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed.
            let _ = thread.join();
        }
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServerError> {
    let wrong = |path: &Path, reason: String| ServerError::Tls { path: path.into(), reason };
    let certificate = &files.certificate;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(certificate, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Takes connections until it is to stop, and lets those that are there end.
async fn accept(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    serving: Arc<Serving>,
    mut stop: watch::Receiver<bool>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the registry does not listen");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stopping = stop.clone();
    let taking = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let io = match listener.accept().await {
                Ok((io, _)) => io,
                Err(error) => {
                    tracing::warn!(%error, "the registry cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, serving, stop) = (tls.clone(), Arc::clone(&serving), stopping.clone());
            tokio::spawn(async move {
                connection(io, tls, serving, stop).await;
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = taking => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    // Who is not done by then is cut off.
    drop(tokio::time::timeout(GRACE, room.acquire_many(all)).await);
}

async fn connection(
    io: TcpStream,
    tls: Option<TlsAcceptor>,
    serving: Arc<Serving>,
    stop: watch::Receiver<bool>,
) {
    // Small answers are not to wait for more.
    let _ = io.set_nodelay(true);
    match tls {
        None => http(io, serving, stop).await,
        Some(tls) => match tokio::time::timeout(HEAD_TIME, tls.accept(io)).await {
            Ok(Ok(io)) => http(io, serving, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, "registry: a TLS handshake"),
            Err(_) => tracing::debug!("registry: a TLS handshake took too long"),
        },
    }
}

async fn http<T>(io: T, serving: Arc<Serving>, mut stop: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = Arc::clone(&serving).answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(io), service)
    );
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "registry: a connection ended");
                }
                return;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
