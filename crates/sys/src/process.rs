//! Making, watching, ending and replacing processes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions};

use crate::Errno;
use crate::ns::Kinds;

/// How a child is made.
#[derive(Debug, Default)]
pub struct Clone<'a> {
    /// Namespaces it gets anew.
    pub namespaces: Kinds,
    /// A cgroup v2 directory it is born in (Linux 5.7): no later move, no RCU wait.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child becomes the caller's sibling: its parent, and whom its end is told, is the
    /// caller's parent.
    pub sibling: bool,
}

/// On which side of the clone the caller is.
#[derive(Debug)]
pub enum Cloned {
    /// The caller goes on.
    Parent {
        /// The child, as the caller's pid namespace sees it.
        pid: i32,
        /// A handle that cannot mean another process later.
        pidfd: OwnedFd,
    },
    /// The caller is the child: a copy of the parent's memory, without its threads. It must end by
    /// [`execve`] or [`exit_now`], never by returning from `main`.
    Child,
}

/// `struct clone_args`, version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child process. Refused with `EDEADLK` when the calling process has more than one
/// thread: locks that another thread held, the allocator's among them, would stay locked in the
/// child for ever.
pub fn clone3(how: &Clone<'_>) -> Result<Cloned, Errno> {
    // A directory's link count is 2 and one per subdirectory, here one per thread.
    if rustix::fs::stat("/proc/self/task")?.st_nlink != 3 {
        return Err(Errno::DEADLK);
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | how.namespaces.bits(),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = how.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    if how.sibling {
        // It ends with the signal that the caller ends with.
        (args.flags, args.exit_signal) = (args.flags | CLONE_PARENT, 0);
    }
    // SAFETY: args outlives the call and its size is given; without CLONE_VM and with stack 0 the
    // child runs on its own copy of this stack, so both sides return here like after fork. The
    // process is single-threaded, checked above, so no lock is held by a thread that the child lacks.
    let pid =
        crate::raw::check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    let pid = i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so pidfd is a new descriptor that nobody else owns
    // (the kernel makes it close-on-exec).
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By exiting with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    /// The status a shell shows: 128 + n after signal n.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// Waits for a child and reaps it.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Ended, Errno> {
    loop {
        if let Some(ended) = wait_id(pidfd, WaitIdOptions::EXITED)? {
            return Ok(ended);
        }
    }
}

/// Reaps a child if it has ended.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>, Errno> {
    wait_id(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Tells how a child has ended, without reaping it; `None` while it runs.
pub fn peek(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>, Errno> {
    wait_id(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
}

fn wait_id(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<Ended>, Errno> {
    let status = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd), options))?;
    Ok(status.and_then(|s| match (s.exit_status(), s.terminating_signal()) {
        (Some(code), _) => Some(Ended::Exited(code)),
        (None, Some(signal)) => Some(Ended::Killed(signal)),
        (None, None) => None,
    }))
}

/// Reaps any child that has ended (orphans, for a subreaper): its pid and end. `None` when none
/// has, `ECHILD` when there is no child at all.
pub fn try_wait_any() -> Result<Option<(i32, Ended)>, Errno> {
    // Not `waitpid(None)`, which means those of our own process group.
    let found = rustix::io::retry_on_intr(|| rustix::process::wait(WaitOptions::NOHANG))?;
    Ok(found.and_then(|(pid, s)| {
        let ended = match (s.exit_status(), s.terminating_signal()) {
            (Some(code), _) => Ended::Exited(code),
            (None, Some(signal)) => Ended::Killed(signal),
            (None, None) => return None,
        };
        Some((pid.as_raw_nonzero().get(), ended))
    }))
}

/// A handle on a process by pid. The pid must not have been reaped, or may mean another process.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// Sends any signal, real-time ones included; 0 only asks whether the process is there.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is borrowed for the call and a null siginfo is allowed.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    crate::raw::check(sent).map(drop)
}

/// Sends any signal by pid. Prefer [`pidfd_signal`]: this pid may mean another process by now.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 1 {
        // 0, -1 and 1 would hit a group, everybody or the machine's init.
        return Err(Errno::SRCH);
    }
    // SAFETY: kill touches no memory.
    crate::raw::check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Replaces the program of the calling process. Returns only when that failed.
pub fn execve(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: path is a C string, both arrays are null-terminated arrays of C strings that live
    // until the call returns, which it does only on failure.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    crate::raw::last()
}

/// As [`execve`], but the program is an open file (a sealed memory file, say). A script cannot be
/// run so from a close-on-exec descriptor: its interpreter could not open it.
pub fn execve_fd(program: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> Errno {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: the path is the empty C string, both arrays are null-terminated arrays of C strings
    // that live until the call returns, which it does only on failure.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    crate::raw::last()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Ends the process without running exit handlers or destructors: what a cloned child must do,
/// because those belong to the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// Asks the kernel to kill the calling process with SIGKILL when the thread that made it ends.
/// Lost when the program that is executed is set-id or has file capabilities, and at any change of
/// credentials: ask again after that. Check [`parent_pid`] afterwards, the parent may be gone already.
pub fn die_with_parent() -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
}

/// Takes [`die_with_parent`] back.
pub fn outlive_parent() -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(None)
}

