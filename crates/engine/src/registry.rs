//! The registry of one's own, which listens beside the engine: off until somebody starts it.
//!
//! What was started by its verb is started again by the next daemon; what the daemon's options ask for needs no
//! verb. A push from this engine to it copies nothing: the uploaded blob is the very file that the engine keeps.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub use seacow_registry::server::{Collect, Collected};
use seacow_registry::server::{MAX_BLOB, Server, ServerConfig, ServerError, TlsFiles};
use seacow_spec::{Classified, ErrorClass};
use seacow_store::{Durability, MetaError, RecordKind};
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::{Engine, blocking};

/// Key of what was started, among the engine's records.
const KEY: &str = "registry";
/// Where it listens if nobody says: this machine alone, at the port that registries have.
const LISTEN: &str = "127.0.0.1:5000";
/// Its files, in the data root.
const DIR: &str = "registry";

/// What is asked of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct RegistryOptions {
    /// `address:port`; a port alone, or behind a colon, is on all addresses.
    pub listen: Option<String>,
    /// Its files; `registry` in the data root if absent.
    pub root: Option<PathBuf>,
    /// Nothing is taken and nothing removed.
    pub read_only: bool,
    /// Names and passwords, as `htpasswd -B` makes them.
    pub htpasswd: Option<PathBuf>,
    /// Certificate, in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Most bytes of a blob.
    pub max_blob: Option<u64>,
}

/// What there is to be told of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegistryStatus {
    /// Whether it runs.
    pub running: bool,
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// How it is.
    pub config: Option<ServerConfig>,
    /// Repositories in it.
    pub repositories: usize,
    /// Contents in it.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Why the registry is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum OwnRegistryError {
    /// It cannot be started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// It runs.
    #[error("the registry runs already, at {0}; stop it first")]
    Runs(SocketAddr),
    /// It does not.
    #[error("the registry does not run: seacow registry start starts it")]
    Stopped,
    /// Not an address.
    #[error("invalid address {0:?}: expected such as 127.0.0.1:5000, or :5000 for all addresses")]
    Listen(String),
    /// A path that means something else for everybody.
    #[error("{}: the path must be absolute", .0.display())]
    Relative(PathBuf),
    /// Certificate without key, or key without certificate.
    #[error("TLS needs a certificate and its key")]
    HalfTls,
    /// The disk.
    #[error("the registry's files: {0}")]
    Io(#[from] std::io::Error),
    /// What was started cannot be noted.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Classified for OwnRegistryError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Server(error) => error.class(),
            Self::Runs(_) | Self::Stopped => ErrorClass::Conflict,
            Self::Listen(_) | Self::Relative(_) | Self::HalfTls => ErrorClass::InvalidArgument,
            Self::Io(_) => ErrorClass::Internal,
            Self::Meta(error) => error.class(),
        }
    }
}

/// The registry, if it runs.
#[derive(Default)]
pub(crate) struct OwnRegistry(Mutex<Option<Arc<Server>>>);

impl OwnRegistry {
    /// The registry, if that is what a host in names means.
    pub(crate) fn at(&self, host: &str) -> Option<Arc<Server>> {
        blocking::lock(&self.0).clone().filter(|server| server.is(host))
    }
}

impl RegistryOptions {
    fn config(&self, data_root: &std::path::Path) -> Result<ServerConfig, OwnRegistryError> {
        let paths = [&self.root, &self.htpasswd, &self.tls_certificate, &self.tls_key];
        if let Some(relative) = paths.into_iter().flatten().find(|path| path.is_relative()) {
            return Err(OwnRegistryError::Relative(relative.clone()));
        }
        let tls = match (self.tls_certificate.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => return Err(OwnRegistryError::HalfTls),
        };
        Ok(ServerConfig {
            listen: address(self.listen.as_deref().unwrap_or(LISTEN))?,
            root: self.root.clone().unwrap_or_else(|| data_root.join(DIR)),
            read_only: self.read_only,
            htpasswd: self.htpasswd.clone(),
            tls,
            max_blob: self.max_blob.unwrap_or(MAX_BLOB),
        })
    }
}

/// `address:port`, `:port` or `port`.
fn address(text: &str) -> Result<SocketAddr, OwnRegistryError> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>().ok();
    let everywhere = port.map(|port| SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port)));
    everywhere.or_else(|| text.parse().ok()).ok_or_else(|| OwnRegistryError::Listen(text.to_owned()))
}

