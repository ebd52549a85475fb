//! Mounts, by the descriptor-based interface (Linux 5.2) where a mount is made before it is placed,
//! and by mount(2) where one call does all.
//!
//! Vocabulary: a *detached* mount is a descriptor that nobody can reach by a path; [`attach`] puts
//! it somewhere; it vanishes when the descriptor is closed before that.

mod overlay;

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

pub use overlay::{Overlay, Upper};
pub use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::Errno;

/// Why a file system could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("{call} {what}{}", .log.as_deref().map(|l| format!(" ({l})")).unwrap_or_default())]
pub struct Error {
    /// The kernel call.
    pub call: &'static str,
    /// Its operands.
    pub what: String,
    /// The file system's own words, when it gave some.
    pub log: Option<String>,
    /// The kernel's answer.
    #[source]
    pub errno: Errno,
}

impl Error {
    fn new(call: &'static str, what: impl Into<String>, errno: Errno) -> Self {
        Self { call, what: what.into(), log: None, errno }
    }
}

/// Attributes of one mount, as opposed to options of its file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Read-only.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-id bits and file capabilities have no effect.
    pub const NO_SUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NO_DEV: Self = Self(0x4);
    /// Programs cannot be executed.
    pub const NO_EXEC: Self = Self(0x8);
    /// Never update access times (the default is relative).
    pub const NO_ATIME: Self = Self(0x10);
    /// Always update access times.
    pub const STRICT_ATIME: Self = Self(0x20);
    /// Never update access times of directories.
    pub const NO_DIRATIME: Self = Self(0x80);
    /// Map ids by a user namespace.
    pub const IDMAP: Self = Self(0x10_0000);
    /// Do not follow symlinks of this mount.
    pub const NO_SYMFOLLOW: Self = Self(0x20_0000);

    /// None.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The field of the three access time modes; cleared it means relative ones.
    pub const ATIME_MODES: Self = Self(Self::ATIME_MASK);

    const ATIME_MASK: u64 = 0x70;
}

impl std::ops::BitOr for Attributes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Attributes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// How a mount passes on what is mounted below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// To nobody, from nobody.
    Private,
    /// Both ways.
    Shared,
    /// Only from its master.
    Slave,
    /// Private, and cannot be bound elsewhere.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => 1 << 18,
            Self::Shared => 1 << 20,
            Self::Slave => 1 << 19,
            Self::Unbindable => 1 << 17,
        }
    }
}

/// One option of a file system: `key=value`, or a flag without value.
pub type FsOption<'a> = (&'a str, Option<&'a str>);

/// A new file system as a detached mount. `source` is what `/proc/mounts` shows first.
pub fn filesystem(
    kind: &str,
    source: &str,
    options: &[FsOption<'_>],
    attributes: Attributes,
) -> Result<OwnedFd, Error> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| Error::new("fsopen", kind, errno))?;
    let refused = |what: String| {
        let fs = fs.as_fd();
        move |errno| Error { log: log_of(fs), ..Error::new("fsconfig", what, errno) }
    };
    if !source.is_empty() {
        rustix::mount::fsconfig_set_string(&fs, "source", source)
            .map_err(refused(format!("{kind} source={source}")))?;
    }
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&fs, *key, *value)
                .map_err(refused(format!("{kind} {key}={value}")))?,
            None => rustix::mount::fsconfig_set_flag(&fs, *key).map_err(refused(format!("{kind} {key}")))?,
        }
    }
    rustix::mount::fsconfig_create(&fs).map_err(refused(format!("{kind}: create")))?;
    detached(fs.as_fd(), kind, attributes)
}

/// The mount of a configured file system context.
fn detached(fs: BorrowedFd<'_>, kind: &str, attributes: Attributes) -> Result<OwnedFd, Error> {
    let bits = u32::try_from(attributes.0).unwrap_or(u32::MAX);
    rustix::mount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(bits))
        .map_err(|errno| Error { log: log_of(fs), ..Error::new("fsmount", kind, errno) })
}

