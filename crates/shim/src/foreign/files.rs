//! What another runtime needs as files, all below one directory.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A file that could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {source}", path.display())]
pub(crate) struct FileError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Largest log of one command that is read: a few lines of JSON.
const MAX_LOG: usize = 64 << 10;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Makes it, for the owner only.
    pub(crate) fn make(&self) -> Result<(), FileError> {
        for dir in [&self.dir, &self.bundle(), &self.state()] {
            match fs::DirBuilder::new().mode(0o700).create(dir) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(FileError { step: "make", path: dir.clone(), source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes it with everything in it.
    pub(crate) fn remove(&self) -> Result<(), FileError> {
        match fs::remove_dir_all(&self.dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FileError { step: "remove", path: self.dir.clone(), source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The OCI bundle.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// The runtime's own state (`--root`). It holds this container alone.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What a running command logs.
    pub(crate) fn log(&self, call: &str) -> PathBuf {
        self.dir.join(format!("log-{call}.json"))
    }

    /// Writes `value` to the file of that name.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, FileError> {
        let path = self.dir.join(name);
        let written = serde_json::to_vec(value).map_err(io::Error::from).and_then(|b| fs::write(&path, b));
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(FileError { step: "write", path, source }),
        }
    }

    /// Reads a file with a pid, and removes it.
    pub(crate) fn take_pid(&self, path: &Path) -> Result<i32, FileError> {
        let failed = |source| FileError { step: "read", path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        let _ = fs::remove_file(path);
        text.trim().parse().map_err(|_| failed(io::Error::other(format!("{text:?} is no pid"))))
    }

    /// The last complaint in an ended command's log, which is removed.
    pub(crate) fn take_complaint(&self, call: &str) -> Option<String> {
        let bytes = fs::read(self.log(call));
        let _ = fs::remove_file(self.log(call));
        let bytes = bytes.ok()?;
        let tail = bytes.len().saturating_sub(MAX_LOG);
        let text = String::from_utf8_lossy(bytes.get(tail..)?).into_owned();
        last_complaint(&text)
    }
}

/// One line of the log.
#[derive(serde::Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// Runtimes log JSON lines as runc's logger does; the last error is what ended the command.
fn last_complaint(log: &str) -> Option<String> {
    let mut errors = log.lines().filter_map(|line| {
        let line: Line = serde_json::from_str(line).ok()?;
        matches!(line.level.as_str(), "error" | "fatal" | "panic").then_some(line.msg)
    });
    errors.rfind(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_counts() {
        let log = "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"t\"}\nnonsense\n\
                   {\"level\":\"error\",\"msg\":\"first\"}\n{\"msg\":\"second\",\"level\":\"error\",\"time\":\"t\"}\n\
                   {\"level\":\"info\",\"msg\":\"i\"}\n";
        assert_eq!(last_complaint(log).as_deref(), Some("second"));
        assert_eq!(last_complaint("{\"level\":\"info\",\"msg\":\"i\"}"), None);
    }

    #[test]
    fn everything_is_below_one_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let files = Files::new(temporary.path().join("oci"));
        files.make().unwrap();
        files.make().unwrap();
        let pid = files.write("pid", &42).unwrap();
        assert_eq!(files.take_pid(&pid).unwrap(), 42);
        assert!(files.take_pid(&pid).is_err());
        files.remove().unwrap();
        files.remove().unwrap();
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}
