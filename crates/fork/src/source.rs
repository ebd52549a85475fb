//! The source while it stands still: stopped, made to do system calls, let go.
//!
//! The source must come to no harm whatever happens to us, SIGKILL included, at any instruction. When a
//! tracer dies the kernel lets its tracees run from wherever their registers point. Hence:
//!
//! - Registers never point into our code unless that code leads back by itself: it ends by restoring
//!   mask and registers from memory that was written beforehand ([`seacow_sys::stub::Pad`]).
//! - Signals are blocked only while the registers point there, and unblocked before they leave.
//! - The end of a list is not a trap but a signal that the source ignores: only a tracer stops at it.
//! - No single step: its trap outlives the tracer.
//! - A new process of the source ends by itself unless a tracer holds it.
//!
//! The very first call (memory for all others) needs code and values in memory that the program never
//! uses, and executable: the unused end of the vdso's last page is there in every process, and a write
//! to it makes a private copy of that page.

use std::ops::Range;
use std::time::{Duration, Instant};

use seacow_sys::Errno;
use seacow_sys::ptrace::{self, Options, Registers, Stop};
use seacow_sys::stub::{self, Pad};

use crate::batch::{Answers, Area, Batch, failure};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::procfs::{self, Fields};
use crate::reason::Reason;
use crate::registers::{self, NO_CALL};
use crate::wait::{next_stop, until_still};

/// Threads of the source are stopped round by round until no new one is found; a program that makes
/// threads faster than that is not forked.
const ROUNDS: usize = 100;
/// What letting go may take beyond the deadline.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes for one thread's way back.
const SLOT: u64 = 512;
/// 64-bit user code.
const CODE_SEGMENT: u64 = 0x33;
/// Zeroes left alone between the vdso's own bytes and ours.
const VDSO_MARGIN: usize = 64;
/// AT_SYSINFO_EHDR.
const AUX_VDSO: u64 = 33;

/// A thread of the source.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) tid: i32,
    /// As its own pid namespace sees it.
    pub(crate) inner_tid: i32,
    /// What it gets back when it is let go.
    pub(crate) registers: Registers,
    pub(crate) mask: u64,
    /// Whether registers or mask are not its own at the moment.
    changed: bool,
}

/// A process that stands still. Dropped, it is let go in its own state.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) pid: i32,
    pub(crate) inner_pid: i32,
    pub(crate) memory: Memory,
    /// The first is the process's first.
    pub(crate) threads: Vec<Thread>,
    /// Where the way back of the first thread lies.
    pad: u64,
    /// A signal that the process ignores.
    signal: i32,
    /// Memory for lists.
    scratch: Option<Area>,
    scratch_size: u64,
    deadline: Instant,
    /// When it was told to stop.
    pub(crate) stopped: Instant,
}

impl Source {
    /// Stops all threads.
    pub(crate) fn stop(pid: i32, deadline: Instant) -> Result<Self> {
        let status = Fields::read(pid, "status")?;
        let signal = harmless_signal(&status)?;
        let inner_pid = status.innermost("NSpid")?;
        let memory = Memory::open(pid)?;
        let pad = find_pad(pid, &memory)?;
        let threads = Vec::new();
        let (scratch, scratch_size) = (None, 0);
        let stopped = Instant::now();
        let mut source =
            Self { pid, inner_pid, memory, threads, pad, signal, scratch, scratch_size, deadline, stopped };
        source.stop_threads()?;
        source.learn_states()?;
        Ok(source)
    }

