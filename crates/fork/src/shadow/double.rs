//! The order of steps by which a process that has executed a program gets a shadow.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use seacow_sys::process;
use seacow_sys::ptrace::{self, Options};

use super::proc_mount::{self, ProcMount};
use super::program::{self, Program};
use super::watch::{Doubled, Watch};
use super::{Charge, Shadow, Surroundings};
use crate::batch::{Area, Batch};
use crate::capture::{self, State};
use crate::clone::{Clone, finish};
use crate::error::{Error, Result, listed};
use crate::examine::{self, Target};
use crate::memory::Memory;
use crate::procfs::{self, Fields};
use crate::puppet::{self, Puppet};
use crate::source::Source;
use crate::template::{inherit, spawn};

/// Does it. The source is let go on failure.
pub(super) fn double(
    mut source: Source,
    target: &Target<'_>,
    around: &Surroundings<'_>,
    deadline: Instant,
) -> Result<Doubled> {
    let (shadow, new, pidfd) = match prepare(&mut source, target, around, deadline) {
        Ok(prepared) => prepared,
        Err(error) => {
            source.release()?;
            return Err(error);
        }
    };
    // The one moment that cannot be taken back; all else is done.
    let _ = process::kill(source.pid, libc::SIGKILL);
    // No filter sleeps any more, and it does not end with us.
    let options = ptrace::set_options(new.pid, Options::TRACE_EXEC);
    source.end();
    options.map_err(Error::trace("set options", new.pid))?;
    ptrace::resume(new.pid, 0).map_err(Error::trace("let go", new.pid))?;
    let clone = Clone { pid: new.pid, pidfd };
    new.let_go();
    let watch = Watch::of(clone.pid);
    Ok(Doubled { shadow, clone, watch })
}

/// Makes both; what the source sees is as it was when that fails.
fn prepare(
    source: &mut Source,
    target: &Target<'_>,
    around: &Surroundings<'_>,
    deadline: Instant,
) -> Result<(Shadow, Puppet, OwnedFd)> {
    let old = source.pid;
    look(old, target)?;
    let program = Program::of(old, &source.memory)?;
    let proc = ProcMount::of(old)?;
    let state = capture::at_exec(source)?;
    let (shadow, instruction) = shadow_of(&program, old, around, deadline)?;
    let channel = procfs::numbers(old, "fd")?.into_iter().max().unwrap_or(2).max(2) as u64 + 1;
    let new = divide(&shadow, old, around, channel, deadline)?;
    let pidfd = process::pidfd_open(new.pid).map_err(Error::own("open the process"))?;
    surround(&new, old, &state, around, channel, deadline)?;
    check_scheduling(old, new.pid)?;
    inherit::once(&new, &state, 0, deadline)?;
    inherit::always(&new, &state, deadline)?;
    correct_kernels_vector(&new, &program, deadline)?;
    let Some(proc) = proc else {
        become_it(&new, &state, channel, instruction, deadline)?;
        return Ok((shadow, new, pidfd));
    };
    keep_proc(&shadow, deadline)?;
    let done = put_proc(&new, &proc, old, channel, deadline);
    match done.and_then(|()| become_it(&new, &state, channel, instruction, deadline)) {
        Ok(()) => forget_proc(&shadow, instruction, deadline).map(|()| (shadow, new, pidfd)),
        Err(error) => {
            restore_proc(&shadow, deadline)?;
            Err(error)
        }
    }
}

/// Has one execute the program, up to the first instruction.
fn shadow_of(
    program: &Program,
    old: i32,
    around: &Surroundings<'_>,
    deadline: Instant,
) -> Result<(Shadow, u64)> {
    let pidfd = process::pidfd_open(old).map_err(Error::own("open the process"))?;
    let place = (around.cgroup, around.charge.memory);
    let pid = program::execute_again(program, old, pidfd.as_fd(), place, deadline)?;
    let mut puppet = Puppet::adopt(pid, Area::large(0))?;
    let registers = puppet.registers;
    compare(old, pid, program)?;
    correct_vector(&puppet.memory, program, registers.rsp)?;
    let instruction = spawn::instruction(&puppet)?;
    room(&mut puppet, instruction, deadline)?;
    // Charged already: from before it executed on.
    let charge = Charge { memory: None, ..around.charge };
    Ok((Shadow::adopt(puppet, 0, charge)?, instruction))
}

