//! Limits of what a directory tree takes: projects of xfs.
//!
//! A *project* is a number that files carry; new ones inherit it from a directory that is marked so. The
//! file system keeps a limit for each (xfs(5), quotactl(2)). Those of btrfs are in [`crate::btrfs`].

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Errno, raw};

/// Get and set the attributes of a file that xfs introduced (`FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`).
const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// New entries of the directory belong to its project.
const INHERIT: u32 = 0x200;

/// `quotactl_fd`, since Linux 5.14: by a file on the file system instead of its device.
const QUOTACTL_FD: libc::c_long = 443;
/// `PRJQUOTA`.
const PROJECTS: u32 = 2;
/// `XQM_CMD(n)`.
const XFS_COMMAND: u32 = 0x5800;
const GET_QUOTA: u32 = XFS_COMMAND + 3;
const SET_LIMITS: u32 = XFS_COMMAND + 4;
const GET_STATE: u32 = XFS_COMMAND + 5;
/// `FS_QUOTA_PDQ_ENFD`.
const ENFORCED: u16 = 1 << 5;
/// `FS_DQ_BSOFT | FS_DQ_BHARD`.
const BLOCK_LIMITS: u16 = 1 << 2 | 1 << 3;
/// `FS_PROJ_QUOTA`.
const OF_PROJECT: i8 = 1 << 1;
/// xfs counts in blocks of this size, whatever those of the file system are.
const BLOCK: u64 = 512;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    blocks: u64,
    inodes: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    timers_high: [i8; 3],
    padding: i8,
    realtime: [u64; 3],
    realtime_timer: i32,
    realtime_warnings: u16,
    padding3: i16,
    padding4: [u8; 8],
}

/// `struct fs_quota_stat`; of it only the flags are read.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    flags: u16,
    padding: i8,
    files: [[u64; 3]; 2],
    rest: [u32; 6],
}

/// What a project takes, and may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// The limit in bytes; 0 is none.
    pub limit: u64,
}

/// Makes a file or directory a project's. What is made in a directory later is the project's too; what is in
/// it already is not.
pub fn set_project(file: BorrowedFd<'_>, project: u32) -> Result<(), Errno> {
    let mut attributes = Attributes::default();
    // SAFETY: the ioctl writes one `fsxattr`, whose layout Attributes has; it lives across the call.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    raw::check(got.into())?;
    attributes.project = project;
    attributes.flags = if project == 0 { attributes.flags & !INHERIT } else { attributes.flags | INHERIT };
    // SAFETY: the ioctl reads one `fsxattr`, as above.
    let set = unsafe { libc::ioctl(file.as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    raw::check(set.into()).map(drop)
}

/// The project of a file or directory; 0 is none.
pub fn project(file: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut attributes = Attributes::default();
    // SAFETY: as in `set_project`.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    raw::check(got.into())?;
    Ok(attributes.project)
}

/// Whether the file system that holds `file` keeps the limits of projects. `ENOSYS`: the kernel has no quota
/// for it.
pub fn are_projects_limited(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut state = State::default();
    call(file, GET_STATE, 0, (&raw mut state).cast())?;
    Ok(state.flags & ENFORCED != 0)
}

/// Sets what a project may take, in bytes, rounded up to blocks of 512; 0 is no limit.
pub fn limit_project(file: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<(), Errno> {
    let blocks = bytes.div_ceil(BLOCK);
    let mut quota = DiskQuota {
        version: 1,
        flags: OF_PROJECT,
        fields: BLOCK_LIMITS,
        id: project,
        blocks_hard: blocks,
        blocks_soft: blocks,
        ..DiskQuota::default()
    };
    call(file, SET_LIMITS, project, (&raw mut quota).cast())
}

/// What a project takes. Of one that nobody has ever used it is nothing.
pub fn use_of_project(file: BorrowedFd<'_>, project: u32) -> Result<Use, Errno> {
    let mut quota = DiskQuota::default();
    match call(file, GET_QUOTA, project, (&raw mut quota).cast()) {
        Err(Errno::NOENT) => return Ok(Use::default()),
        done => done?,
    }
    let bytes = |blocks: u64| blocks.saturating_mul(BLOCK);
    Ok(Use { bytes: bytes(quota.blocks), inodes: quota.inodes, limit: bytes(quota.blocks_hard) })
}

fn call(file: BorrowedFd<'_>, command: u32, project: u32, address: *mut libc::c_void) -> Result<(), Errno> {
    let command = command << 8 | PROJECTS;
    // SAFETY: every caller passes the struct that its command reads or writes, which lives across the call.
    let done = unsafe { libc::syscall(QUOTACTL_FD, file.as_raw_fd(), command, project, address) };
    raw::check(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's sizes, which are in the numbers of the calls.
    #[test]
    fn layouts() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<State>(), 80);
        assert_eq!(std::mem::offset_of!(DiskQuota, blocks), 40);
        assert_eq!(std::mem::offset_of!(State, flags), 2);
    }
}