    /// A tracee of ours with one thread that stands where it has just executed a program: out of that call,
    /// before the program's first instruction. Only now do its registers hold what is written to them.
    pub(crate) fn at_exec(pid: i32, deadline: Instant) -> Result<Self> {
        ptrace::set_options(pid, Options::SUSPEND_SECCOMP).map_err(Error::trace("set options", pid))?;
        ptrace::interrupt(pid).map_err(Error::trace("interrupt", pid))?;
        ptrace::resume(pid, 0).map_err(Error::trace("resume", pid))?;
        match until_still(pid, deadline, "leaving the call that executed")? {
            Stop::Interrupted => {}
            Stop::Group(_) | Stop::Ended | Stop::Signal(_) | Stop::Forked | Stop::Event(_) => {
                return Err(Error::Gone { pid });
            }
        }
        let status = Fields::read(pid, "status")?;
        let signal = harmless_signal(&status)?;
        let inner_pid = status.innermost("NSpid")?;
        let memory = Memory::open(pid)?;
        let pad = find_pad(pid, &memory)?;
        let threads = vec![Thread::unknown(pid)];
        let (scratch, scratch_size) = (None, 0);
        let stopped = Instant::now();
        let mut source =
            Self { pid, inner_pid, memory, threads, pad, signal, scratch, scratch_size, deadline, stopped };
        source.learn_states()?;
        Ok(source)
    }

