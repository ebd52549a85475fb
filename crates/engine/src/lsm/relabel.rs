//! Giving another SELinux label to files of the host: `:z`, `:Z`, volumes.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

const ATTRIBUTE: &str = "security.selinux";

/// Directories that belong to the system: with another label it works no more. Docker's list, and what
/// `/bin` and the like are links to.
const SYSTEM: [&str; 28] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/sbin",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Why files were not labelled.
#[derive(Debug, thiserror::Error)]
pub enum RelabelError {
    #[error("SELinux relabeling of {} is not allowed", .0.display())]
    System(PathBuf),
    #[error("{}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// Labels a file, or a directory with everything below it, where the file system has labels.
///
/// # Errors
/// It is the system's, or does not exist.
pub(crate) fn tree(path: &Path, label: &str) -> Result<(), RelabelError> {
    let at = |source: Errno| RelabelError::Io { path: path.to_owned(), source: source.into() };
    // What a link names is what is mounted.
    let real = path.canonicalize().map_err(|source| RelabelError::Io { path: path.to_owned(), source })?;
    refuse_system(&real)?;
    // By descriptors: somebody who shares the directory may exchange parts of it meanwhile.
    let top = rustix::fs::open(&real, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(at)?;
    // Followed: it leads to what is open.
    let own = format!("/proc/self/fd/{}", top.as_raw_fd());
    match rustix::fs::setxattr(own.as_str(), ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        // Nothing below it can have labels either.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        done => done.map_err(at)?,
    }
    if is_directory(top.as_fd()).map_err(at)? { below(top.as_fd(), label).map_err(at) } else { Ok(()) }
}

/// Labels one file of ours.
pub(crate) fn file(path: &Path, label: &str) -> std::io::Result<()> {
    match rustix::fs::lsetxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn refuse_system(path: &Path) -> Result<(), RelabelError> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let is_home = home.is_some_and(|home| !home.as_os_str().is_empty() && home == path);
    if is_home || SYSTEM.iter().any(|system| Path::new(system) == path) {
        return Err(RelabelError::System(path.to_owned()));
    }
    Ok(())
}

fn below(dir: BorrowedFd<'_>, label: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let inner = match rustix::fs::openat(
            dir,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(inner) => inner,
            // Removed meanwhile.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        // The last part is not followed.
        let own = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        match rustix::fs::lsetxattr(&own, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
            // Removed, or a file system of its own that has no labels.
            Ok(()) | Err(Errno::NOENT | Errno::OPNOTSUPP | Errno::ROFS) => {}
            Err(errno) => return Err(errno),
        }
        if is_directory(inner.as_fd())? {
            below(inner.as_fd(), label)?;
        }
    }
    Ok(())
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label_of(path: &Path) -> Option<String> {
        let mut buffer = [0; 256];
        let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).trim_end_matches('\0').to_owned())
    }

    /// Any kernel keeps the attribute; what it means is SELinux's business.
    #[test]
    fn a_tree_is_labelled_and_links_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIP: labels are root's to set");
        }
        let dir = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
        let outside = dir.path().join("outside");
        let inside = dir.path().join("inside");
        std::fs::create_dir_all(inside.join("deep/er")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(inside.join("deep/file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        tree(&inside, label).unwrap();
        for path in ["", "deep", "deep/er", "deep/file", "link"] {
            assert_eq!(label_of(&inside.join(path)).as_deref(), Some(label), "{path}");
        }
        assert_ne!(label_of(&outside).as_deref(), Some(label));
        // A single file, and what a link names.
        tree(&inside.join("deep/file"), "u:object_r:t:s0").unwrap();
        assert_eq!(label_of(&inside.join("deep/file")).as_deref(), Some("u:object_r:t:s0"));
        tree(&inside.join("link"), label).unwrap();
        assert_eq!(label_of(&outside).as_deref(), Some(label));
        assert!(matches!(tree(&dir.path().join("none"), label), Err(RelabelError::Io { .. })));
    }

    #[test]
    fn the_system_s_own_directories_are_refused() {
        for path in ["/", "/usr", "/etc/", "/usr/../etc", "/tmp", "/var/lib"] {
            let error = tree(Path::new(path), "u:object_r:t:s0").unwrap_err();
            assert!(matches!(error, RelabelError::System(_)), "{path}: {error}");
        }
        let said = tree(Path::new("/usr"), "x").unwrap_err().to_string();
        assert_eq!(said, "SELinux relabeling of /usr is not allowed");
    }
}
