//! Tracing: stopping a thread of another process, reading and changing its state, letting it go.
//!
//! Vocabulary: a *tracee* is one thread. It is *seized* (traced, still running), *interrupted* (asked to
//! stop), then *stopped*; only a stopped tracee answers the other calls. Whoever seized it must be the
//! thread that makes all further calls: the kernel ties tracing to a thread, not to a process. When that
//! thread ends, every tracee is let go as it stands, or killed where [`Options::EXIT_KILL`] says so.
//!
//! None of this touches the caller's own memory: a process cannot trace itself.

use crate::Errno;
use crate::process::Ended;
use crate::seccomp::SockFilter;

/// PTRACE_O_* bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options(u64);

impl Options {
    /// The tracee is killed when the tracer ends.
    pub const EXIT_KILL: Self = Self(0x10_0000);
    /// The tracee's system call filters sleep while it is traced. Needs CAP_SYS_ADMIN, and a tracer without filter.
    pub const SUSPEND_SECCOMP: Self = Self(0x20_0000);
    /// What the tracee forks or clones is seized with it, with the same options.
    pub const FOLLOW_FORKS: Self = Self(0x2 | 0x4 | 0x8);
    /// The tracee stops when it has executed a program, before its first instruction: [`EXECUTED`].
    pub const TRACE_EXEC: Self = Self(0x10);

    /// No option.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why a tracee is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was interrupted, or is a new tracee that has not run yet.
    Interrupted,
    /// Its whole process was stopped by this signal (SIGSTOP and the like).
    Group(i32),
    /// This signal is about to be delivered; [`resume`] decides whether it is.
    Signal(i32),
    /// It made a new task, which [`event_message`] tells.
    Forked,
    /// Another event (PTRACE_EVENT_*).
    Event(i32),
    /// It has ended; not reaped.
    Ended,
}

/// The event ([`Stop::Event`]) of a program that was executed.
pub const EXECUTED: i32 = 4;

/// The general registers, as the kernel's `user_regs_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the processor's")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Number of the system call it is in, all ones when in none.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// A thread's registration for restartable sequences (rseq(2)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rseq {
    /// Address of its `struct rseq`; 0 when it has none.
    pub area: u64,
    /// Bytes of that.
    pub size: u32,
    /// What stands before an abort handler.
    pub signature: u32,
    /// Reserved by the kernel.
    pub flags: u32,
    reserved: u32,
}

/// A `siginfo_t`, as the kernel gives and takes it.
pub type SignalInfo = [u8; 128];

const CONT: u64 = 7;
const SINGLESTEP: u64 = 9;
const DETACH: u64 = 17;
const SETOPTIONS: u64 = 0x4200;
const GETEVENTMSG: u64 = 0x4201;
const GETSIGINFO: u64 = 0x4202;
const GETREGSET: u64 = 0x4204;
const SETREGSET: u64 = 0x4205;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const LISTEN: u64 = 0x4208;
const PEEKSIGINFO: u64 = 0x4209;
const GETSIGMASK: u64 = 0x420a;
const SETSIGMASK: u64 = 0x420b;
const SECCOMP_GET_FILTER: u64 = 0x420c;
const GET_RSEQ: u64 = 0x420f;

const NT_PRSTATUS: u64 = 1;
const NT_X86_XSTATE: u64 = 0x202;
/// x87 and SSE, as FXSAVE lays them out.
const NT_PRFPREG: u64 = 2;
/// PTRACE_EVENT_STOP.
const EVENT_STOP: i32 = 128;
/// PTRACE_EVENT_FORK, _VFORK, _CLONE.
const EVENT_FORKS: std::ops::RangeInclusive<i32> = 1..=3;

/// # Safety
/// `addr` and `data` must be what the request wants: an integer, or the address of memory of the right
/// size and kind that lives across the call.
unsafe fn call(request: u64, tid: i32, addr: u64, data: u64) -> Result<u64, Errno> {
    // SAFETY: the caller vouches for addr and data; the raw call has none of the wrapper's special cases.
    let done = unsafe { libc::syscall(libc::SYS_ptrace, request, i64::from(tid), addr, data) };
    crate::raw::check(done).map(|done| done as u64)
}

/// Starts tracing a thread without stopping it.
pub fn seize(tid: i32, options: Options) -> Result<(), Errno> {
    // SAFETY: the request takes integers only.
    unsafe { call(SEIZE, tid, 0, options.0) }.map(drop)
}

/// Changes the options of a stopped tracee.
pub fn set_options(tid: i32, options: Options) -> Result<(), Errno> {
    // SAFETY: the request takes integers only.
    unsafe { call(SETOPTIONS, tid, 0, options.0) }.map(drop)
}

