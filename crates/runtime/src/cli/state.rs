//! What is kept of a container between two commands: `<root>/<id>/state.json`, beside the socket
//! on which a created init waits for its start.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use seacow_runtime::cgroup::Cgroups;
use seacow_spec::oci::runtime::{Hooks, Process, VERSION};
use seacow_spec::shim::SeccompChoice;
use seacow_sys::process;
use serde::{Deserialize, Serialize};

use super::args::Globals;
use super::error::CliError;

/// The record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: a pid may be used again.
    pub(crate) start_time: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) created: String,
    pub(crate) cgroups_path: String,
    pub(crate) annotations: BTreeMap<String, String>,
    /// What exec starts from.
    pub(crate) process: Process,
    pub(crate) seccomp: SeccompChoice,
    pub(crate) hooks: Hooks,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

const RECORD: &str = "state.json";
/// Name of the listening socket of an init that was not started.
pub(crate) const START_SOCKET: &str = "start.sock";

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct StateDir {
    pub(crate) path: PathBuf,
    id: String,
}

/// Where all states are.
pub(crate) fn root(globals: &Globals) -> PathBuf {
    globals.root.clone().unwrap_or_else(|| "/run/seacow-runtime".into())
}

impl StateDir {
    /// Names it; the id becomes part of paths and is checked for that.
    pub(crate) fn of(globals: &Globals, id: &str) -> Result<Self, CliError> {
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.chars().all(fit) {
            return Err(CliError::Usage(format!("invalid container id {id:?}")));
        }
        Ok(Self { path: root(globals).join(id), id: id.to_owned() })
    }

    /// Makes it; the id must be new.
    pub(crate) fn make(&self) -> Result<(), CliError> {
        use std::os::unix::fs::DirBuilderExt;
        if let Some(parent) = self.path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|e| CliError::file("make", parent, e))?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(CliError::State(format!("container with id {:?} already exists", self.id)))
            }
            done => done.map_err(|e| CliError::file("make", &self.path, e)),
        }
    }

    /// Removes it with all in it.
    pub(crate) fn remove(&self) -> Result<(), CliError> {
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|e| CliError::file("remove", &self.path, e)),
        }
    }

    /// A handle for sockets in it.
    pub(crate) fn open(&self) -> Result<OwnedFd, CliError> {
        rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| CliError::file("open", &self.path, e))
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<(), CliError> {
        let (path, temporary) = (self.path.join(RECORD), self.path.join("state.json.new"));
        let bytes =
            serde_json::to_vec(record).map_err(|source| CliError::Json { path: path.clone(), source })?;
        std::fs::write(&temporary, bytes)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|e| CliError::file("write", path, e))
    }

    /// Reads the record.
    pub(crate) fn read(&self) -> Result<Record, CliError> {
        let path = self.path.join(RECORD);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(CliError::NoContainer(self.id.clone()));
            }
            read => read.map_err(|e| CliError::file("read", &path, e))?,
        };
        serde_json::from_slice(&bytes).map_err(|source| CliError::Json { path, source })
    }

    /// Where it is in its life.
    pub(crate) fn status(&self, record: &Record) -> Status {
        if !is_alive(record) {
            return Status::Stopped;
        }
        let frozen = Cgroups::new(&record.cgroups_path).and_then(|c| c.is_frozen());
        if frozen.unwrap_or(false) {
            return Status::Paused;
        }
        if self.path.join(START_SOCKET).exists() { Status::Created } else { Status::Running }
    }
}

/// The process that the record means, if it lives; the handle certainly means it.
pub(crate) fn open_init(record: &Record) -> Option<OwnedFd> {
    let pidfd = process::pidfd_open(record.pid).ok()?;
    // Opened first, compared then: the handle cannot change its meaning in between.
    let alive = is_alive(record) && process::pidfd_signal(pidfd.as_fd(), 0).is_ok();
    alive.then_some(pidfd)
}

fn is_alive(record: &Record) -> bool {
    stat(record.pid)
        .is_some_and(|(state, started)| started == record.start_time && !matches!(state, 'Z' | 'X'))
}

/// State letter and start time of a process.
pub(crate) fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also parentheses: the last one closes it.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The OCI state, for `state` and for hooks.
pub(crate) fn oci(record: &Record, status: Status) -> serde_json::Value {
    serde_json::json!({
        "ociVersion": VERSION,
        "id": record.id,
        "pid": if status == Status::Stopped { 0 } else { record.pid },
        "status": status.word(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": "",
        "annotations": record.annotations,
    })
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    let bytes = std::fs::read(path).map_err(|e| CliError::file("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|source| CliError::Json { path: path.to_owned(), source })
}
