//! State that each thread has.

use seacow_sys::inspect;
use seacow_sys::ptrace::{self, Registers, Rseq};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::procfs;
use crate::registers;
use crate::source::Source;

/// One thread.
#[derive(Clone, Debug)]
pub(crate) struct ThreadState {
    /// As the source's pid namespace sees it; a clone's has the same.
    pub(crate) tid: i32,
    /// Where a clone goes on.
    pub(crate) registers: Registers,
    pub(crate) extended: Vec<u8>,
    pub(crate) mask: u64,
    /// Address and length.
    pub(crate) robust_list: (u64, u64),
    pub(crate) rseq: Rseq,
    /// Where the kernel writes 0 when it ends.
    pub(crate) clear_tid: u64,
    /// `stack_t`: address, flags, size.
    pub(crate) signal_stack: [u64; 3],
    pub(crate) timer_slack: u64,
    pub(crate) name: Vec<u8>,
}

/// What can be read without the thread's help.
pub(super) fn from_outside(source: &Source) -> Result<Vec<ThreadState>> {
    let read = |thread: &crate::source::Thread| -> Result<ThreadState> {
        let tid = thread.tid;
        let mut name = procfs::read_bytes(source.pid, &format!("task/{tid}/comm"))?;
        name.truncate(name.len().saturating_sub(1));
        Ok(ThreadState {
            tid: thread.inner_tid,
            registers: registers::restarted(thread.registers, false),
            extended: ptrace::extended_state(tid).map_err(Error::trace("read vector registers", tid))?,
            mask: thread.mask,
            robust_list: inspect::robust_list(tid).map_err(Error::own("read robust futexes"))?,
            rseq: ptrace::rseq(tid).map_err(Error::trace("read rseq", tid))?,
            clear_tid: 0,
            signal_stack: [0; 3],
            timer_slack: 0,
            name,
        })
    };
    source.threads.iter().map(read).collect()
}

/// What only the thread can tell.
pub(super) fn from_inside(source: &mut Source, mut threads: Vec<ThreadState>) -> Result<Vec<ThreadState>> {
    /// PR_GET_TID_ADDRESS.
    const GET_TID_ADDRESS: u64 = 40;
    for (index, thread) in threads.iter_mut().enumerate() {
        let mut batch = Batch::new(source.area()?);
        let (stack, address) = (batch.room(24), batch.room(8));
        batch.call("signal stack", libc::SYS_sigaltstack, &[0, stack]);
        batch.call("address of the thread's id", libc::SYS_prctl, &[GET_TID_ADDRESS, address, 0, 0, 0]);
        let slack = [libc::PR_GET_TIMERSLACK as u64, 0, 0, 0, 0];
        let slack = batch.call("timer slack", libc::SYS_prctl, &slack);
        let answers = source.run(index, batch)?;
        for (word, value) in thread.signal_stack.iter_mut().enumerate() {
            *value = source.memory.read_word(stack + 8 * word as u64)?;
        }
        thread.clear_tid = source.memory.read_word(address)?;
        thread.timer_slack = answers.get(slack) as u64;
    }
    Ok(threads)
}