/// Asks a tracee to stop; [`poll`] tells when it has.
pub fn interrupt(tid: i32) -> Result<(), Errno> {
    // SAFETY: the request takes integers only.
    unsafe { call(INTERRUPT, tid, 0, 0) }.map(drop)
}

/// Lets a stopped tracee run, delivering `signal` unless it is 0.
pub fn resume(tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the request takes integers only.
    unsafe { call(CONT, tid, 0, signal as u64) }.map(drop)
}

/// Lets it execute one instruction. Not for a tracee that is to outlive its tracer: should that be
/// killed meanwhile, the trap that follows kills the tracee.
pub fn step(tid: i32) -> Result<(), Errno> {
    // SAFETY: the request takes integers only.
    unsafe { call(SINGLESTEP, tid, 0, 0) }.map(drop)
}

/// Leaves a tracee in the stop of its whole process, and learns of the next event.
pub fn listen(tid: i32) -> Result<(), Errno> {
    // SAFETY: the request takes integers only.
    unsafe { call(LISTEN, tid, 0, 0) }.map(drop)
}

/// Stops tracing a stopped tracee: it runs on, delivering `signal` unless it is 0.
pub fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the request takes integers only.
    unsafe { call(DETACH, tid, 0, signal as u64) }.map(drop)
}

/// What became of a tracee since the last look; `None` while it runs. Its end is told and not reaped:
/// it may be somebody's child.
pub fn poll(tid: i32) -> Result<Option<Stop>, Errno> {
    let id = libc::id_t::try_from(tid).map_err(|_| Errno::SRCH)?;
    let wait = |how: libc::c_int| -> Result<Option<(i32, i32)>, Errno> {
        // SAFETY: all zeroes is a value of this plain structure.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        loop {
            // SAFETY: info is a siginfo_t that lives across the call.
            let done =
                unsafe { libc::waitid(libc::P_PID, id, &raw mut info, how | libc::WNOHANG | libc::__WALL) };
            match crate::raw::check(done.into()) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(_) => break,
            }
        }
        // SAFETY: waitid fills the fields of a child's end, or leaves the zeroes.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        Ok((pid != 0).then_some((info.si_code, status)))
    };
    // A tracee's stops are told whatever is asked for, so the kind of news has to be looked at before it
    // is taken: an end must be left to whom it belongs.
    let Some((code, status)) = wait(libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT)? else { return Ok(None) };
    if matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
        return Ok(Some(Stop::Ended));
    }
    if wait(libc::WSTOPPED)?.is_none() {
        // Killed out of its stop, between the two calls.
        return Ok(None);
    }
    let (signal, event) = (status & 0xff, status >> 8);
    Ok(Some(match event {
        0 => Stop::Signal(signal),
        EVENT_STOP if signal == libc::SIGTRAP => Stop::Interrupted,
        EVENT_STOP => Stop::Group(signal),
        _ if EVENT_FORKS.contains(&event) => Stop::Forked,
        _ => Stop::Event(event),
    }))
}

/// Waits for the end of a tracee or child and reaps it.
pub fn reap(tid: i32) -> Result<Ended, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: status lives across the call.
        match crate::raw::check(unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) }.into()) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) if libc::WIFEXITED(status) => return Ok(Ended::Exited(libc::WEXITSTATUS(status))),
            Ok(_) if libc::WIFSIGNALED(status) => return Ok(Ended::Killed(libc::WTERMSIG(status))),
            // It stopped on its way out; only the end counts.
            Ok(_) => {}
        }
    }
}

/// The pid of the task that a tracee in [`Stop::Forked`] has made.
pub fn event_message(tid: i32) -> Result<i32, Errno> {
    let mut message = 0u64;
    // SAFETY: the kernel writes one long, which message is.
    unsafe { call(GETEVENTMSG, tid, 0, (&raw mut message) as u64) }?;
    i32::try_from(message).map_err(|_| Errno::OVERFLOW)
}

/// What is known about the signal of [`Stop::Signal`].
pub fn signal_info(tid: i32) -> Result<SignalInfo, Errno> {
    let mut info = [0u8; 128];
    // SAFETY: the kernel writes one siginfo_t, 128 bytes.
    unsafe { call(GETSIGINFO, tid, 0, (&raw mut info) as u64) }?;
    Ok(info)
}

/// The general registers.
pub fn registers(tid: i32) -> Result<Registers, Errno> {
    let mut registers = Registers::default();
    let mut place = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    // SAFETY: place describes registers, which lives across the call and has the kernel's layout.
    unsafe { call(GETREGSET, tid, NT_PRSTATUS, (&raw mut place) as u64) }?;
    // A 32-bit tracee has a smaller set.
    if place.iov_len == size_of::<Registers>() { Ok(registers) } else { Err(Errno::NOEXEC) }
}

