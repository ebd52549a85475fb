//! `daemon.json`: Docker's keys that are honoured, and ours. Every other key is refused with its
//! name and position.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::runtimes::Entry;

/// The file's contents. Docker writes its keys with hyphens.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct File {
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) data_root: Option<PathBuf>,
    pub(crate) exec_root: Option<PathBuf>,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) debug: Option<bool>,
    pub(crate) log_level: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) bridge: Option<String>,
    pub(crate) bip: Option<String>,
    pub(crate) dns: Option<Vec<String>>,
    pub(crate) log_driver: Option<String>,
    pub(crate) log_opts: Option<BTreeMap<String, String>>,
    pub(crate) storage_driver: Option<String>,
    pub(crate) storage_init: Option<String>,
    pub(crate) storage_budget: Option<String>,
    pub(crate) live_restore: Option<bool>,
    pub(crate) exec_opts: Option<Vec<String>>,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) runtimes: Option<BTreeMap<String, Entry>>,
    pub(crate) default_runtime: Option<String>,
    pub(crate) init: Option<bool>,
    pub(crate) init_path: Option<PathBuf>,
    pub(crate) userns_remap: Option<String>,
    pub(crate) selinux_enabled: Option<bool>,
    pub(crate) shim: Option<PathBuf>,
    pub(crate) pool_size: Option<usize>,
    pub(crate) nft_table: Option<String>,
    pub(crate) ip: Option<String>,
    pub(crate) insecure_registries: Option<Vec<String>>,
    pub(crate) registry_mirrors: Option<Vec<String>>,
    pub(crate) registry_listen: Option<String>,
    pub(crate) registry_root: Option<PathBuf>,
    pub(crate) registry_read_only: Option<bool>,
    pub(crate) registry_htpasswd: Option<PathBuf>,
    pub(crate) registry_tls_cert: Option<PathBuf>,
    pub(crate) registry_tls_key: Option<PathBuf>,
    pub(crate) registry_max_blob: Option<String>,
    pub(crate) tls: Option<bool>,
    pub(crate) tlsverify: Option<bool>,
    pub(crate) tlscacert: Option<PathBuf>,
    pub(crate) tlscert: Option<PathBuf>,
    pub(crate) tlskey: Option<PathBuf>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}:{column}: {what}")]
    Content { path: PathBuf, line: usize, column: usize, what: String },
}

impl File {
    /// Reads `path`. A file that does not have to be there counts as empty when it is not, and so
    /// does one without content.
    ///
    /// # Errors
    /// Unreadable, not JSON, or with a key that is not known.
    pub(crate) fn read(path: &Path, must_exist: bool) -> Result<Self, FileError> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                return Ok(Self::default());
            }
            other => other.map_err(|source| FileError::Read { path: path.into(), source })?,
        };
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            // serde appends the position, which stands before the message here.
            let what = message.split(" at line ").next().unwrap_or(&message).replace("field", "key");
            FileError::Content { path: path.into(), line: error.line(), column: error.column(), what }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_named_with_their_place() {
        let error =
            File::parse(Path::new("/etc/x.json"), "{\n  \"debug\": true,\n  \"nope\": 1\n}").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("/etc/x.json:3:8: unknown key `nope`"), "{text}");
        assert!(File::parse(Path::new("x"), " \n").unwrap() == File::default());
        let file = File::parse(Path::new("x"), r#"{"data-root":"/d","log-opts":{"max-size":"1m"}}"#).unwrap();
        assert_eq!(file.data_root, Some("/d".into()));
    }
}