/// What stands in the way and can be seen from outside.
fn look(pid: i32, target: &Target<'_>) -> Result<()> {
    // Namespaces of its own of a kind that neither a shadow nor a clone can have, among others.
    let reasons = examine::at_rest(target, &[])?;
    if !reasons.is_empty() {
        return Err(Error::no_shadow(listed(&reasons)));
    }
    if Fields::read(pid, "status")?.list::<i32>("NSpid")?.len() != 2 {
        return Err(Error::no_shadow("its pid namespace is not right below ours"));
    }
    for number in procfs::numbers(pid, "fd")? {
        let info = Fields::read(pid, &format!("fdinfo/{number}"))?;
        let link = procfs::link(pid, &format!("fd/{number}"))?;
        // Locks are the process's; what stands for processes would stand for those of the old namespace.
        let bound = link.starts_with(b"/proc/")
            || link == b"/proc"
            || link.starts_with(b"anon_inode:[pidfd]")
            || link.starts_with(b"pidfd:")
            || link.starts_with(b"anon_inode:[io_uring]");
        if bound || info.find("lock").is_some() {
            let name = String::from_utf8_lossy(&link).into_owned();
            return Err(Error::no_shadow(format!("descriptor {number} is its own ({name})")));
        }
        let found = rustix::fs::stat(format!("/proc/{pid}/fd/{number}"))
            .map_err(Error::own("look at a descriptor"))?;
        if crate::files::is_terminal(found.st_rdev, found.st_mode) {
            return Err(Error::no_shadow("it has a terminal"));
        }
    }
    Ok(())
}

/// What must be the same of both: the kernel computes it from who executes.
fn compare(old: i32, new: i32, program: &Program) -> Result<()> {
    if !program.is_run_by(new)? {
        return Err(Error::no_shadow("executed again it is another program"));
    }
    // By AppArmor or SELinux. None of either: the file cannot be read.
    let label = |pid| procfs::read_bytes(pid, "attr/current").ok();
    if label(old) != label(new) {
        return Err(Error::no_shadow("it has a security label"));
    }
    Ok(())
}

/// How the kernel schedules it is inherited, not carried over.
fn check_scheduling(old: i32, new: i32) -> Result<()> {
    let of = |pid: i32| -> Result<(Vec<String>, String)> {
        let stat = procfs::read(pid, "stat")?;
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |pair| pair.1).split_whitespace().collect();
        // As numbered in proc(5), where the state is field 3: nice value, real-time priority, policy.
        let chosen = [19, 40, 41].map(|number: usize| fields.get(number - 3).unwrap_or(&"").to_string());
        Ok((chosen.to_vec(), Fields::read(pid, "status")?.get("Cpus_allowed")?.to_owned()))
    };
    if of(old)? == of(new)? { Ok(()) } else { Err(Error::no_shadow("it is scheduled in its own way")) }
}

/// Has the stack tell what the process would have been told: whose it is. (The kernel wrote there who
/// executed, which was us.)
fn correct_vector(memory: &Memory, program: &Program, stack: u64) -> Result<()> {
    /// AT_UID, AT_EUID, AT_GID, AT_EGID.
    const IDS: [u64; 4] = [11, 12, 13, 14];
    /// More entries than any kernel makes.
    const MOST: usize = 64;
    let at = program.auxiliary_at(stack);
    for index in 0..MOST as u64 {
        let key = memory.read_word(at + 16 * index)?;
        if key == 0 {
            return Ok(());
        }
        let wanted = procfs::auxiliary(&program.auxiliary, key).filter(|_| IDS.contains(&key));
        if let Some(wanted) = wanted {
            memory.write(at + 16 * index + 8, &wanted.to_le_bytes())?;
        }
    }
    Err(Error::no_shadow("its auxiliary vector has no end"))
}

