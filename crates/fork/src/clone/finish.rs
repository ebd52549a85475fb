//! The rest of a clone's state, and the very last steps.

use std::time::Instant;

use seacow_sys::ptrace::{self, SignalInfo};

use crate::batch::Batch;
use crate::capture::{Credentials, SETTINGS, State, ThreadState};
use crate::error::{Error, Result};
use crate::procfs;
use crate::puppet::Puppet;

/// The process in its own pid namespace.
const FIRST: u64 = 1;

/// What each thread sets for itself, credentials last: they take away the rights to do the rest. `all`: the
/// capabilities that it has until then.
pub(crate) fn states(
    all: u64,
    puppet: &Puppet,
    state: &State,
    threads: &[i32],
    deadline: Instant,
) -> Result<()> {
    for (index, (thread, tid)) in state.threads.iter().zip(threads).enumerate() {
        let mut batch = Batch::new(puppet.area);
        let is_first = index == 0;
        if is_first {
            batch.call("address of the thread's id", libc::SYS_set_tid_address, &[thread.clear_tid]);
            timers(&mut batch, state);
        }
        for queued in &state.queued {
            match queued.thread {
                None if is_first => queue(&mut batch, libc::SYS_rt_sigqueueinfo, &[FIRST], &queued.info),
                Some(tid) if tid == thread.tid => {
                    queue(&mut batch, libc::SYS_rt_tgsigqueueinfo, &[FIRST, tid as u64], &queued.info);
                }
                None | Some(_) => {}
            }
        }
        of_thread(&mut batch, state, thread, is_first);
        if is_first {
            limits(&mut batch, state, &procfs::limits(puppet.pid)?);
        }
        credentials(&mut batch, &state.credentials, all, state, is_first);
        puppet.run_in(*tid, &batch, deadline)?;
    }
    Ok(())
}

/// Limits, late, so that they are not in the way, but while it may still raise them.
fn limits(batch: &mut Batch, state: &State, has: &[[u64; 2]]) {
    for (kind, (wanted, has)) in (0u64..).zip(state.limits.iter().zip(has)) {
        if wanted != has {
            let wanted = batch.words(wanted);
            batch.call("limit", libc::SYS_prlimit64, &[0, kind, wanted, 0]);
        }
    }
}

fn of_thread(batch: &mut Batch, state: &State, thread: &ThreadState, is_first: bool) {
    let (head, length) = thread.robust_list;
    if head != 0 {
        batch.call("robust futexes", libc::SYS_set_robust_list, &[head, length]);
    }
    if thread.rseq.area != 0 {
        let arguments = [thread.rseq.area, thread.rseq.size.into(), 0, thread.rseq.signature.into()];
        batch.call("rseq", libc::SYS_rseq, &arguments);
    }
    const ON_STACK: u64 = libc::SS_ONSTACK as u64;
    const DISABLED: u64 = libc::SS_DISABLE as u64;
    let [stack, flags, size] = thread.signal_stack;
    if flags & 0xffff_ffff & DISABLED == 0 {
        let setting = batch.words(&[stack, flags & 0xffff_ffff & !ON_STACK, size]);
        batch.call("signal stack", libc::SYS_sigaltstack, &[setting, 0]);
    }
    let first = state.threads.first().map(|first| &first.name);
    if !is_first && first != Some(&thread.name) {
        let name = batch.text(&thread.name);
        batch.call("name", libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name, 0, 0, 0]);
    }
    let slack = [libc::PR_SET_TIMERSLACK as u64, thread.timer_slack, 0, 0, 0];
    batch.call("timer slack", libc::SYS_prctl, &slack);
}

fn timers(batch: &mut Batch, state: &State) {
    for (which, timer) in (0u64..).zip(&state.interval_timers) {
        if timer.iter().any(|byte| *byte != 0) {
            let setting = batch.data(timer);
            batch.call("interval timer", libc::SYS_setitimer, &[which, setting, 0]);
        }
    }
    if state.timers.is_empty() {
        return;
    }
    // Linux 6.15: timers get the numbers that are asked for.
    const RESTORE_IDS: u64 = 77;
    batch.call("timers by number", libc::SYS_prctl, &[RESTORE_IDS, 1, 0, 0, 0]);
    for timer in &state.timers {
        // struct sigevent: value, signal, how, whom; 64 bytes.
        let mut event = timer.value.to_le_bytes().to_vec();
        for word in [timer.signal, timer.notify, timer.thread as u32] {
            event.extend_from_slice(&word.to_le_bytes());
        }
        event.resize(64, 0);
        let event = batch.data(&event);
        let id = batch.data(&(timer.id as u32).to_le_bytes());
        batch.call("timer", libc::SYS_timer_create, &[timer.clock as u64, event, id]);
        let setting = batch.words(&timer.setting);
        batch.call("set a timer", libc::SYS_timer_settime, &[timer.id, 0, setting, 0]);
    }
    batch.call("timers by number", libc::SYS_prctl, &[RESTORE_IDS, 0, 0, 0, 0]);
}

