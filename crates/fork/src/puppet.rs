//! A process that we have made and that dies with us: templates, clones on their way.

use std::time::Instant;

use seacow_sys::Errno;
use seacow_sys::ptrace::{self, Options, Registers, Stop};
use seacow_sys::stub;

use crate::batch::{Answers, Area, Batch};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::registers::NO_CALL;
use crate::wait::{next_stop, until_still};

/// What a puppet is traced with, and what it makes: it does not outlive us.
pub(crate) const OPTIONS: Options =
    Options::EXIT_KILL.and(Options::SUSPEND_SECCOMP).and(Options::FOLLOW_FORKS);

/// Everything blocked but SIGTRAP, by which it tells that it is done: a blocked one would lose its handler.
const MASK: u64 = !(1 << (libc::SIGTRAP - 1));

/// A traced process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Puppet {
    pub(crate) pid: i32,
    pub(crate) memory: Memory,
    pub(crate) area: Area,
    /// Registers that calls are made with; only those that matter to a call are changed.
    pub(crate) registers: Registers,
    /// Whether somebody else has it now.
    released: bool,
}

impl Puppet {
    /// Takes a tracee that stands still, with an area that is ready in its memory.
    pub(crate) fn adopt(pid: i32, area: Area) -> Result<Self> {
        // Until this object is there nobody else kills it on failure.
        let adopted = Self::try_adopt(pid, area);
        if adopted.is_err() {
            end(pid);
        }
        adopted
    }

    fn try_adopt(pid: i32, area: Area) -> Result<Self> {
        ptrace::set_options(pid, OPTIONS).map_err(Error::trace("set options", pid))?;
        ptrace::set_signal_mask(pid, MASK).map_err(Error::trace("set signal mask", pid))?;
        let registers = ptrace::registers(pid).map_err(Error::trace("read registers", pid))?;
        let registers = Registers { orig_rax: NO_CALL, ..registers };
        Ok(Self { pid, memory: Memory::open(pid)?, area, registers, released: false })
    }

    /// Has it work off a list.
    pub(crate) fn run(&self, batch: &Batch, deadline: Instant) -> Result<Answers> {
        self.run_in(self.pid, batch, deadline)
    }

    /// Has one of its threads work off a list.
    pub(crate) fn run_in(&self, tid: i32, batch: &Batch, deadline: Instant) -> Result<Answers> {
        if batch.is_empty() {
            return batch.answers(&self.memory, tid, Vec::new());
        }
        self.begin_in(tid, batch)?;
        self.finish_in(tid, batch, deadline)
    }

    /// Has it begin to work off a list, which is not empty. [`Puppet::finish`] must follow before anything else
    /// is asked of it.
    pub(crate) fn begin(&self, batch: &Batch) -> Result<()> {
        self.begin_in(self.pid, batch)
    }

    /// Waits until it has worked it off.
    pub(crate) fn finish(&self, batch: &Batch, deadline: Instant) -> Result<Answers> {
        self.finish_in(self.pid, batch, deadline)
    }

    fn begin_in(&self, tid: i32, batch: &Batch) -> Result<()> {
        batch.install(&self.memory)?;
        let registers = Registers {
            rip: self.area.base,
            rbx: self.area.entries(),
            rbp: batch.len() as u64,
            r12: self.area.base + stub::trap_offset(),
            ..self.registers
        };
        ptrace::set_registers(tid, &registers).map_err(Error::trace("set registers", tid))?;
        ptrace::resume(tid, 0).map_err(Error::trace("resume", tid))
    }

    fn finish_in(&self, tid: i32, batch: &Batch, deadline: Instant) -> Result<Answers> {
        let mut children = Vec::new();
        let worked_off = until_trap(tid, batch.step(), deadline, false, &mut children);
        // Nobody else knows of them.
        let answers = worked_off.and_then(|()| batch.answers(&self.memory, tid, children.clone()));
        answers.inspect_err(|_| children.iter().for_each(|child| end(*child)))
    }

    /// One call at a `syscall` instruction that is in its memory anyway: for what the area cannot be
    /// there for, its own beginning and end.
    pub(crate) fn call_at(
        &self,
        instruction: u64,
        step: &'static str,
        number: i64,
        arguments: &[u64],
        deadline: Instant,
    ) -> Result<i64> {
        let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
        let registers = Registers {
            rip: instruction,
            rax: number as u64,
            rdi: argument(0),
            rsi: argument(1),
            rdx: argument(2),
            r10: argument(3),
            r8: argument(4),
            r9: argument(5),
            ..self.registers
        };
        let tid = self.pid;
        ptrace::set_registers(tid, &registers).map_err(Error::trace("set registers", tid))?;
        ptrace::step(tid).map_err(Error::trace("step", tid))?;
        until_trap(tid, step, deadline, true, &mut Vec::new())?;
        let value = ptrace::registers(tid).map_err(Error::trace("read registers", tid))?.rax as i64;
        match crate::batch::failure(value) {
            Some(source) => Err(Error::Call { step, tid, source }),
            None => Ok(value),
        }
    }

    /// Says where lists may be put, once that is prepared.
    pub(crate) fn set_area(&mut self, area: Area) -> Result<()> {
        self.memory.write(area.base, stub::list())?;
        self.area = area;
        Ok(())
    }

    /// It lives its own life from here on.
    pub(crate) fn let_go(mut self) {
        self.released = true;
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        if !self.released {
            end(self.pid);
        }
    }
}

/// Takes new tasks of a puppet: each stands still when this is done.
pub(crate) fn settle(tid: i32, deadline: Instant) -> Result<()> {
    match until_still(tid, deadline, "making a process")? {
        Stop::Interrupted => {}
        stop => {
            let what = format!("{stop:?}");
            return Err(Error::Astray { tid, what, step: "making a process" });
        }
    }
    ptrace::set_signal_mask(tid, MASK).map_err(Error::trace("set signal mask", tid))
}

/// `children` gets the processes that it makes meanwhile, also when that fails.
fn until_trap(
    tid: i32,
    step: &'static str,
    deadline: Instant,
    stepping: bool,
    children: &mut Vec<i32>,
) -> Result<()> {
    loop {
        match next_stop(tid, deadline, step)? {
            Stop::Signal(libc::SIGTRAP) => return Ok(()),
            Stop::Forked => {
                children.push(ptrace::event_message(tid).map_err(Error::trace("read child's pid", tid))?);
            }
            Stop::Interrupted | Stop::Event(_) => {}
            stop @ (Stop::Signal(_) | Stop::Group(_) | Stop::Ended) => {
                return Err(Error::Astray { tid, what: format!("{stop:?}"), step });
            }
        }
        let on = if stepping { ptrace::step(tid) } else { ptrace::resume(tid, 0) };
        on.map_err(Error::trace("resume", tid))?;
    }
}

/// Kills a process of ours and waits for its end.
pub(crate) fn end(pid: i32) {
    // Its tracer has to take note of every thread, or the process never ends.
    let threads = crate::procfs::numbers(pid, "task").unwrap_or_default();
    if seacow_sys::process::kill(pid, libc::SIGKILL) == Err(Errno::SRCH) {
        return;
    }
    for tid in threads.into_iter().filter(|tid| *tid != pid).chain([pid]) {
        // Gone already, or not ours to wait for.
        let _ = ptrace::reap(tid);
    }
}