/// The same in the copy that the kernel shows.
fn correct_kernels_vector(new: &Puppet, program: &Program, deadline: Instant) -> Result<()> {
    const IDS: [u64; 4] = [11, 12, 13, 14];
    let mut vector = procfs::read_bytes(new.pid, "auxv")?;
    let mut changed = false;
    for pair in vector.chunks_exact_mut(16) {
        let (key, value) = pair.split_at_mut(8);
        let key = key.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let wanted = procfs::auxiliary(&program.auxiliary, key).filter(|_| IDS.contains(&key));
        if let Some(wanted) = wanted.map(u64::to_le_bytes).filter(|wanted| wanted[..] != *value) {
            value.copy_from_slice(&wanted);
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    let mut batch = Batch::new(new.area);
    batch.call("end of the heap", libc::SYS_brk, &[0]);
    let brk = new.run(&batch, deadline)?.get(0) as u64;
    let layout = capture::MemoryLayout { auxiliary: vector, ..capture::layout(new.pid, brk)? };
    inherit::describe_memory(new, &layout, deadline)
}

/// Memory for lists, at any place: it goes before the first instruction.
fn room(puppet: &mut Puppet, instruction: u64, deadline: Instant) -> Result<()> {
    let protection = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let arguments = [0, Area::large(0).size, protection, flags, u64::MAX, 0];
    let base = puppet.call_at(instruction, "memory for calls", libc::SYS_mmap, &arguments, deadline)?;
    puppet.set_area(Area::large(base as u64))
}

/// Makes the process: of the shadow's memory, the first of a new pid namespace.
fn divide(
    shadow: &Shadow,
    old: i32,
    around: &Surroundings<'_>,
    channel: u64,
    deadline: Instant,
) -> Result<Puppet> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let own = &shadow.puppet;
    spawn::raise_limit(own.pid, channel + 2)?;
    let mut batch = Batch::new(own.area);
    batch.call("open the process", libc::SYS_pidfd_open, &[old as u64, 0]);
    batch.call("place a descriptor", libc::SYS_dup3, &[0, channel, libc::O_CLOEXEC as u64]);
    batch.call("close a descriptor", libc::SYS_close, &[0]);
    let mut flags = (libc::CLONE_VM | libc::CLONE_NEWPID | libc::CLONE_PARENT) as u64;
    batch.call("open ourselves", libc::SYS_pidfd_open, &[process::own_pid() as u64, 0]);
    batch.call("place a descriptor", libc::SYS_dup3, &[0, channel + 1, libc::O_CLOEXEC as u64]);
    batch.call("close a descriptor", libc::SYS_close, &[0]);
    if let Some(cgroup) = around.cgroup {
        flags |= INTO_CGROUP;
        batch.call("fetch a descriptor", libc::SYS_pidfd_getfd, &[channel + 1, cgroup.as_raw_fd() as u64, 0]);
    }
    // struct clone_args; the cgroup is descriptor 0.
    let arguments = batch.words(&[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    batch.fork("make the process", libc::SYS_clone3, &[arguments, 88]);
    let name = batch.text(super::NAME);
    batch.call("name", libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name, 0, 0, 0]);
    batch.call("close descriptors", libc::SYS_close_range, &[0, u64::from(u32::MAX), 0]);
    let answers = own.run(&batch, deadline)?;
    let [pid] = answers.children[..] else {
        return Err(Error::Astray { tid: own.pid, what: "no child".into(), step: "make the process" });
    };
    puppet::settle(pid, deadline).inspect_err(|_| puppet::end(pid))?;
    let mut new = Puppet::adopt(pid, own.area)?;
    // Where the shadow was before it made calls.
    new.registers = own.registers;
    Ok(new)
}

/// Session, keyring, cgroup namespace, descriptors.
fn surround(
    new: &Puppet,
    old: i32,
    state: &State,
    around: &Surroundings<'_>,
    channel: u64,
    deadline: Instant,
) -> Result<()> {
    const JOIN_SESSION_KEYRING: u64 = 1;
    let mut batch = Batch::new(new.area);
    batch.call("close descriptors", libc::SYS_close_range, &[0, channel - 1, 0]);
    if state.session_leader {
        batch.call("session", libc::SYS_setsid, &[]);
    }
    batch.attempt("keyring", libc::SYS_keyctl, &[JOIN_SESSION_KEYRING, 0]);
    for tasks in &around.join {
        super::join(&mut batch, *tasks, channel + 1, 0);
    }
    batch.call("close the way to us", libc::SYS_close, &[channel + 1]);
    batch.call("cgroup namespace", libc::SYS_setns, &[channel, libc::CLONE_NEWCGROUP as u64]);
    let mut lowest = 0;
    for number in procfs::numbers(old, "fd")? {
        crate::template::spill(new, &mut batch, 3, 0, deadline)?;
        let number = number as u64;
        batch.call("fetch a descriptor", libc::SYS_pidfd_getfd, &[channel, number, 0]);
        if lowest == number {
            // All that are left are to stay open at an exec.
            batch.call("close on exec", libc::SYS_fcntl, &[number, libc::F_SETFD as u64, 0]);
            lowest += 1;
        } else {
            batch.call("place a descriptor", libc::SYS_dup3, &[lowest, number, 0]);
            batch.call("close a descriptor", libc::SYS_close, &[lowest]);
        }
    }
    new.run(&batch, deadline).map(drop)
}

/// Opens the old `/proc` in the shadow, as its descriptor 0.
fn keep_proc(shadow: &Shadow, deadline: Instant) -> Result<()> {
    let mut batch = Batch::new(shadow.puppet.area);
    proc_mount::keep(&mut batch);
    shadow.puppet.run(&batch, deadline).map(drop)
}

fn restore_proc(shadow: &Shadow, deadline: Instant) -> Result<()> {
    let mut batch = Batch::new(shadow.puppet.area);
    proc_mount::restore(&mut batch, 0);
    shadow.puppet.run(&batch, deadline).map(drop)
}

/// The memory for lists is gone by now.
fn forget_proc(shadow: &Shadow, instruction: u64, deadline: Instant) -> Result<()> {
    let step = "let go of the old proc";
    shadow.puppet.call_at(instruction, step, libc::SYS_close, &[0], deadline).map(drop)
}

/// `/proc` of the new namespace.
fn put_proc(new: &Puppet, proc: &ProcMount, old: i32, channel: u64, deadline: Instant) -> Result<()> {
    let taken = procfs::numbers(old, "fd")?.into_iter().map(|number| number as u64).chain([channel]);
    let mut batch = Batch::new(new.area);
    proc.replace(&mut batch, taken.collect());
    new.run(&batch, deadline).map(drop)
}

/// The last steps: the way to us, credentials, memory for lists, registers.
fn become_it(new: &Puppet, state: &State, channel: u64, instruction: u64, deadline: Instant) -> Result<()> {
    let pid = new.pid;
    let capabilities = Fields::read(pid, "status")?.hex("CapPrm")?;
    let mut batch = Batch::new(new.area);
    batch.call("close a descriptor", libc::SYS_close, &[channel]);
    new.run(&batch, deadline)?;
    finish::states(capabilities, new, state, &[pid], deadline)?;
    finish::oom_score(new, state)?;
    let area = [new.area.base, new.area.size];
    new.call_at(instruction, "give memory back", libc::SYS_munmap, &area, deadline)?;
    ptrace::set_registers(pid, &new.registers).map_err(Error::trace("set registers", pid))?;
    let mask = state.threads.first().map_or(0, |first| first.mask);
    ptrace::set_signal_mask(pid, mask).map_err(Error::trace("set signal mask", pid))
}