    fn stop_threads(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            let known: Vec<i32> = self.threads.iter().map(|thread| thread.tid).collect();
            let mut new = procfs::numbers(self.pid, "task")?;
            new.retain(|tid| !known.contains(tid));
            if new.is_empty() {
                return Ok(());
            }
            let mut seized = Vec::new();
            for tid in new {
                match ptrace::seize(tid, Options::SUSPEND_SECCOMP) {
                    Ok(()) => seized.push(tid),
                    // It has just ended.
                    Err(Errno::SRCH) => continue,
                    Err(errno) => return Err(Error::trace("seize", tid)(errno)),
                }
                self.threads.push(Thread::unknown(tid));
            }
            for tid in &seized {
                match ptrace::interrupt(*tid) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(Error::trace("interrupt", *tid)(errno)),
                }
            }
            for tid in seized {
                match until_still(tid, self.deadline, "stopping the process")? {
                    Stop::Ended if tid == self.pid => return Err(Error::Gone { pid: self.pid }),
                    Stop::Ended => {
                        self.threads.retain(|thread| thread.tid != tid);
                        // A thread is reaped by its tracer alone; it may be gone already.
                        let _ = ptrace::reap(tid);
                    }
                    Stop::Group(_) => return Err(Error::Refused(vec![Reason::StoppedBySignal])),
                    Stop::Interrupted | Stop::Signal(_) | Stop::Forked | Stop::Event(_) => {}
                }
            }
        }
        Err(Error::TooMany { what: "new threads" })
    }

    fn learn_states(&mut self) -> Result<()> {
        self.threads.sort_by_key(|thread| (thread.tid != self.pid, thread.tid));
        for thread in &mut self.threads {
            let tid = thread.tid;
            let status = Fields::read(self.pid, &format!("task/{tid}/status"))?;
            let pending = status.hex("SigPnd")? | status.hex("ShdPnd")?;
            let deliverable = pending & !status.hex("SigBlk")? != 0;
            let found = ptrace::registers(tid).map_err(Error::trace("read registers", tid))?;
            if found.cs != CODE_SEGMENT {
                return Err(Error::Refused(vec![Reason::Compat]));
            }
            let rseq = ptrace::rseq(tid).map_err(Error::trace("read rseq", tid))?;
            let found = registers::unstopped(found, deliverable);
            thread.registers = registers::out_of_sequence(found, &rseq, &self.memory)?;
            thread.mask = ptrace::signal_mask(tid).map_err(Error::trace("read signal mask", tid))?;
            thread.inner_tid = status.innermost("NSpid")?;
        }
        match self.threads.first() {
            Some(thread) if thread.tid == self.pid => Ok(()),
            _ => Err(Error::Gone { pid: self.pid }),
        }
    }

    /// The area for lists, made when it is first asked for.
    pub(crate) fn area(&mut self) -> Result<Area> {
        if let Some(area) = self.scratch {
            return Ok(area);
        }
        let size = Area::small(0).size + SLOT * self.threads.len() as u64;
        let size = size.next_multiple_of(4096);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let arguments = [0, size, protection as u64, flags as u64, u64::MAX, 0];
        let base = self.call("memory for calls", libc::SYS_mmap, arguments)? as u64;
        let area = Area::small(base);
        // From here on there is something to take back.
        (self.scratch, self.scratch_size) = (Some(area), size);
        self.memory.write(base, stub::list())?;
        for index in 0..self.threads.len() {
            let pad = self.pad_of(index).to_bytes();
            self.memory.write(self.slot(area, index), &pad)?;
        }
        Ok(area)
    }

    fn slot(&self, area: Area, index: usize) -> u64 {
        area.base + area.size + SLOT * index as u64
    }

    fn pad_of(&self, index: usize) -> Pad {
        let thread = &self.threads[index];
        Pad {
            registers: registers::restarted(thread.registers, true),
            mask: thread.mask,
            process: self.inner_pid,
            thread: thread.inner_tid,
            signal: self.signal,
        }
    }

    /// One call by the first thread, by the vdso's way.
    fn call(&mut self, step: &'static str, number: i64, arguments: [u64; 6]) -> Result<i64> {
        self.memory.write(self.pad, &self.pad_of(0).to_bytes())?;
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let rip = self.pad + Pad::ENTRY;
        let registers =
            Registers { rip, rax: number as u64, rdi, rsi, rdx, r10, r8, r9, ..self.threads[0].registers };
        self.enter(0, registers)?;
        self.until_done(0, step)?;
        let tid = self.pid;
        let after = ptrace::registers(tid).map_err(Error::trace("read registers", tid))?;
        let value = after.rbx as i64;
        match failure(value) {
            Some(source) => Err(Error::Call { step, tid, source }),
            None => Ok(value),
        }
    }

    /// Has the n-th thread work off a list.
    pub(crate) fn run(&mut self, index: usize, mut batch: Batch) -> Result<Answers> {
        let area = self.area()?;
        let numbers = [self.inner_pid as u64, self.threads[index].inner_tid as u64, self.signal as u64];
        let step = batch.step();
        batch.attempt("end of the list", libc::SYS_tgkill, &numbers);
        batch.install(&self.memory)?;
        let registers = Registers {
            rip: area.base,
            rbx: area.entries(),
            rbp: batch.len() as u64,
            r12: self.slot(area, index) + Pad::back(),
            ..self.threads[index].registers
        };
        self.enter(index, registers)?;
        let children = self.until_done(index, step)?;
        batch.answers(&self.memory, self.threads[index].tid, children)
    }

    /// Points a thread at our code. Registers first, then the mask: see above.
    fn enter(&mut self, index: usize, registers: Registers) -> Result<()> {
        let thread = &mut self.threads[index];
        thread.changed = true;
        let registers = Registers { orig_rax: NO_CALL, ..registers };
        ptrace::set_registers(thread.tid, &registers).map_err(Error::trace("set registers", thread.tid))?;
        let all_but_ours = !(1u64 << (self.signal - 1));
        ptrace::set_signal_mask(thread.tid, all_but_ours)
            .map_err(Error::trace("set signal mask", thread.tid))?;
        ptrace::resume(thread.tid, 0).map_err(Error::trace("resume", thread.tid))
    }

    /// Until its signal comes; gives the tasks that were made meanwhile.
    fn until_done(&self, index: usize, step: &'static str) -> Result<Vec<i32>> {
        let tid = self.threads[index].tid;
        let mut children = Vec::new();
        loop {
            match next_stop(tid, self.deadline, step)? {
                Stop::Ended => return Err(Error::Gone { pid: self.pid }),
                Stop::Signal(signal) if signal == self.signal && self.is_ours(tid)? => return Ok(children),
                // Somebody else's, and as good as ignored.
                Stop::Signal(signal) if signal == self.signal => {}
                Stop::Signal(signal) => {
                    let what = format!("signal {signal}");
                    return Err(Error::Astray { tid, what, step });
                }
                Stop::Forked => {
                    children.push(ptrace::event_message(tid).map_err(Error::trace("read child's pid", tid))?);
                }
                Stop::Interrupted | Stop::Group(_) | Stop::Event(_) => {}
            }
            ptrace::resume(tid, 0).map_err(Error::trace("resume", tid))?;
        }
    }

    /// Whether the signal that a thread stands at was sent by its own process with tgkill.
    fn is_ours(&self, tid: i32) -> Result<bool> {
        const SI_TKILL: i32 = -6;
        let info = ptrace::signal_info(tid).map_err(Error::trace("read signal", tid))?;
        let number =
            |at: usize| info.get(at..at + 4).and_then(|b| Some(i32::from_le_bytes(b.try_into().ok()?)));
        Ok(number(8) == Some(SI_TKILL) && number(16) == Some(self.inner_pid))
    }

    /// Whether what the first thread forks is traced like itself.
    pub(crate) fn follow_forks(&self, on: bool) -> Result<()> {
        let follow = if on { Options::FOLLOW_FORKS } else { Options::empty() };
        ptrace::set_options(self.pid, Options::SUSPEND_SECCOMP.and(follow))
            .map_err(Error::trace("set options", self.pid))
    }

    /// Where the memory for lists is, if there is any.
    pub(crate) fn scratch(&self) -> Option<Range<u64>> {
        self.scratch.map(|area| area.base..area.base + self.scratch_size)
    }

    /// Kills it: somebody else goes on in its place.
    pub(crate) fn end(mut self) {
        self.threads.clear();
        self.scratch = None;
        crate::puppet::end(self.pid);
    }

    /// Lets it go, as it was.
    pub(crate) fn release(mut self) -> Result<()> {
        self.restore()
    }

    fn restore(&mut self) -> Result<()> {
        let mut first_failure = Ok(());
        let mut note = |result: Result<()>| {
            if first_failure.is_ok() {
                first_failure = result;
            }
        };
        // However late it is: nothing of this takes longer than the kernel needs for a handful of calls.
        self.deadline = self.deadline.max(Instant::now() + GRACE);
        for thread in &self.threads {
            note(halt(thread.tid, self.deadline));
        }
        // Nobody may stand in the scratch memory when that goes.
        for thread in self.threads.iter_mut().skip(1) {
            note(thread.give_back());
        }
        if let Some(area) = self.scratch.take() {
            let arguments = [area.base, self.scratch_size, 0, 0, 0, 0];
            note(self.call("give memory back", libc::SYS_munmap, arguments).map(drop));
        }
        for thread in &mut self.threads {
            note(thread.give_back());
            match ptrace::detach(thread.tid, 0) {
                // Killed meanwhile.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => note(Err(Error::trace("let go", thread.tid)(errno))),
            }
        }
        self.threads.clear();
        first_failure
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Nobody is left to tell; a thread that was killed is the only way for this to fail.
        let _ = self.restore();
    }
}

