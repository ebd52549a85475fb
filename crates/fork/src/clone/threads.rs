//! Further threads of a clone.

use std::time::Instant;

use crate::batch::Batch;
use crate::capture::State;
use crate::error::{Error, Result};
use crate::puppet::{self, Puppet};

/// Makes them, with the numbers that they have in the source. Gives the ids of all threads as we see
/// them, in the order of the source's; all stand still.
pub(super) fn make(puppet: &Puppet, state: &State, deadline: Instant) -> Result<Vec<i32>> {
    let kind = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let mut all = vec![puppet.pid];
    let further = state.threads.get(1..).unwrap_or_default();
    // Few at a time: a list has its limits.
    for some in further.chunks(256) {
        let mut batch = Batch::new(puppet.area);
        for thread in some {
            let tid = batch.data(&thread.tid.to_le_bytes());
            let clear = if thread.clear_tid == 0 { 0 } else { libc::CLONE_CHILD_CLEARTID };
            // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
            // set_tid, set_tid_size, cgroup. It stands still before it needs a stack.
            let flags = (kind | clear) as u64;
            let arguments = batch.words(&[flags, 0, thread.clear_tid, 0, 0, 0, 0, 0, tid, 1, 0]);
            batch.call("make a thread", libc::SYS_clone3, &[arguments, 88]);
        }
        let answers = puppet.run(&batch, deadline)?;
        if answers.children.len() != some.len() {
            let what = format!("{} threads", answers.children.len());
            return Err(Error::Astray { tid: puppet.pid, what, step: "make a thread" });
        }
        all.extend(answers.children);
    }
    for tid in all.iter().skip(1) {
        puppet::settle(*tid, deadline)?;
    }
    Ok(all)
}
