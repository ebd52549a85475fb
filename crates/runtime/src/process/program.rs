//! Finding the program, and saying why it cannot be executed in the words docker's users know.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use seacow_sys::Errno;

/// Why a program cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No argument at all.
    #[error("no command specified")]
    Empty,
    /// Not in any directory of the search path.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// A path that cannot be looked at.
    #[error("exec: {path:?}: stat {path}: {}", go_text(*.errno))]
    Stat {
        /// The path.
        path: String,
        /// Why.
        errno: Errno,
    },
    /// A path that is there and cannot be executed.
    #[error("exec: {path:?}: {}", go_text(*.errno))]
    NotExecutable {
        /// The path.
        path: String,
        /// Why.
        errno: Errno,
    },
    /// The kernel refused to execute it.
    #[error("exec {path}: {}", go_text(*.errno))]
    Exec {
        /// The path.
        path: String,
        /// Why.
        errno: Errno,
    },
    /// An argument or variable with a zero byte.
    #[error("exec: zero byte in {0:?}")]
    ZeroByte(String),
}

impl Error {
    /// What a shell would exit with.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotInPath(_)
            | Self::Stat { errno: Errno::NOENT, .. }
            | Self::Exec { errno: Errno::NOENT, .. } => 127,
            Self::Empty
            | Self::Stat { .. }
            | Self::NotExecutable { .. }
            | Self::Exec { .. }
            | Self::ZeroByte(_) => 126,
        }
    }
}

/// The search path of a process that has none in its environment: Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file that a command means, seen with the caller's rights and from its directory.
pub(crate) fn find(command: &str, env: &[String]) -> Result<PathBuf, Error> {
    if command.contains('/') {
        let path = Path::new(command);
        return match check(path) {
            Ok(()) => Ok(path.to_owned()),
            Err(Refused::Stat(errno)) => Err(Error::Stat { path: command.to_owned(), errno }),
            Err(Refused::Unfit(errno)) => Err(Error::NotExecutable { path: command.to_owned(), errno }),
        };
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    for dir in path.split(':') {
        // An empty element is the current directory, as in a shell.
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(command);
        if check(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(Error::NotInPath(command.to_owned()))
}

enum Refused {
    Stat(Errno),
    Unfit(Errno),
}

fn check(path: &Path) -> Result<(), Refused> {
    let stat = rustix::fs::stat(path).map_err(Refused::Stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Refused::Unfit(Errno::ISDIR));
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(Refused::Unfit(Errno::ACCESS));
    }
    Ok(())
}

/// What the kernel said to an execve.
pub(crate) fn refused(command: &str, path: &Path, errno: Errno) -> Error {
    match errno {
        Errno::ACCESS => Error::NotExecutable { path: command.to_owned(), errno },
        _ => Error::Exec { path: path.display().to_string(), errno },
    }
}

/// Argument and environment strings for the kernel.
pub(crate) fn c_strings(strings: &[String]) -> Result<Vec<CString>, Error> {
    strings.iter().map(|s| CString::new(s.as_bytes()).map_err(|_| Error::ZeroByte(s.clone()))).collect()
}

/// A path for the kernel.
pub(crate) fn c_path(path: &Path) -> Result<CString, Error> {
    CString::new(OsStr::as_bytes(path.as_os_str())).map_err(|_| Error::ZeroByte(path.display().to_string()))
}

/// Errors as Go prints them: clients and their tests look for these words.
pub(crate) fn go_text(errno: Errno) -> String {
    let text = match errno {
        Errno::NOENT => "no such file or directory",
        Errno::ACCESS => "permission denied",
        Errno::PERM => "operation not permitted",
        Errno::NOEXEC => "exec format error",
        Errno::NOTDIR => "not a directory",
        // The kernel's answer to who executes one, and what clients older than the words before it look for.
        Errno::ISDIR => "is a directory: permission denied",
        Errno::LOOP => "too many levels of symbolic links",
        Errno::TOOBIG => "argument list too long",
        Errno::TXTBSY => "text file busy",
        Errno::NAMETOOLONG => "file name too long",
        Errno::NOMEM => "cannot allocate memory",
        other => return other.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(command: &str, path: &str) -> (String, i32) {
        let error = find(command, &[format!("PATH={path}")]).unwrap_err();
        (error.to_string(), error.exit_code())
    }

    #[test]
    fn texts_and_codes() {
        let not_found = "exec: \"nosuchcmd\": executable file not found in $PATH".to_owned();
        assert_eq!(text("nosuchcmd", "/bin:/usr/bin"), (not_found, 127));
        assert_eq!(text("/etc/passwd", ""), ("exec: \"/etc/passwd\": permission denied".into(), 126));
        assert_eq!(text("/etc", ""), ("exec: \"/etc\": is a directory: permission denied".into(), 126));
        let missing = "exec: \"/no/such\": stat /no/such: no such file or directory".to_owned();
        assert_eq!(text("/no/such", ""), (missing, 127));
        assert_eq!(find("sh", &["PATH=/nosuch:/bin".into()]).unwrap(), Path::new("/bin/sh"));
        assert_eq!(refused("x", Path::new("/x"), Errno::NOEXEC).to_string(), "exec /x: exec format error");
    }
}
