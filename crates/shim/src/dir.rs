//! The container's exec directory: socket, exit status, what a cleanup needs.
//!
//! It lies on a tmpfs and lives as long as the container runs, so nothing is synced; but each file
//! appears whole (temporary name, then rename), because its reader comes after a crash.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use seacow_spec::lifecycle::Exit;
use seacow_spec::shim::{
    CLEANUP_NAME, CleanupRecord, EXIT_NAME, PROTOCOL_VERSION, Request, SOCKET_NAME, ToShim, encode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Daemons that may wait to be accepted: one that comes back, and tools.
const BACKLOG: i32 = 8;
/// How long a shim that lives may take to answer: it works off requests one by one, and one of
/// them may be mounting.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// An empty directory for the runtime.
const STAGE_NAME: &str = "stage";
/// Files of a runtime that is not ours.
const FOREIGN_NAME: &str = "oci";

/// A file of the exec directory that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {source}", path.display())]
pub(crate) struct DirError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The exec directory of one container.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    path: PathBuf,
}

impl Dir {
    /// An existing directory; a relative path is resolved now.
    ///
    /// # Errors
    /// There is no such directory.
    pub(crate) fn open(path: &Path) -> Result<Self, DirError> {
        match fs::canonicalize(path) {
            Ok(path) => Ok(Self { path }),
            Err(source) => Err(DirError { step: "open", path: path.to_owned(), source }),
        }
    }

    /// Where init gathers its mounts, in its own namespace; on the host an empty directory.
    pub(crate) fn stage(&self) -> PathBuf {
        self.at(STAGE_NAME)
    }

    /// Where the files of a runtime that is not ours are; who makes it removes it.
    pub(crate) fn foreign(&self) -> PathBuf {
        self.at(FOREIGN_NAME)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn failed(&self, step: &'static str, name: &str, source: io::Error) -> DirError {
        DirError { step, path: self.at(name), source }
    }

    /// Listens on the shim's socket, for the owner only. Call it before there are children: it
    /// changes the file mode mask for a moment, so that nobody can connect before the mode is set.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn listen(&self) -> Result<OwnedFd, DirError> {
        let failed = |errno: Errno| self.failed("listen on", SOCKET_NAME, errno.into());
        self.remove(SOCKET_NAME)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(failed)?;
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = seacow_sys::unix::listen(handle.as_fd(), SOCKET_NAME, BACKLOG);
        rustix::process::umask(mask);
        listener.map_err(failed)
    }

    /// Whether a shim answers on its socket. To connect is not enough: a child that is dying holds
    /// the socket until it is dead. A shim that does not answer in time counts as alive.
    ///
    /// # Errors
    /// That cannot be found out.
    pub(crate) fn is_served(&self) -> Result<bool, DirError> {
        let socket = match seacow_sys::unix::connect_path(&self.at(SOCKET_NAME)) {
            Ok(socket) => socket,
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(false),
            Err(errno) => return Err(self.failed("connect to", SOCKET_NAME, errno.into())),
        };
        greet(socket.into()).map_err(|error| self.failed("greet", SOCKET_NAME, error))
    }

    /// Writes the container's exit status.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_exit(&self, exit: &Exit) -> Result<(), DirError> {
        self.write(EXIT_NAME, exit)
    }

    /// Whether an exit status is there already.
    pub(crate) fn has_exit(&self) -> bool {
        self.at(EXIT_NAME).exists()
    }

    /// Writes what a cleanup needs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_cleanup(&self, record: &CleanupRecord) -> Result<(), DirError> {
        self.write(CLEANUP_NAME, record)
    }

    /// Writes more of what a cleanup needs over what is there: a longer text, in one call, which nobody sees
    /// half done. (A new file and its renaming take a quarter of a millisecond on a busy disk.)
    ///
    /// # Errors
    /// The file is not there, or cannot be written.
    pub(crate) fn amend_cleanup(&self, record: &CleanupRecord) -> Result<(), DirError> {
        let failed = |source: io::Error| self.failed("write", CLEANUP_NAME, source);
        let bytes = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let mut file = fs::OpenOptions::new().write(true).open(self.at(CLEANUP_NAME)).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)
    }

    /// Reads what a cleanup needs; `None` when no container was made.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub(crate) fn read_cleanup(&self) -> Result<Option<CleanupRecord>, DirError> {
        self.read(CLEANUP_NAME)
    }

    /// Removes the socket, the stage and what a cleanup would need. The exit status stays for a daemon that
    /// was not there to hear it; the directory is the daemon's.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(crate) fn clear(&self) -> Result<(), DirError> {
        self.remove(SOCKET_NAME)?;
        match fs::remove_dir(self.stage()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("remove", STAGE_NAME, error));
            }
            Ok(()) | Err(_) => {}
        }
        self.remove(CLEANUP_NAME)
    }

    /// Removes the socket, so that no daemon tries to connect.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove_socket(&self) -> Result<(), DirError> {
        self.remove(SOCKET_NAME)
    }

    fn remove(&self, name: &str) -> Result<(), DirError> {
        match fs::remove_file(self.at(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", name, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), DirError> {
        let failed = |source: io::Error| self.failed("write", name, source);
        let temporary = self.at(&format!(".{name}"));
        let bytes = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        fs::write(&temporary, bytes).map_err(failed)?;
        fs::rename(&temporary, self.at(name)).map_err(failed)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DirError> {
        match fs::read(self.at(name)) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(self.failed("read", name, error.into())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", name, error)),
        }
    }
}

/// Whether somebody answers.
fn greet(mut stream: UnixStream) -> io::Result<bool> {
    let hello = ToShim { seq: 0, request: Request::Hello { version: PROTOCOL_VERSION } };
    let frame = encode(&hello).map_err(io::Error::other)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let answered = stream.write_all(&frame).and_then(|()| stream.read(&mut [0; 1]));
    match answered {
        Ok(read) => Ok(read > 0),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(false),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(true),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seacow_spec::Timestamp;

    #[test]
    fn records_are_written_whole_and_read_back() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        assert!(dir.read_cleanup().unwrap().is_none());
        assert!(!dir.has_exit());
        let record = CleanupRecord {
            id: "a".repeat(64).parse().unwrap(),
            cgroups_path: "/seacow/a".into(),
            init: Some((7, 12)),
            runtime: None,
        };
        let without = CleanupRecord { init: None, ..record.clone() };
        dir.write_cleanup(&without).unwrap();
        dir.amend_cleanup(&record).unwrap();
        assert_eq!(dir.read_cleanup().unwrap(), Some(record));
        dir.write_exit(&Exit { code: 1, at: Timestamp::UNIX_EPOCH, oom_killed: false, reason: None })
            .unwrap();
        assert!(dir.has_exit());
        dir.clear().unwrap();
        dir.clear().unwrap();
        assert!(dir.has_exit());
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    }
}
