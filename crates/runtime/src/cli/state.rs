//! What is kept of a container between two commands: `<root>/<id>/state.json`, beside the socket
//! on which a created init waits for its start.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use seacow_runtime::cgroup::Cgroups;
use seacow_spec::oci::runtime::{Hooks, Process, VERSION};
use seacow_spec::oci::state::{self as oci_state, State};
use seacow_spec::shim::SeccompChoice;
use seacow_sys::{Errno, process};
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
    /// Whose container it is.
    pub(crate) uid: u32,
    /// Whether the end of init ends all: it is the first of a pid namespace of its own.
    pub(crate) own_pids: bool,
    /// Its processes keep the session keyring of whoever starts them.
    pub(crate) keep_keyring: bool,
    /// What exec starts from.
    pub(crate) process: Process,
    pub(crate) seccomp: SeccompChoice,
    pub(crate) hooks: Hooks,
}

impl Record {
    /// Its cgroups.
    pub(crate) fn cgroups(&self) -> Result<Cgroups, CliError> {
        Ok(Cgroups::new(&self.cgroups_path)?)
    }
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Somebody is making it.
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
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

/// Held by whoever changes a container's life. It is the kernel's to release when the holder dies.
#[derive(Debug)]
pub(crate) struct Lock(OwnedFd);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not only closed: a child that waits for its start has a copy of the descriptor.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// How long the lock is waited for. Making a container takes milliseconds, hooks may take seconds.
const LOCK_TIME: Duration = Duration::from_secs(10);

/// Where all states are: of root below /run, of others below their own runtime directory.
pub(crate) fn root(globals: &Globals) -> PathBuf {
    if let Some(root) = &globals.root {
        return root.clone();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !rustix::process::geteuid().is_root() => PathBuf::from(dir).join("seacow-runtime"),
        Some(_) | None => "/run/seacow-runtime".into(),
    }
}

impl StateDir {
    /// Names it; the id becomes part of paths and is checked for that.
    pub(crate) fn of(globals: &Globals, id: &str) -> Result<Self, CliError> {
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.chars().all(fit) {
            return Err(CliError::State(format!("invalid container id format: {id:?}")));
        }
        Ok(Self { path: root(globals).join(id), id: id.to_owned() })
    }

    /// Makes it, locked; the id must be new.
    pub(crate) fn make(&self) -> Result<Lock, CliError> {
        use std::os::unix::fs::DirBuilderExt;
        let taken = || CliError::State(format!("container with id {:?} already exists", self.id));
        let make = || std::fs::DirBuilder::new().mode(0o700).create(&self.path);
        let made = match make() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let parent = self.path.parent().unwrap_or(&self.path);
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(parent)
                    .map_err(|e| CliError::file("make", parent, e))?;
                make()
            }
            made => made,
        };
        match made {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(taken()),
            made => {
                made.map_err(|e| CliError::file("make", &self.path, e))?;
                self.lock()
            }
        }
    }

    /// Waits for whoever works on this container.
    pub(crate) fn lock(&self) -> Result<Lock, CliError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(CliError::NoContainer(self.id.clone())),
            opened => opened.map_err(|e| CliError::file("open", &self.path, e))?,
        };
        let deadline = Instant::now() + LOCK_TIME;
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(fd)),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(CliError::State(format!(
                        "container {:?} is busy with another command",
                        self.id
                    )));
                }
                Err(errno) => return Err(CliError::file("lock", &self.path, errno)),
            }
        }
    }

    /// Whether somebody holds the lock.
    fn is_locked(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::open(&self.path, flags, Mode::empty()) else { return false };
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let _ = rustix::fs::flock(&fd, FlockOperation::Unlock);
                false
            }
            Err(errno) => errno == Errno::WOULDBLOCK,
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
        if record.pid == 0 {
            // Made up to here, and perhaps no further.
            return if self.is_locked() { Status::Creating } else { Status::Stopped };
        }
        if !is_alive(record) {
            return Status::Stopped;
        }
        let frozen = record.cgroups().and_then(|c| Ok(c.is_frozen()?));
        if frozen.unwrap_or(false) {
            return Status::Paused;
        }
        if self.path.join(START_SOCKET).exists() { Status::Created } else { Status::Running }
    }
}

/// The process that the record means, if it lives; the handle certainly means it.
pub(crate) fn open_init(record: &Record) -> Option<OwnedFd> {
    if record.pid == 0 {
        return None;
    }
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

/// The OCI state, with what runc adds to it, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OciState<'a> {
    oci_version: &'static str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: String,
}

impl<'a> OciState<'a> {
    /// As the container is now.
    pub(crate) fn of(record: &'a Record, status: Status) -> Self {
        Self {
            oci_version: VERSION,
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status: status.word(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: owner(record.uid),
        }
    }

    /// `owner` is a name where there is one.
    pub(crate) fn row(&self) -> [String; 6] {
        [
            self.id.to_owned(),
            self.pid.to_string(),
            self.status.to_owned(),
            self.bundle.display().to_string(),
            self.created.to_owned(),
            self.owner.clone(),
        ]
    }
}

/// The specification's state, for hooks and the like.
pub(crate) fn oci(record: &Record, status: Status) -> State {
    State {
        oci_version: VERSION.into(),
        id: record.id.clone(),
        status: match status {
            Status::Creating => oci_state::Status::Creating,
            Status::Created => oci_state::Status::Created,
            Status::Running | Status::Paused => oci_state::Status::Running,
            Status::Stopped => oci_state::Status::Stopped,
        },
        pid: if status == Status::Stopped { 0 } else { record.pid },
        bundle: record.bundle.clone(),
        annotations: record.annotations.clone(),
    }
}

/// A user's name, or `#number`.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    let bytes = std::fs::read(path).map_err(|e| CliError::file("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|source| CliError::Json { path: path.to_owned(), source })
}