/// Pid of the parent; 0 when it lives outside the caller's pid namespace.
pub fn parent_pid() -> i32 {
    rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get())
}

/// The caller's pid.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Starts a new session without controlling terminal.
pub fn new_session() -> Result<(), Errno> {
    rustix::process::setsid().map(drop)
}

/// Makes the caller adopt orphans among its descendants.
pub fn become_subreaper() -> Result<(), Errno> {
    let on: libc::c_ulong = 1;
    // SAFETY: this option takes an integer and touches no memory.
    crate::raw::check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, on, 0, 0, 0) }.into()).map(drop)
}

/// Whether others of the same user may trace the process and open its `/proc` files. Switched off
/// while a process is between the host and a container.
pub fn set_dumpable(on: bool) -> Result<(), Errno> {
    use rustix::process::DumpableBehavior::{Dumpable, NotDumpable};
    rustix::process::set_dumpable_behavior(if on { Dumpable } else { NotDumpable })
}

/// Marks every descriptor from `first` on close-on-exec (Linux 5.11): whatever was leaked to us
/// does not reach the program that is executed (CVE-2024-21626).
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: CLOEXEC only sets a flag; no descriptor that safe code owns is closed.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    crate::raw::check(done).map(drop)
}

/// Makes `fd` the standard input (0), output (1) or error (2), open across exec; another number is
/// refused with `EBADF`. Only for a process about to exec: what was there is closed, whoever owned it.
pub fn install_stdio(fd: BorrowedFd<'_>, number: u32) -> Result<(), Errno> {
    let number = libc::c_int::try_from(number).ok().filter(|n| *n <= 2).ok_or(Errno::BADF)?;
    if fd.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty());
    }
    // SAFETY: the standard streams are no Rust value's own (std reads and writes them by number and
    // never closes them), and dup2 touches no memory.
    crate::raw::check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into()).map(drop)
}

/// Takes a descriptor that was agreed with the program that started us (standard input as control
/// socket, LISTEN_FDS); makes it close-on-exec. `EBADF` when it is not open. May be called once per
/// number: the value given owns it.
pub fn inherited_fd(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD on any number is harmless, it fails when the number is not open.
    crate::raw::check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // SAFETY: the descriptor is open, checked above, and inherited: no value in this process owns
    // it, by the contract of this function.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Gives the calling process a new, empty session keyring that nobody can join by a name.
pub fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: without a name the call reads no memory of ours.
    let id = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    crate::raw::check(id).map(drop)
}

/// Sets the execution domain (`PER_LINUX32`, …).
pub fn set_personality(persona: u64) -> Result<(), Errno> {
    // SAFETY: personality touches no memory of ours.
    crate::raw::check(unsafe { libc::personality(persona as libc::c_ulong) }.into()).map(drop)
}

/// Sets the I/O priority of the calling process: class 1 real time, 2 best effort, 3 idle; level
/// 0 (first) to 7.
pub fn set_io_priority(class: u16, level: u16) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: ioprio_set takes integers only.
    crate::raw::check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// `struct sched_attr`, the part all kernels have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Scheduler {
    size: u32,
    /// SCHED_OTHER 0, FIFO 1, RR 2, BATCH 3, ISO 4, IDLE 5, DEADLINE 6.
    pub policy: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// For OTHER and BATCH.
    pub nice: i32,
    /// For FIFO and RR.
    pub priority: u32,
    /// Nanoseconds, for DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for DEADLINE.
    pub period: u64,
}

/// Sets the scheduler of the calling thread.
pub fn set_scheduler(mut how: Scheduler) -> Result<(), Errno> {
    how.size = size_of::<Scheduler>() as u32;
    // SAFETY: the structure lives across the call and carries its own size.
    crate::raw::check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut how, 0) }).map(drop)
}

/// A set of processors, or of memory nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSet([u64; Self::MAX / 64]);

impl CpuSet {
    /// One more than the highest number it can hold (more than any kernel is built for).
    pub const MAX: usize = 8192;

    /// Adds one; a number out of range is left out.
    pub fn add(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
}

impl Default for CpuSet {
    fn default() -> Self {
        Self([0; Self::MAX / 64])
    }
}

/// Where the calling process's memory comes from: one of `MPOL_*` with its flags, and the nodes that it
/// is about (set_mempolicy(2)). Kept across execve.
pub fn set_memory_policy(mode: i32, nodes: &CpuSet) -> Result<(), Errno> {
    // The kernel refuses bits beyond what it is built for, also when they are zero, if they are more
    // than a page: 8,192 are a quarter of one. It takes one less than it is told.
    let bits = CpuSet::MAX + 1;
    let mask = if nodes.0.iter().all(|word| *word == 0) { std::ptr::null() } else { nodes.0.as_ptr() };
    let bits = if mask.is_null() { 0 } else { bits };
    // SAFETY: the mask lives across the call, and all of its bits that the kernel reads are in it.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    crate::raw::check(done).map(drop)
}

/// Lets the calling thread run on these processors only. `EINVAL` when none of them may be used.
pub fn set_affinity(cpus: &CpuSet) -> Result<(), Errno> {
    // SAFETY: the set lives across the call and its size is given; the kernel reads no more.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of::<CpuSet>(), cpus.0.as_ptr()) };
    crate::raw::check(done).map(drop)
}
