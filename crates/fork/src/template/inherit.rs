//! What clones inherit from their template by being forked from it.

use std::time::Instant;

use super::Channel;
use crate::batch::Batch;
use crate::capture::{MemoryLayout, State};
use crate::error::Result;
use crate::puppet::Puppet;

/// Highest number of a capability that any kernel could have.
const CAPABILITIES: u64 = 64;

/// What the kernel keeps about the memory: heap, arguments, environment, program.
pub(super) fn memory_layout(
    puppet: &Puppet,
    state: &State,
    channel: Channel,
    deadline: Instant,
) -> Result<()> {
    let mut batch = Batch::new(puppet.area);
    let path = batch.text(format!("{}/exe", state.pid));
    let open = [channel.proc as u64, path, (libc::O_RDONLY | libc::O_CLOEXEC) as u64, 0];
    batch.call("open the program", libc::SYS_openat, &open);
    describe(&mut batch, &state.layout, Some(0));
    batch.call("close the program", libc::SYS_close, &[0]);
    puppet.run(&batch, deadline).map(drop)
}

/// The same, but for the program.
pub(crate) fn describe_memory(puppet: &Puppet, layout: &MemoryLayout, deadline: Instant) -> Result<()> {
    let mut batch = Batch::new(puppet.area);
    describe(&mut batch, layout, None);
    puppet.run(&batch, deadline).map(drop)
}

fn describe(batch: &mut Batch, layout: &MemoryLayout, program: Option<u32>) {
    const SET_MM: u64 = 35;
    const SET_MM_MAP: u64 = 14;
    let auxiliary = batch.data(&layout.auxiliary);
    let mut map = layout.addresses.to_vec();
    map.push(auxiliary);
    // Its size and the program's descriptor, two halves of a word.
    map.push(layout.auxiliary.len() as u64 | u64::from(program.unwrap_or(u32::MAX)) << 32);
    let size = 8 * map.len() as u64;
    let map = batch.words(&map);
    batch.call("describe the memory", libc::SYS_prctl, &[SET_MM, SET_MM_MAP, map, size, 0]);
}

/// What cannot be taken back, but for so many filters that are there already.
pub(crate) fn once(puppet: &Puppet, state: &State, filters: usize, deadline: Instant) -> Result<()> {
    let mut batch = Batch::new(puppet.area);
    for capability in (0..CAPABILITIES).filter(|number| state.credentials.bounding >> number & 1 == 0) {
        // Past the last one of this kernel it fails.
        batch.attempt("bounding set", libc::SYS_prctl, &[libc::PR_CAPBSET_DROP as u64, capability, 0, 0, 0]);
    }
    if state.credentials.no_new_privileges {
        batch.call("no new privileges", libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0]);
    }
    for filter in state.filters.iter().skip(filters) {
        let code: Vec<u8> = filter
            .iter()
            .flat_map(|step| {
                let [a, b] = step.code.to_le_bytes();
                let [c, d, e, f] = step.k.to_le_bytes();
                [a, b, step.jt, step.jf, c, d, e, f]
            })
            .collect();
        super::spill(puppet, &mut batch, 1, code.len() + 64, deadline)?;
        let code = batch.data(&code);
        let program = batch.words(&[filter.len() as u64, code]);
        const SET_MODE_FILTER: u64 = 1;
        batch.call("system call filter", libc::SYS_seccomp, &[SET_MODE_FILTER, 0, program]);
    }
    puppet.run(&batch, deadline).map(drop)
}

/// What may be different at the next fork.
pub(crate) fn always(puppet: &Puppet, state: &State, deadline: Instant) -> Result<()> {
    let mut batch = Batch::new(puppet.area);
    for (signal, action) in (1u64..).zip(&state.actions) {
        if [libc::SIGKILL as u64, libc::SIGSTOP as u64].contains(&signal) {
            continue;
        }
        let action = batch.data(action);
        batch.call("signal handler", libc::SYS_rt_sigaction, &[signal, action, 0, 8]);
    }
    if let Some(first) = state.threads.first() {
        let name = batch.text(&first.name);
        batch.call("name", libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name, 0, 0, 0]);
    }
    batch.call("umask", libc::SYS_umask, &[state.umask]);
    puppet.run(&batch, deadline).map(drop)
}

/// Whether what was done [`once`] for one state is right for another.
pub(super) fn is_compatible(old: &State, new: &State) -> bool {
    old.filters == new.filters
        && old.credentials.bounding == new.credentials.bounding
        && old.credentials.no_new_privileges == new.credentials.no_new_privileges
        && old.layout.addresses == new.layout.addresses
}