/// Sets them.
pub fn set_registers(tid: i32, registers: &Registers) -> Result<(), Errno> {
    let place = libc::iovec {
        iov_base: std::ptr::from_ref(registers).cast_mut().cast(),
        iov_len: size_of::<Registers>(),
    };
    // SAFETY: place describes registers, which the kernel only reads.
    unsafe { call(SETREGSET, tid, NT_PRSTATUS, (&raw const place) as u64) }.map(drop)
}

/// The rest of the processor's state, as XSAVE lays it out: x87, SSE, AVX, AVX-512, AMX, whatever the
/// processor has and the thread may use. Of one without XSAVE, which has x87 and SSE alone, as FXSAVE does.
pub fn extended_state(tid: i32) -> Result<Vec<u8>, Errno> {
    match register_set(tid, NT_X86_XSTATE) {
        Err(Errno::NODEV) => register_set(tid, NT_PRFPREG),
        state => state,
    }
}

fn register_set(tid: i32, set: u64) -> Result<Vec<u8>, Errno> {
    let mut size = 4 << 10;
    loop {
        let mut state = vec![0u8; size];
        let mut place = libc::iovec { iov_base: state.as_mut_ptr().cast(), iov_len: size };
        // SAFETY: place describes state, which lives across the call; the kernel writes at most its length.
        unsafe { call(GETREGSET, tid, set, (&raw mut place) as u64) }?;
        if place.iov_len < size {
            state.truncate(place.iov_len);
            return Ok(state);
        }
        // Filled to the brim: there may be more.
        size *= 2;
    }
}

/// Sets it.
pub fn set_extended_state(tid: i32, state: &[u8]) -> Result<(), Errno> {
    match set_register_set(tid, NT_X86_XSTATE, state) {
        Err(Errno::NODEV) => set_register_set(tid, NT_PRFPREG, state),
        set => set,
    }
}

fn set_register_set(tid: i32, set: u64, state: &[u8]) -> Result<(), Errno> {
    let place = libc::iovec { iov_base: state.as_ptr().cast_mut().cast(), iov_len: state.len() };
    // SAFETY: place describes state, which the kernel only reads.
    unsafe { call(SETREGSET, tid, set, (&raw const place) as u64) }.map(drop)
}

/// The blocked signals, bit n-1 for signal n. During a call with a mask of its own (sigsuspend, ppoll):
/// the one that holds after it.
pub fn signal_mask(tid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    // SAFETY: the kernel writes the eight bytes that are announced.
    unsafe { call(GETSIGMASK, tid, 8, (&raw mut mask) as u64) }?;
    Ok(mask)
}

/// Sets them.
pub fn set_signal_mask(tid: i32, mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads the eight bytes that are announced.
    unsafe { call(SETSIGMASK, tid, 8, (&raw const mask) as u64) }.map(drop)
}

/// Signals that wait for this thread, or (`shared`) for any of its process, oldest first.
pub fn pending_signals(tid: i32, shared: bool) -> Result<Vec<SignalInfo>, Errno> {
    /// `struct ptrace_peeksiginfo_args`.
    #[repr(C)]
    struct Peek {
        offset: u64,
        flags: u32,
        count: i32,
    }
    let mut found = Vec::new();
    loop {
        let peek = Peek { offset: found.len() as u64, flags: shared.into(), count: 1 };
        let mut info = [0u8; 128];
        // SAFETY: peek has the kernel's layout and is only read; one siginfo_t, as asked for, is written.
        let got = unsafe { call(PEEKSIGINFO, tid, (&raw const peek) as u64, (&raw mut info) as u64) }?;
        if got == 0 {
            return Ok(found);
        }
        found.push(info);
    }
}

/// A system call filter of the thread, 0 the oldest; `None` past the last.
pub fn seccomp_filter(tid: i32, index: u64) -> Result<Option<Vec<SockFilter>>, Errno> {
    // SAFETY: with null as data the request only tells the number of instructions.
    let length = match unsafe { call(SECCOMP_GET_FILTER, tid, index, 0) } {
        Err(Errno::NOENT) => return Ok(None),
        other => usize::try_from(other?).map_err(|_| Errno::OVERFLOW)?,
    };
    let mut filter = vec![SockFilter { code: 0, jt: 0, jf: 0, k: 0 }; length];
    // SAFETY: filter has room for the number of instructions that the kernel has just told; a filter never changes.
    unsafe { call(SECCOMP_GET_FILTER, tid, index, filter.as_mut_ptr() as u64) }?;
    Ok(Some(filter))
}

/// The thread's registration for restartable sequences.
pub fn rseq(tid: i32) -> Result<Rseq, Errno> {
    let mut found = Rseq::default();
    // SAFETY: the kernel writes the announced size of a structure that found has the layout of.
    unsafe { call(GET_RSEQ, tid, size_of::<Rseq>() as u64, (&raw mut found) as u64) }?;
    Ok(found)
}