fn queue(batch: &mut Batch, call: i64, whom: &[u64], info: &SignalInfo) {
    let [a, b, c, d, ..] = *info;
    let signal = u32::from_le_bytes([a, b, c, d]);
    let info = batch.data(info);
    let mut arguments = whom.to_vec();
    arguments.extend([u64::from(signal), info]);
    batch.call("signal that waits", call, &arguments);
}

fn credentials(batch: &mut Batch, wanted: &Credentials, all: u64, state: &State, is_first: bool) {
    let prctl = |batch: &mut Batch, step, name: i32, value: u64| {
        batch.call(step, libc::SYS_prctl, &[name as u64, value, 0, 0, 0]);
    };
    prctl(batch, "keep capabilities", libc::PR_SET_KEEPCAPS, 1);
    let groups: Vec<u8> = wanted.groups.iter().flat_map(|group| group.to_le_bytes()).collect();
    let list = batch.data(&groups);
    batch.call("groups", libc::SYS_setgroups, &[wanted.groups.len() as u64, list]);
    let three = |ids: [u32; 4]| [u64::from(ids[0]), u64::from(ids[1]), u64::from(ids[2])];
    batch.call("group", libc::SYS_setresgid, &three(wanted.group));
    batch.call("user", libc::SYS_setresuid, &three(wanted.user));
    // A new user took them out of force.
    capabilities(batch, all, all, wanted.inheritable);
    for (step, call, ids) in [
        ("file system's group", libc::SYS_setfsgid, wanted.group),
        ("file system's user", libc::SYS_setfsuid, wanted.user),
    ] {
        if ids[3] != ids[1] {
            batch.call(step, call, &[u64::from(ids[3])]);
        }
    }
    prctl(batch, "keep capabilities", libc::PR_SET_KEEPCAPS, 0);
    for (setting, value) in SETTINGS.iter().zip(&state.settings) {
        let per_thread = setting.set == libc::PR_SET_SECUREBITS;
        match value {
            // The answer "2" is one that cannot be asked for: only the kernel makes a process so.
            Some(2) if setting.set == libc::PR_SET_DUMPABLE => {
                prctl(batch, setting.name, setting.set, 0);
            }
            Some(value) if *value != setting.usual && (is_first || per_thread) => {
                prctl(batch, setting.name, setting.set, *value);
            }
            Some(_) | None => {}
        }
    }
    capabilities(batch, wanted.effective, wanted.permitted, wanted.inheritable);
    for capability in (0..64).filter(|number| wanted.ambient >> number & 1 == 1) {
        let raise = [libc::PR_CAP_AMBIENT as u64, libc::PR_CAP_AMBIENT_RAISE as u64, capability, 0, 0];
        batch.call("ambient capability", libc::SYS_prctl, &raise);
    }
}

fn capabilities(batch: &mut Batch, effective: u64, permitted: u64, inheritable: u64) {
    const VERSION_3: u64 = 0x2008_0522;
    let header = batch.words(&[VERSION_3]);
    let mut data = Vec::new();
    for shift in [0, 32] {
        for set in [effective, permitted, inheritable] {
            data.extend_from_slice(&((set >> shift) as u32).to_le_bytes());
        }
    }
    let data = batch.data(&data);
    batch.call("capabilities", libc::SYS_capset, &[header, data]);
}

/// How likely the kernel is to kill it when memory runs out.
pub(crate) fn oom_score(puppet: &Puppet, state: &State) -> Result<()> {
    if procfs::read(puppet.pid, "oom_score_adj")? != state.oom_score {
        std::fs::write(format!("/proc/{}/oom_score_adj", puppet.pid), &state.oom_score)
            .map_err(|source| Error::Proc { pid: puppet.pid, name: "oom_score_adj".into(), source })?;
    }
    Ok(())
}

/// The area goes, and every thread gets what the source's had in its registers.
pub(super) fn registers(
    instruction: u64,
    puppet: &Puppet,
    state: &State,
    threads: &[i32],
    deadline: Instant,
) -> Result<()> {
    let area = [puppet.area.base, puppet.area.size];
    puppet.call_at(instruction, "give memory back", libc::SYS_munmap, &area, deadline)?;
    for (thread, tid) in state.threads.iter().zip(threads) {
        ptrace::set_registers(*tid, &thread.registers).map_err(Error::trace("set registers", *tid))?;
        ptrace::set_extended_state(*tid, &thread.extended)
            .map_err(Error::trace("set vector registers", *tid))?;
        ptrace::set_signal_mask(*tid, thread.mask).map_err(Error::trace("set signal mask", *tid))?;
    }
    Ok(())
}