impl Thread {
    fn unknown(tid: i32) -> Self {
        Self { tid, inner_tid: tid, registers: Registers::default(), mask: 0, changed: false }
    }

    /// Its own mask, then its own registers: see above.
    fn give_back(&mut self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        self.changed = false;
        let tid = self.tid;
        match ptrace::set_signal_mask(tid, self.mask) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(Error::trace("set signal mask", tid)(errno)),
        }
        match ptrace::set_registers(tid, &self.registers) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::trace("set registers", tid)(errno)),
        }
    }
}

/// Stops a thread that was left running in our code, when a list was not done in time.
fn halt(tid: i32, deadline: Instant) -> Result<()> {
    match ptrace::registers(tid) {
        // A thread that runs, or has ended, answers so.
        Err(Errno::SRCH) => {}
        Ok(_) | Err(_) => return Ok(()),
    }
    match ptrace::interrupt(tid) {
        Ok(()) => next_stop(tid, deadline, "stopping a thread again").map(drop),
        Err(_) => Ok(()),
    }
}

/// A signal whose delivery does nothing: ignored by default, and no handler is installed. Programs that
/// handle all three (Go's runtime handles SIGURG) expect SIGURG without cause.
fn harmless_signal(status: &Fields) -> Result<i32> {
    let caught = status.hex("SigCgt")?;
    let candidates = [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD];
    let free = candidates.into_iter().find(|signal| caught >> (signal - 1) & 1 == 0);
    Ok(free.unwrap_or(libc::SIGURG))
}

