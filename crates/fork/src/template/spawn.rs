//! The process that becomes a template: a copy of ourselves, emptied.

use std::os::fd::AsFd;
use std::time::Instant;

use seacow_sys::ns::Kinds;
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::ptrace;

use super::Channel;
use crate::batch::{Area, Batch};
use crate::capture::State;
use crate::error::{Error, Result};
use crate::procfs::{self, Fields, Mapping};
use crate::puppet::{self, OPTIONS, Puppet};
use crate::shadow::{self, Copied};

/// Where to look for a place for the area: above what programs are linked to, below everything else.
const LOWEST: u64 = 0x2000_0000;
/// End of the addresses that a process may use.
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Left between the area and any mapping: stacks grow.
const DISTANCE: u64 = 1 << 20;
/// AT_SYSINFO_EHDR.
const AUX_VDSO: u64 = 33;

/// Forks ourselves, and closes and opens what a template needs. Gives its capabilities, too.
pub(super) fn spawn(state: &State, channel: Channel, deadline: Instant) -> Result<(Puppet, u64)> {
    let parent = process::own_pid();
    let cloned = process::clone3(&Clone::default()).map_err(Error::own("make the template's process"))?;
    let pid = match cloned {
        Cloned::Child => park(parent),
        Cloned::Parent { pid, .. } => pid,
    };
    // Until a puppet guards it.
    let guarded = hold(pid, deadline).inspect_err(|_| puppet::end(pid));
    guarded?;
    let mut puppet = Puppet::adopt(pid, Area::large(0))?;
    let instruction = instruction(&puppet)?;
    let area = Area::large(free_place(&[&procfs::mappings(pid)?, &state.mappings])?);
    const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
    let protection = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64 | MAP_FIXED_NOREPLACE;
    let arguments = [area.base, area.size, protection, flags, u64::MAX, 0];
    puppet.call_at(instruction, "memory for calls", libc::SYS_mmap, &arguments, deadline)?;
    puppet.set_area(area)?;
    raise_limit(pid, channel.highest())?;
    open_channel(&puppet, channel, deadline)?;
    let capabilities = Fields::read(pid, "status")?.hex("CapPrm")?;
    Ok((puppet, capabilities))
}

/// The life of the new process until it is taken over: it waits.
fn park(parent: i32) -> ! {
    // Should we be killed before it is traced; or have been already.
    let armed = process::die_with_parent();
    if armed.is_err() || process::parent_pid() != parent {
        process::exit_now(1);
    }
    loop {
        std::thread::park();
    }
}

fn hold(pid: i32, deadline: Instant) -> Result<()> {
    ptrace::seize(pid, OPTIONS).map_err(Error::trace("seize", pid))?;
    ptrace::interrupt(pid).map_err(Error::trace("interrupt", pid))?;
    puppet::settle(pid, deadline)
}

/// Finds a `syscall` instruction in the vdso.
pub(crate) fn instruction(puppet: &Puppet) -> Result<u64> {
    let pid = puppet.pid;
    let vdso = procfs::auxiliary(&procfs::read_bytes(pid, "auxv")?, AUX_VDSO);
    let vdso = vdso.ok_or_else(|| Error::proc(pid, "auxv"))?;
    find_instruction(puppet, vdso)
}

fn find_instruction(puppet: &Puppet, vdso: u64) -> Result<u64> {
    let code = puppet.memory.read(vdso, 4096)?;
    let at = code.windows(2).position(|pair| pair == [0x0f, 0x05]);
    at.map(|at| vdso + at as u64).ok_or_else(|| Error::proc(puppet.pid, "maps"))
}

/// An address that is free in all these.
fn free_place(all: &[&[Mapping]]) -> Result<u64> {
    let size = Area::large(0).size;
    let mut at = LOWEST;
    while at < HIGHEST {
        let near = |mapping: &&Mapping| mapping.start < at + size + DISTANCE && at < mapping.end + DISTANCE;
        match all.iter().flat_map(|mappings| mappings.iter()).find(near) {
            None => return Ok(at),
            Some(mapping) => at = (mapping.end + DISTANCE).next_multiple_of(DISTANCE) + DISTANCE,
        }
    }
    Err(Error::TooMany { what: "mappings" })
}

/// It must be able to have the descriptors that the source has.
pub(crate) fn raise_limit(pid: i32, highest: u64) -> Result<()> {
    use seacow_sys::rlimit::{self, Kind, Limit};
    let Some(kind) = Kind::named("nofile") else { return Ok(()) };
    let needed = highest + 1;
    let now = rlimit::get(kind);
    let wanted = Limit { soft: needed.max(now.hard), hard: now.hard.max(needed) };
    rlimit::set_of(pid, kind, wanted)
        .map(drop)
        .map_err(Error::own("raise the template's limit of descriptors"))
}

/// Lets go of all that it has of ours but two ways to us.
fn open_channel(puppet: &Puppet, channel: Channel, deadline: Instant) -> Result<()> {
    let mut batch = Batch::new(puppet.area);
    let rseq = ptrace::rseq(puppet.pid).map_err(Error::trace("read rseq", puppet.pid))?;
    if rseq.area != 0 {
        const UNREGISTER: u64 = 1;
        let arguments = [rseq.area, rseq.size.into(), UNREGISTER, rseq.signature.into()];
        batch.call("leave rseq", libc::SYS_rseq, &arguments);
    }
    /// Bytes of the head of a list of robust futexes.
    const ROBUST_HEAD: u64 = 24;
    batch.call("leave robust futexes", libc::SYS_set_robust_list, &[0, ROBUST_HEAD]);
    batch.call("leave the thread's id", libc::SYS_set_tid_address, &[0]);
    leave(&mut batch, channel, Kinds::empty());
    puppet.run(&batch, deadline).map(drop)
}

