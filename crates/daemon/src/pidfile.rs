//! The file that holds the daemon's process id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A written pid file, removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

/// Why it could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    #[error("process with PID {pid} is still running (pid file {path})")]
    Running { pid: u32, path: PathBuf },
    #[error("{step} {path}: {source}")]
    Io { step: &'static str, path: PathBuf, source: io::Error },
}

impl PidFile {
    /// Writes our process id, unless another daemon's stands there and runs.
    ///
    /// # Errors
    /// Another daemon runs, or the file cannot be written.
    pub(crate) fn write(path: &Path) -> Result<Self, PidFileError> {
        let step =
            |step: &'static str| move |source| PidFileError::Io { step, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(step("create the directory of"))?;
        }
        let own = std::process::id();
        let other = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(pid) = other.filter(|pid| *pid != own && is_daemon(*pid)) {
            return Err(PidFileError::Running { pid, path: path.to_owned() });
        }
        fs::write(path, own.to_string()).map_err(step("write"))?;
        Ok(Self(path.to_owned()))
    }
}

/// Pids are given out again: only a process that runs our program counts.
fn is_daemon(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "seacowd")
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("cannot remove the pid file {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_overwritten_and_ours_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/seacowd.pid");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Pid 1 runs, but is not seacowd.
        fs::write(&path, "1").unwrap();
        let written = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(written);
        assert!(!path.exists());
    }
}
