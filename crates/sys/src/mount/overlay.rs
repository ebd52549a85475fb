//! Overlay file systems.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::FsOpenFlags;

use super::{Attributes, Error, log_of};
use crate::Errno;

/// The writable part of an overlay.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    /// Receives changes.
    pub dir: &'a Path,
    /// Scratch directory on the same file system.
    pub work: &'a Path,
    /// Skip all syncs; the upper directory cannot be mounted again without repair.
    pub volatile: bool,
    /// A change of owner or mode copies no data, a directory of a lower layer is renamed by a note. The
    /// upper directory is not to be understood without the layers below then.
    pub metacopy: bool,
}

/// An overlay to be mounted.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// Read-only layers, topmost first.
    pub lowers: &'a [&'a Path],
    /// The writable one; without it two lowers are the minimum.
    pub upper: Option<Upper<'a>>,
    /// What `/proc/mounts` shows as the source.
    pub source: &'a str,
    /// SELinux label of everything in it, whatever the layers' files have.
    pub context: Option<&'a str>,
}

/// Features that would leave traces in the upper directory which another kernel, or the same
/// directory on its own, does not understand. Explicit, because distributions change the defaults.
const PLAIN: [(&str, &str); 4] =
    [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off"), ("xino", "off")];

/// The same for an upper directory that may have such traces. The kernel has one only with the other.
const WITH_METACOPY: [(&str, &str); 4] =
    [("redirect_dir", "on"), ("metacopy", "on"), ("index", "off"), ("xino", "off")];

impl Overlay<'_> {
    /// Mounts it, detached.
    pub fn mount(&self, attributes: Attributes) -> Result<OwnedFd, Error> {
        let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| Error::new("fsopen", "overlay", errno))?;
        let fs = fs.as_fd();
        set(fs, "source", self.source)?;
        if let Some(context) = self.context {
            set(fs, "context", context)?;
        }
        self.set_lowers(fs)?;
        if let Some(upper) = &self.upper {
            set_path(fs, "upperdir", upper.dir)?;
            set_path(fs, "workdir", upper.work)?;
            if upper.volatile {
                rustix::mount::fsconfig_set_flag(fs, "volatile").map_err(|e| refused(fs, "volatile", e))?;
            }
        }
        let traces = self.upper.as_ref().is_some_and(|upper| upper.metacopy);
        for (key, value) in if traces { WITH_METACOPY } else { PLAIN } {
            set(fs, key, value)?;
        }
        rustix::mount::fsconfig_create(fs).map_err(|e| refused(fs, &self.describe(), e))?;
        super::detached(fs, "overlay", attributes)
    }

    /// One call per layer (Linux 6.8); older kernels want one string, at most a page in mount(2)
    /// and 256 bytes here, so there colons and lengths are the limit.
    fn set_lowers(&self, fs: BorrowedFd<'_>) -> Result<(), Error> {
        for (index, lower) in self.lowers.iter().enumerate() {
            match rustix::mount::fsconfig_set_string(fs, "lowerdir+", *lower) {
                Ok(()) => {}
                Err(Errno::INVAL) if index == 0 => {
                    // Drop the complaint about the unknown key, it would confuse a later error.
                    let _ = log_of(fs);
                    return self.set_lowers_joined(fs);
                }
                Err(errno) => return Err(refused(fs, &format!("lowerdir+={}", lower.display()), errno)),
            }
        }
        Ok(())
    }

    fn set_lowers_joined(&self, fs: BorrowedFd<'_>) -> Result<(), Error> {
        let mut joined = Vec::new();
        for lower in self.lowers {
            if !joined.is_empty() {
                joined.push(b':');
            }
            for byte in lower.as_os_str().as_encoded_bytes() {
                if matches!(byte, b':' | b'\\') {
                    joined.push(b'\\');
                }
                joined.push(*byte);
            }
        }
        rustix::mount::fsconfig_set_string(fs, "lowerdir", joined.as_slice())
            .map_err(|e| refused(fs, &format!("lowerdir={}", String::from_utf8_lossy(&joined)), e))
    }

    fn describe(&self) -> String {
        let top = self.lowers.first().map(|l| l.display().to_string()).unwrap_or_default();
        match &self.upper {
            Some(upper) => format!(
                "{} layers, topmost {top}, upperdir={}, workdir={}",
                self.lowers.len(),
                upper.dir.display(),
                upper.work.display()
            ),
            None => format!("{} layers, topmost {top}, read-only", self.lowers.len()),
        }
    }
}

fn set(fs: BorrowedFd<'_>, key: &str, value: &str) -> Result<(), Error> {
    rustix::mount::fsconfig_set_string(fs, key, value).map_err(|e| refused(fs, &format!("{key}={value}"), e))
}

/// A directory option. The parser of older kernels takes a backslash for an escape.
fn set_path(fs: BorrowedFd<'_>, key: &str, path: &Path) -> Result<(), Error> {
    rustix::mount::fsconfig_set_string(fs, key, path)
        .map_err(|e| refused(fs, &format!("{key}={}", path.display()), e))
}

fn refused(fs: BorrowedFd<'_>, what: &str, errno: Errno) -> Error {
    Error { log: log_of(fs), ..Error::new("mount overlay:", what, errno) }
}
