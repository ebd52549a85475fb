//! The device filter of cgroup v2: an eBPF program attached to a cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::Errno;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr` as far as loading needs it.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` as far as attaching needs it.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// Loads a device program; each instruction is its eight bytes as a native `u64`.
pub fn load_device_program(instructions: &[u64]) -> Result<OwnedFd, Errno> {
    let attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        insns: instructions.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: attr, the instructions and the licence text live across the call, the counts are
    // theirs; the kernel copies and verifies the program.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) };
    let fd = RawFd::try_from(crate::raw::check(fd)?).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the call gave a new close-on-exec descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup directory, beside those already there: all must allow.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    attach(PROG_ATTACH, cgroup, program, ALLOW_MULTI)
}

/// Detaches it again.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    attach(PROG_DETACH, cgroup, program, 0)
}

fn attach(
    command: libc::c_int,
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
) -> Result<(), Errno> {
    let number = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF);
    let attr = AttachAttr {
        target_fd: number(cgroup)?,
        attach_bpf_fd: number(program)?,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: 0,
    };
    // SAFETY: attr lives across the call and both descriptors are borrowed for it.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of::<AttachAttr>()) };
    crate::raw::check(done).map(drop)
}

/// The device programs that are attached to this very cgroup directory.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    attached_ids(cgroup)?.into_iter().map(open_by_id).collect()
}

fn attached_ids(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    const PROG_QUERY: libc::c_int = 16;
    #[repr(C)]
    struct QueryAttr {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        pad: u32,
    }
    // The kernel allows 64 programs per cgroup and type.
    let mut ids = vec![0u32; 64];
    let mut attr = QueryAttr {
        target_fd: u32::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?,
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        pad: 0,
    };
    // SAFETY: attr and the 64 ids live across the call; the kernel writes at most prog_cnt of them.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut attr, size_of::<QueryAttr>()) };
    crate::raw::check(done)?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

fn open_by_id(id: u32) -> Result<OwnedFd, Errno> {
    const PROG_GET_FD_BY_ID: libc::c_int = 13;
    // prog_id, next_id, open_flags.
    let attr = [id, 0, 0];
    // SAFETY: attr lives across the call and its size is given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_GET_FD_BY_ID, attr.as_ptr(), size_of_val(&attr)) };
    let fd = RawFd::try_from(crate::raw::check(fd)?).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the call gave a new close-on-exec descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
