//! Named engines on disk, in docker's own layout, so that the same code reads ours and docker's.
//!
//! ```text
//! <config>/config.json                            {"currentContext": "name"}
//! <config>/contexts/meta/<sha256 of name>/meta.json
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ConnectError;
use crate::config::ConfigDir;

/// The context that always exists and is not stored.
pub(crate) const DEFAULT: &str = "default";

/// A stored context.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
    pub(crate) endpoints: Endpoints,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    pub(crate) docker: DockerEndpoint,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DockerEndpoint {
    pub(crate) host: String,
    #[serde(rename = "SkipTLSVerify")]
    pub(crate) skip_tls_verify: bool,
}

impl Meta {
    pub(crate) fn new(name: &str, host: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            metadata: Metadata { description: description.to_owned() },
            endpoints: Endpoints { docker: DockerEndpoint { host: host.to_owned(), skip_tls_verify: false } },
        }
    }
}

/// Directory of a context's metadata below a configuration directory.
pub(crate) fn dir(config: &Path, name: &str) -> PathBuf {
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    config.join("contexts/meta").join(hex)
}

/// Names that docker accepts for a context.
pub(crate) fn is_valid_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() > 1
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b))
}

pub(crate) fn write(config: &Path, meta: &Meta) -> io::Result<PathBuf> {
    let dir = dir(config, &meta.name);
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("meta.json");
    let fresh = dir.join("meta.json.new");
    std::fs::write(&fresh, serde_json::to_vec(meta)?)?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

pub(crate) fn read(config: &ConfigDir, name: &str) -> Result<Meta, ConnectError> {
    let path = dir(&config.path, name).join("meta.json");
    let bad = |source| ConnectError::BadContext { name: name.to_owned(), path: path.clone(), source };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| bad(e.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(ConnectError::NoContext(name.to_owned(), path.display().to_string()))
        }
        Err(e) => Err(bad(e)),
    }
}

/// The address a context points to.
pub(super) fn host(config: &ConfigDir, name: &str) -> Result<String, ConnectError> {
    let host = read(config, name)?.endpoints.docker.host;
    Ok(if host.is_empty() { format!("unix://{}", super::DEFAULT_SOCKET) } else { host })
}

/// All stored contexts, by name.
pub(crate) fn list(config: &ConfigDir) -> Vec<Meta> {
    let Ok(entries) = std::fs::read_dir(config.path.join("contexts/meta")) else { return Vec::new() };
    let mut all: Vec<Meta> = entries
        .flatten()
        .filter_map(|e| std::fs::read(e.path().join("meta.json")).ok())
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