impl Engine {
    /// Starts the registry, now and whenever the daemon starts.
    ///
    /// # Errors
    /// It runs already, or cannot be had as it is asked for.
    pub async fn registry_start(&self, options: RegistryOptions) -> Result<RegistryStatus, EngineError> {
        let engine = self.clone();
        let started = blocking::run("start the registry", move || -> Result<(), OwnRegistryError> {
            let config = options.config(engine.store().data_root())?;
            engine.registry_open(config.clone())?;
            let noted = serde_json::to_vec(&config).unwrap_or_default();
            Ok(engine.store().records().put(RecordKind::Engine, KEY, noted, Durability::Durable)?)
        });
        started.await??;
        self.registry_status().await
    }

    /// Stops the registry, for good.
    ///
    /// # Errors
    /// It does not run.
    pub async fn registry_stop(&self) -> Result<(), EngineError> {
        let engine = self.clone();
        let stopped = blocking::run("stop the registry", move || -> Result<(), OwnRegistryError> {
            let server = blocking::lock(&engine.0.registry.0).take().ok_or(OwnRegistryError::Stopped)?;
            engine.store().records().delete(RecordKind::Engine, KEY, Durability::Durable)?;
            // Waits for what is being answered.
            drop(server);
            Ok(())
        });
        Ok(stopped.await??)
    }

    /// Whether it runs, and what it has.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn registry_status(&self) -> Result<RegistryStatus, EngineError> {
        let server = blocking::lock(&self.0.registry.0).clone();
        let told = blocking::run("look at the registry", move || -> Result<_, OwnRegistryError> {
            let counts = server.as_ref().map(|server| server.counts()).transpose()?;
            let (repositories, blobs, bytes) = counts.unwrap_or_default();
            Ok(RegistryStatus {
                running: server.is_some(),
                listen: server.as_ref().map(|server| server.address()),
                config: server.map(|server| server.config().clone()),
                repositories,
                blobs,
                bytes,
            })
        });
        Ok(told.await??)
    }

    /// Removes what no manifest in the registry lists any more.
    ///
    /// # Errors
    /// It does not run, or the disk failed.
    pub async fn registry_collect(&self, how: Collect) -> Result<Collected, EngineError> {
        let server = blocking::lock(&self.0.registry.0).clone().ok_or(OwnRegistryError::Stopped)?;
        let collected = blocking::run("collect the registry's garbage", move || server.collect(how));
        Ok(collected.await?.map_err(OwnRegistryError::from)?)
    }

    /// Starts what the daemon's options ask for, or an earlier daemon had.
    pub(crate) fn registry_boot(&self) -> Result<(), EngineError> {
        if let Some(options) = &self.config().registry {
            let config = options.config(self.store().data_root())?;
            return Ok(self.registry_open(config)?);
        }
        let Some(noted) = self.store().records().get(RecordKind::Engine, KEY)? else { return Ok(()) };
        let started = serde_json::from_slice(&noted)
            .map_err(|error| error.to_string())
            .and_then(|config| self.registry_open(config).map_err(|error| error.to_string()));
        if let Err(error) = started {
            // Containers do not depend on it.
            tracing::error!(error, "the registry that was started earlier is not there");
        }
        Ok(())
    }

    fn registry_open(&self, config: ServerConfig) -> Result<(), OwnRegistryError> {
        let mut registry = blocking::lock(&self.0.registry.0);
        if let Some(running) = registry.as_ref() {
            return Err(OwnRegistryError::Runs(running.address()));
        }
        let server = Server::start(config)?;
        let (address, config) = (server.address(), server.config());
        if config.tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "the registry is without TLS: what is sent to it can be read on the way");
        }
        tracing::info!(%address, root = %config.root.display(), "the registry is ready");
        *registry = Some(Arc::new(server));
        Ok(())
    }

    /// Stops the registry with the daemon; it is started again with the next.
    pub(crate) fn registry_close(&self) {
        drop(blocking::lock(&self.0.registry.0).take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            (":5000", "0.0.0.0:5000"),
            ("5000", "0.0.0.0:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        for bad in ["", "x", "localhost:5000", "1.2.3.4", ":70000"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let root = std::path::Path::new("/d");
        let plain = RegistryOptions::default();
        assert_eq!(plain.config(root).unwrap().root, std::path::Path::new("/d/registry"));
        let half = RegistryOptions { tls_key: Some("/k".into()), ..plain.clone() };
        assert!(matches!(half.config(root), Err(OwnRegistryError::HalfTls)));
        let relative = RegistryOptions { htpasswd: Some("p".into()), ..plain };
        assert!(matches!(relative.config(root), Err(OwnRegistryError::Relative(_))));
    }
}