/// Closes all descriptors but two ways to us, comes over into our namespaces of these kinds, and moves into
/// a mount namespace with nothing in it but the directory `/root`.
fn leave(batch: &mut Batch, channel: Channel, kinds: Kinds) {
    batch.call("close descriptors", libc::SYS_close_range, &[0, u64::from(u32::MAX), 0]);
    let close = libc::O_CLOEXEC as u64;
    batch.call("open ourselves", libc::SYS_pidfd_open, &[process::own_pid() as u64, 0]);
    batch.call("place a descriptor", libc::SYS_dup3, &[0, channel.us as u64, close]);
    batch.call("close a descriptor", libc::SYS_close, &[0]);
    if !kinds.is_empty() {
        batch.call("come over", libc::SYS_setns, &[channel.us as u64, kinds.bits()]);
    }
    let path = batch.text("/proc");
    let flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    batch.call("open /proc", libc::SYS_openat, &[libc::AT_FDCWD as u64, path, flags, 0]);
    batch.call("place a descriptor", libc::SYS_dup3, &[0, channel.proc as u64, close]);
    batch.call("close a descriptor", libc::SYS_close, &[0]);
    batch.attempt("session", libc::SYS_setsid, &[]);
    const JOIN_SESSION_KEYRING: u64 = 1;
    batch.attempt("keyring", libc::SYS_keyctl, &[JOIN_SESSION_KEYRING, 0]);
    batch.call("mount namespace", libc::SYS_unshare, &[libc::CLONE_NEWNS as u64]);
    let (root, none, kind) = (batch.text("/"), batch.text("none"), batch.text("tmpfs"));
    let private = libc::MS_REC | libc::MS_PRIVATE;
    batch.call("make mounts private", libc::SYS_mount, &[none, root, 0, private, 0]);
    // Any directory will do; this one exists.
    batch.call("mount an empty root", libc::SYS_mount, &[kind, path, kind, 0, 0]);
    let (dot, place) = (batch.text("."), batch.text("root"));
    batch.call("enter the empty root", libc::SYS_chdir, &[path]);
    batch.call("make /root", libc::SYS_mkdir, &[place, 0o755]);
    batch.call("pivot", libc::SYS_pivot_root, &[dot, dot]);
    batch.call("let go of the old root", libc::SYS_umount2, &[dot, libc::MNT_DETACH as u64]);
}

/// Makes a fork of the shadow a process like those that [`spawn`] makes. Gives its capabilities, too.
pub(super) fn take_over(copied: &mut Copied, channel: Channel, deadline: Instant) -> Result<u64> {
    let puppet = &mut copied.puppet;
    raise_limit(puppet.pid, channel.highest())?;
    let kinds = Kinds::MOUNT | Kinds::NETWORK | Kinds::UTS | Kinds::IPC | Kinds::CGROUP;
    let mut batch = Batch::new(puppet.area);
    leave(&mut batch, channel, kinds);
    if let Some(tasks) = &copied.charged {
        shadow::join(&mut batch, tasks.as_fd(), channel.us as u64, 0);
    }
    let protection = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let arguments = [0, Area::large(0).size, protection, flags, u64::MAX, 0];
    let mapped = batch.call("memory for calls", libc::SYS_mmap, &arguments);
    let base = puppet.run(&batch, deadline)?.get(mapped) as u64;
    puppet.set_area(Area::large(base))?;
    let mut batch = Batch::new(puppet.area);
    let scratch = &copied.scratch;
    let arguments = [scratch.start, scratch.end - scratch.start];
    batch.call("give the source's memory for calls back", libc::SYS_munmap, &arguments);
    puppet.run(&batch, deadline)?;
    Fields::read(puppet.pid, "status")?.hex("CapPrm")
}

/// Unmaps everything but the area, and maps the vdso where the source has it. Gives the place of a
/// `syscall` instruction.
pub(super) fn empty(puppet: &mut Puppet, state: &State, deadline: Instant) -> Result<u64> {
    const MAP_VDSO_64: u64 = 0x2003;
    let area = puppet.area.range();
    let mut batch = Batch::new(puppet.area);
    batch.call("empty the memory below", libc::SYS_munmap, &[0, area.start]);
    batch.call("empty the memory above", libc::SYS_munmap, &[area.end, HIGHEST - area.end]);
    let kernels =
        state.mappings.iter().filter(|mapping| mapping.is_kernels() && mapping.name != "[vsyscall]");
    // Data first, code behind it, as the kernel maps it.
    if let Some(start) = kernels.map(|mapping| mapping.start).min() {
        batch.call("map the vdso", libc::SYS_arch_prctl, &[MAP_VDSO_64, start]);
    }
    puppet.run(&batch, deadline)?;
    let vdso = procfs::auxiliary(&state.layout.auxiliary, AUX_VDSO);
    find_instruction(puppet, vdso.ok_or_else(|| Error::proc(puppet.pid, "maps"))?)
}