/// Finds the unused end of the vdso.
pub(crate) fn find_pad(pid: i32, memory: &Memory) -> Result<u64> {
    let vector = procfs::read_bytes(pid, "auxv")?;
    let refused = || Error::Refused(vec![Reason::NoRoomForReturn]);
    let vdso = procfs::auxiliary(&vector, AUX_VDSO).ok_or_else(refused)?;
    let mappings = procfs::mappings(pid)?;
    let end = mappings.iter().find(|m| m.start == vdso && m.protection == 5).ok_or_else(refused)?.end;
    let page = memory.read(end - 4096, 4096)?;
    let used = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let ours = 4096 - Pad::size().next_multiple_of(16);
    // Ours from an earlier fork fill it up to the end.
    if used > ours && page.get(ours..ours + 8) == Pad::mark().get(..8) {
        return Ok(end - 4096 + ours as u64);
    }
    if used + VDSO_MARGIN > ours { Err(refused()) } else { Ok(end - 4096 + ours as u64) }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Lines};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    struct Program {
        child: Child,
        lines: Lines<BufReader<ChildStdout>>,
    }

    impl Program {
        fn start(program: &str, arguments: &[&str]) -> Self {
            let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            Self { child, lines }
        }

        fn pid(&self) -> i32 {
            self.child.id() as i32
        }

        fn line(&mut self) -> String {
            self.lines.next().unwrap().unwrap()
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    const COUNTING: &str = "
import threading, time, sys
def other():
    while True: time.sleep(0.0005)
for _ in range(3): threading.Thread(target=other, daemon=True).start()
n = 0
while True:
    n += 1
    print(n, flush=True)
    if n % 3 == 0: time.sleep(0.001)
";

    #[test]
    fn lists_are_worked_off_and_the_program_goes_on() {
        let mut program = Program::start("python3", &["-c", COUNTING]);
        let pid = program.pid();
        let mut last: u64 = program.line().parse().unwrap();
        for _ in 0..50 {
            let mut source = Source::stop(pid, soon()).unwrap();
            assert_eq!(source.threads.len(), 4);
            let area = source.area().unwrap();
            for index in 0..4 {
                let mut batch = Batch::new(area);
                let process = batch.call("pid", libc::SYS_getpid, &[]);
                let thread = batch.call("tid", libc::SYS_gettid, &[]);
                let wrong = batch.attempt("close", libc::SYS_close, &[9999]);
                let answers = source.run(index, batch).unwrap();
                assert_eq!(answers.get(process), i64::from(pid));
                assert_eq!(answers.get(thread), i64::from(source.threads[index].tid));
                assert_eq!(failure(answers.get(wrong)), Some(Errno::BADF));
            }
            source.release().unwrap();
            for _ in 0..20 {
                let next: u64 = program.line().parse().unwrap();
                assert_eq!(next, last + 1);
                last = next;
            }
        }
        let left: Vec<_> = procfs::mappings(pid).unwrap().into_iter().filter(|m| m.protection == 7).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_failing_call_names_its_step() {
        let program = Program::start("sleep", &["1000"]);
        let mut source = Source::stop(program.pid(), soon()).unwrap();
        let mut batch = Batch::new(source.area().unwrap());
        batch.call("closing what is not open", libc::SYS_close, &[9999]);
        let error = source.run(0, batch).unwrap_err();
        assert!(matches!(error, Error::Call { step: "closing what is not open", source: Errno::BADF, .. }));
        drop(source);
        // Asleep again: it was in the middle of a nanosleep.
        assert!(std::fs::read_to_string(format!("/proc/{}/syscall", program.pid())).is_ok());
        assert_eq!(Fields::read(program.pid(), "status").unwrap().get("TracerPid").unwrap(), "0");
    }

    #[test]
    fn what_is_late_is_let_go() {
        let mut program = Program::start("python3", &["-c", COUNTING]);
        program.line();
        let mut source = Source::stop(program.pid(), soon()).unwrap();
        let mut batch = Batch::new(source.area().unwrap());
        // Nothing arrives, and the time is short.
        batch.call("waiting", libc::SYS_poll, &[0, 0, 60_000]);
        source.deadline = Instant::now() + Duration::from_millis(50);
        assert!(matches!(source.run(0, batch).unwrap_err(), Error::Deadline { step: "waiting" }));
        source.release().unwrap();
        for _ in 0..100 {
            program.line();
        }
    }
}