/// The messages of a file system context: one per read, `e ` in front of errors.
fn log_of(fs: BorrowedFd<'_>) -> Option<String> {
    let mut file = std::fs::File::from(rustix::io::fcntl_dupfd_cloexec(fs, 3).ok()?);
    let mut buffer = [0; 1024];
    let mut lines = Vec::new();
    while let Ok(len @ 1..) = file.read(&mut buffer) {
        let line = String::from_utf8_lossy(buffer.get(..len)?).trim_end().to_owned();
        lines.push(line.strip_prefix("e ").unwrap_or(&line).to_owned());
    }
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// Puts a detached mount on the directory or file `target`, given as a descriptor: nobody can swap
/// it for a link in between.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// Puts a detached mount on a path of ours.
pub fn attach_at(mount: BorrowedFd<'_>, target: &Path) -> Result<(), Errno> {
    rustix::mount::move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Moves an attached mount with everything below it. Neither may be below a shared mount.
pub fn move_to(from: &Path, target: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::move_mount(CWD, from, target, "", MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

/// A detached copy of the mount tree at `source`, or of its top mount only.
pub fn clone_tree(source: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(source, "", flags)
}

/// As [`clone_tree`], by a path of the host. A symlink at its end is followed.
pub fn clone_tree_at(source: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, source, flags)
}

/// What [`change`] does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Attributes to set.
    pub set: Attributes,
    /// Attributes to clear.
    pub clear: Attributes,
    /// New propagation.
    pub propagation: Option<Propagation>,
    /// User namespace whose mapping the mount gets (with [`Attributes::IDMAP`] in `set`).
    pub user_namespace: Option<BorrowedFd<'a>>,
    /// Also of all mounts below.
    pub recursive: bool,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes attributes or propagation of the mount that `fd` stands for (Linux 5.12).
pub fn change(fd: BorrowedFd<'_>, how: &Change<'_>) -> Result<(), Errno> {
    mount_setattr(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH, how)
}

/// As [`change`], by a path of ours.
pub fn change_at(path: &Path, how: &Change<'_>) -> Result<(), Errno> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    mount_setattr(libc::AT_FDCWD, &path, 0, how)
}

fn mount_setattr(dir: i32, path: &std::ffi::CStr, flags: i32, how: &Change<'_>) -> Result<(), Errno> {
    // The access time modes are one field: changing any needs clearing all.
    let atime =
        if (how.set.0 | how.clear.0) & Attributes::ATIME_MASK != 0 { Attributes::ATIME_MASK } else { 0 };
    let attr = MountAttr {
        set: how.set.0,
        clear: how.clear.0 | atime,
        propagation: how.propagation.map_or(0, Propagation::bits),
        user_namespace: match how.user_namespace {
            Some(fd) => u64::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)?,
            None => 0,
        },
    };
    let flags = if how.recursive { flags | AT_RECURSIVE } else { flags };
    // SAFETY: path is a C string, attr lives across the call and its size is given; the descriptor
    // numbers come from borrowed values that live as long as `how`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    crate::raw::check(done).map(drop)
}

const AT_RECURSIVE: i32 = 0x8000;

/// mount(2) of a new file system on a path of ours: one call instead of five where the place is
/// known to be no link.
pub fn mount_at(
    kind: &str,
    source: &str,
    target: &Path,
    flags: MountFlags,
    options: &str,
) -> Result<(), Errno> {
    let data = CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(source, target, kind, flags, Some(data.as_c_str()))
}

/// Binds `source` on `target`, both paths of ours.
pub fn bind(source: &Path, target: &Path, recursive: bool) -> Result<(), Errno> {
    if recursive {
        rustix::mount::mount_bind_recursive(source, target)
    } else {
        rustix::mount::mount_bind(source, target)
    }
}

/// Changes the propagation of every mount of the calling namespace.
pub fn make_all(propagation: Propagation) -> Result<(), Errno> {
    let kind = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    rustix::mount::mount_change("/", kind | MountPropagationFlags::REC)
}

/// Makes `new_root` (a mount point) the root of the calling mount namespace. The old root lies on
/// top of it, as the caller's directory, until [`detach_old_root`].
pub fn pivot_into(new_root: BorrowedFd<'_>) -> Result<(), Error> {
    let step = |call| move |errno| Error::new(call, "new root", errno);
    rustix::process::fchdir(new_root).map_err(step("chdir"))?;
    // With both arguments "." the old root ends up on top of the new one, no directory for it is
    // needed (pivot_root(2), notes).
    rustix::process::pivot_root(".", ".").map_err(step("pivot_root"))
}

/// Detaches what [`pivot_into`] left, in a call of its own because it may wait for an RCU grace
/// period. The caller's directory is `/` afterwards.
pub fn detach_old_root() -> Result<(), Error> {
    let step = |call| move |errno| Error::new(call, "old root", errno);
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(step("detach"))?;
    rustix::process::chdir("/").map_err(step("leave"))
}

/// Makes `new_root` (a mount point) the root where pivot_root is refused, because the present root
/// is the kernel's own (an initial ramdisk): moves it over the root and changes into it. What was
/// mounted before stays mounted below, out of sight but not out of the namespace.
pub fn move_over_root(new_root: BorrowedFd<'_>) -> Result<(), Error> {
    let step = |call| move |errno| Error::new(call, "new root", errno);
    rustix::process::fchdir(new_root).map_err(step("chdir"))?;
    rustix::mount::mount_move(".", "/").map_err(step("move over the root"))?;
    rustix::process::chroot(".").map_err(step("chroot"))?;
    rustix::process::chdir("/").map_err(step("chdir"))
}

/// Unmounts a path; refused with `EBUSY` while in use.
pub fn unmount(path: &Path) -> Result<(), Errno> {
    rustix::mount::unmount(path, UnmountFlags::NOFOLLOW)
}

/// Takes a mount out of the tree at once; it ends when its last user goes.
pub fn unmount_detach(path: &Path) -> Result<(), Errno> {
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// Detaches the attached mount whose root `mount` is, with all mounts below. Needs `/proc`.
pub fn detach(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::unmount(format!("/proc/self/fd/{}", mount.as_raw_fd()), UnmountFlags::DETACH)
}
