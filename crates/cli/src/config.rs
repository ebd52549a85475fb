//! The client's configuration directory: `~/.seacow`, and docker's beside it for credentials.

use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// A configuration directory; nothing is read until somebody asks.
#[derive(Debug, Clone)]
pub(crate) struct ConfigDir {
    pub(crate) path: PathBuf,
}

/// Where docker's client keeps its own configuration.
pub(crate) fn docker_dir() -> PathBuf {
    std::env::var_os("DOCKER_CONFIG").map_or_else(|| home().join(".docker"), PathBuf::from)
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from)
}

impl ConfigDir {
    /// `--config`, `SEACOW_CONFIG`, or `~/.seacow`.
    pub(crate) fn choose(flag: Option<&str>) -> Self {
        let path = match (flag, std::env::var_os("SEACOW_CONFIG")) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(path)) => PathBuf::from(path),
            (None, None) => home().join(".seacow"),
        };
        Self { path }
    }

    /// The contents of `config.json`; empty when there is none or it is not an object.
    pub(crate) fn read(&self) -> Map<String, Value> {
        read_object(&self.path.join("config.json"))
    }

    /// Replaces `config.json`. It may hold credentials, so nobody else may read it.
    pub(crate) fn write(&self, values: &Map<String, Value>) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::create_dir_all(&self.path)?;
        let fresh = self.path.join("config.json.new");
        let file =
            std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        serde_json::to_writer_pretty(file, values)?;
        std::fs::rename(fresh, self.path.join("config.json"))
    }

    /// The context chosen with `context use`.
    pub(crate) fn current_context(&self) -> Option<String> {
        self.read().get("currentContext")?.as_str().filter(|s| !s.is_empty()).map(str::to_owned)
    }

    /// Detach keys, default formats and the like: a string of `config.json`.
    pub(crate) fn string(&self, key: &str) -> Option<String> {
        self.read().get(key)?.as_str().filter(|s| !s.is_empty()).map(str::to_owned)
    }
}

pub(crate) fn read_object(path: &std::path::Path) -> Map<String, Value> {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .and_then(|value| if let Value::Object(map) = value { Some(map) } else { None })
        .unwrap_or_default()
}
