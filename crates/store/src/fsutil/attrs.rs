//! Owner, mode, times, extended attributes; overlayfs's marks.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use seacow_sys::Errno;
use seacow_sys::rooted::Entry;

const OPAQUE: &str = "trusted.overlay.opaque";
/// Of a directory: there are files in it that were copied up.
const IMPURE: &str = "trusted.overlay.impure";
/// Of a file: its content is below, only its attributes are here.
const METACOPY: &str = "trusted.overlay.metacopy";
/// Of a directory or such a file: where below, if not under its own name.
const REDIRECT: &str = "trusted.overlay.redirect";

/// Names and values of extended attributes.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a directory has besides its entries.
#[derive(Clone, Debug)]
pub(crate) struct Attrs {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Option<Timespec>,
    pub(crate) xattrs: Xattrs,
}

/// All attributes of an entry.
pub(crate) fn read(entry: &Entry) -> Result<Attrs, Errno> {
    let stat = entry.stat()?;
    Ok(Attrs {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Some(mtime(&stat)),
        xattrs: xattrs(entry)?,
    })
}

/// Owner, mode, attributes, times.
pub(crate) fn apply(entry: &Entry, attrs: &Attrs) -> Result<(), Errno> {
    entry.chown(attrs.uid, attrs.gid)?;
    entry.chmod(Mode::from_raw_mode(attrs.mode))?;
    set_xattrs(entry, &attrs.xattrs)?;
    match attrs.mtime {
        Some(mtime) => entry.utimens(&modified(mtime)),
        None => Ok(()),
    }
}

pub(crate) fn mtime(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ }
}

/// A time of change; the time of access is left alone.
pub(crate) fn modified(at: Timespec) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ }, last_modification: at }
}

/// Attributes that belong to the file rather than to the kernel's book-keeping: capabilities, ACLs,
/// the user's own. `security.selinux` and the like are the host's, `trusted.overlay.` overlayfs's.
pub(crate) fn is_portable(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
}

/// The portable attributes with their values, sorted by name.
pub(crate) fn xattrs(entry: &Entry) -> Result<Xattrs, Errno> {
    let mut out = Vec::new();
    for name in entry.xattr_names()? {
        if is_portable(name.as_bytes())
            && let Some(value) = entry.xattr(&name)?
        {
            out.push((name.as_bytes().to_vec(), value));
        }
    }
    out.sort();
    Ok(out)
}

/// Sets attributes that came from outside. Overlayfs's own would let an archive redirect lookups,
/// so they are left out.
pub(crate) fn set_xattrs(entry: &Entry, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Errno> {
    for (name, value) in xattrs.iter().filter(|(name, _)| is_acceptable(name)) {
        tolerate(name, entry.set_xattr(OsStr::from_bytes(name), value))?;
    }
    Ok(())
}

/// As [`set_xattrs`], on an open file.
pub(crate) fn set_xattrs_fd(file: BorrowedFd<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Errno> {
    for (name, value) in xattrs.iter().filter(|(name, _)| is_acceptable(name)) {
        let set = rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty());
        tolerate(name, set)?;
    }
    Ok(())
}

fn is_acceptable(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
}

/// File systems differ in what they keep; dockerd passes over the same refusals.
fn tolerate(name: &[u8], done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(Errno::PERM) if !name.starts_with(b"security.capability") => Ok(()),
        done => done,
    }
}

/// Overlayfs's mark of a deleted name: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn make_whiteout(entry: &Entry) -> Result<(), Errno> {
    entry.mknod(FileType::CharacterDevice, Mode::empty(), 0, 0)
}

/// Overlayfs's mark of a directory that hides those below it.
pub(crate) fn set_opaque(entry: &Entry) -> Result<(), Errno> {
    entry.set_xattr(OsStr::new(OPAQUE), b"y")
}

pub(crate) fn is_opaque(entry: &Entry) -> Result<bool, Errno> {
    Ok(entry.xattr(OsStr::new(OPAQUE))?.is_some_and(|value| value == b"y"))
}

/// Overlayfs's mark of a directory with files that were copied up.
pub(crate) fn set_impure(dir: &std::path::Path) -> Result<(), Errno> {
    rustix::fs::lsetxattr(dir, IMPURE, b"y", XattrFlags::empty())
}

/// Whether a file's content is that of the layer below.
pub(crate) fn is_metacopy(entry: &Entry) -> Result<bool, Errno> {
    Ok(entry.xattr(OsStr::new(METACOPY))?.is_some())
}

/// Where below something is, if not under its own name: a path from the root, or a name in the same
/// directory.
pub(crate) fn redirect(entry: &Entry) -> Result<Option<Vec<u8>>, Errno> {
    entry.xattr(OsStr::new(REDIRECT))
}

/// Takes overlayfs's notes away from what stands for itself now.
pub(crate) fn clear_marks(entry: &Entry) -> Result<(), Errno> {
    for name in [METACOPY, REDIRECT] {
        match entry.remove_xattr(OsStr::new(name)) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Has `to` say of itself what `from` does.
pub(crate) fn copy_marks(from: &Entry, to: &Entry) -> Result<(), Errno> {
    for name in [OPAQUE, METACOPY, REDIRECT] {
        if let Some(value) = from.xattr(OsStr::new(name))? {
            to.set_xattr(OsStr::new(name), &value)?;
        }
    }
    Ok(())
}

/// As [`is_opaque`], by a path of ours whose last name is a directory.
pub(crate) fn is_opaque_at(path: &std::path::Path) -> Result<bool, Errno> {
    let mut value = [0u8; 4];
    match rustix::fs::lgetxattr(path, OPAQUE, &mut value[..]) {
        Ok(len) => Ok(value.get(..len) == Some(&b"y"[..])),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}
