//! What a process has executed, and a process of ours that executes it once more.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::fs::OFlags;
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Clone, Cloned};
use seacow_sys::ptrace::{self, Options, Stop};
use seacow_sys::rlimit::{self, Kind, Limit};
use seacow_sys::{Errno, signal};

use crate::error::{Error, Result};
use crate::files::ObjectId;
use crate::memory::Memory;
use crate::procfs;
use crate::puppet::{self, OPTIONS};
use crate::wait::next_stop;

/// AT_SECURE, AT_EXECFN.
const SECURE: u64 = 23;
const EXEC_NAME: u64 = 31;
/// Bytes of a path, as the kernel takes it.
const MAX_PATH: usize = 4096;

/// A program with its arguments, as the kernel left them for the process that executed it.
#[derive(Debug)]
pub(super) struct Program {
    /// What was asked for: the script, where it is one.
    path: CString,
    /// The file that runs: the interpreter, where it is a script.
    file: ObjectId,
    /// Where that is: for what was executed by a path that means something else to us (`/proc/self/exe`).
    place: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Both, as the kernel shows them.
    raw: [Vec<u8>; 2],
    pub(super) auxiliary: Vec<u8>,
    personality: u64,
}

impl Program {
    /// Of a process that stands before its first instruction.
    pub(super) fn of(pid: i32, memory: &Memory) -> Result<Self> {
        let auxiliary = procfs::read_bytes(pid, "auxv")?;
        if procfs::auxiliary(&auxiliary, SECURE) != Some(0) {
            return Err(Error::no_shadow("the program gives rights to who executes it"));
        }
        let name = procfs::auxiliary(&auxiliary, EXEC_NAME).ok_or_else(|| Error::proc(pid, "auxv"))?;
        let path = text_at(memory, name)?;
        let found =
            rustix::fs::stat(format!("/proc/{pid}/exe")).map_err(Error::own("look at the program"))?;
        // A mode that gives rights does so to us, who execute as root, even where it could not to the process.
        if found.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
            return Err(Error::no_shadow("the program gives rights to who executes it"));
        }
        let raw = [procfs::read_bytes(pid, "cmdline")?, procfs::read_bytes(pid, "environ")?];
        Ok(Self {
            path,
            file: ObjectId { device: found.st_dev, inode: found.st_ino },
            place: CString::new(procfs::link(pid, "exe")?).map_err(|_| Error::proc(pid, "exe"))?,
            arguments: strings(&raw[0]),
            environment: strings(&raw[1]),
            raw,
            auxiliary,
            personality: procfs::hex(procfs::read(pid, "personality")?.trim())
                .ok_or_else(|| Error::proc(pid, "personality"))?,
        })
    }

    /// Whether another process stands before the first instruction of the same.
    pub(super) fn is_run_by(&self, pid: i32) -> Result<bool> {
        let found =
            rustix::fs::stat(format!("/proc/{pid}/exe")).map_err(Error::own("look at the program"))?;
        let file = ObjectId { device: found.st_dev, inode: found.st_ino };
        let raw = [procfs::read_bytes(pid, "cmdline")?, procfs::read_bytes(pid, "environ")?];
        Ok(file == self.file && raw == self.raw)
    }

    /// Where the auxiliary vector is, above this stack pointer.
    pub(super) fn auxiliary_at(&self, stack: u64) -> u64 {
        // The number of arguments, both lists, each with a null behind it.
        stack + 8 * (1 + self.arguments.len() as u64 + 1 + self.environment.len() as u64 + 1)
    }

    /// What to execute, seen from the same root and directory.
    fn again(&self) -> Option<(&CStr, Vec<CString>)> {
        match rustix::fs::stat(&self.path).ok().filter(|_| !self.path.to_bytes().starts_with(b"/proc/")) {
            Some(found) if ObjectId { device: found.st_dev, inode: found.st_ino } == self.file => {
                Some((self.path.as_c_str(), self.arguments.clone()))
            }
            Some(_) => Some((self.path.as_c_str(), self.for_script()?)),
            None => Some((self.place.as_c_str(), self.arguments.clone())),
        }
    }

    /// Arguments that bring about the same when the path is a script: the kernel has put interpreters and the
    /// script's name in the place of the first.
    fn for_script(&self) -> Option<Vec<CString>> {
        let at = self.arguments.iter().skip(1).position(|argument| *argument == self.path)? + 1;
        let mut arguments = vec![self.path.clone()];
        arguments.extend_from_slice(self.arguments.get(at + 1..)?);
        Some(arguments)
    }
}

fn text_at(memory: &Memory, address: u64) -> Result<CString> {
    let mut text = Vec::new();
    let mut at = address;
    while text.len() < MAX_PATH {
        // Not across the end of the page, which may be the end of the stack.
        let some = memory.read(at, (4096 - at % 4096) as usize)?;
        let end = some.iter().position(|byte| *byte == 0);
        text.extend_from_slice(some.get(..end.unwrap_or(some.len())).unwrap_or_default());
        if end.is_some() {
            return CString::new(text).map_err(|_| Error::no_shadow("the program's name has no end"));
        }
        at += some.len() as u64;
    }
    Err(Error::no_shadow("the program's name has no end"))
}

fn strings(raw: &[u8]) -> Vec<CString> {
    if raw.is_empty() {
        return Vec::new();
    }
    let raw = raw.strip_suffix(&[0]).unwrap_or(raw);
    raw.split(|byte| *byte == 0).filter_map(|text| CString::new(text).ok()).collect()
}

/// What the new process needs of the one whose program it executes.
struct Place<'a> {
    pidfd: BorrowedFd<'a>,
    root: OwnedFd,
    directory: OwnedFd,
    /// By the kernel's numbers.
    limits: Vec<[u64; 2]>,
    memory: Option<BorrowedFd<'a>>,
}

/// Has a new process of ours execute the program, in the namespaces of the process `like` but for that of
/// pids, born in this cgroup and charged for memory to that. It stands before the first instruction, traced;
/// it is killed on failure.
pub(super) fn execute_again(
    program: &Program,
    like: i32,
    pidfd: BorrowedFd<'_>,
    (cgroup, memory): (Option<BorrowedFd<'_>>, Option<BorrowedFd<'_>>),
    deadline: Instant,
) -> Result<i32> {
    let place = Place {
        pidfd,
        root: procfs::open_link(like, "root", OFlags::PATH)?,
        directory: procfs::open_link(like, "cwd", OFlags::PATH)?,
        limits: procfs::limits(like)?,
        memory,
    };
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::own("make a pipe"))?;
    let parent = process::own_pid();
    let how = Clone { cgroup, ..Clone::default() };
    let pid = match process::clone3(&how).map_err(Error::own("make the shadow's process"))? {
        Cloned::Child => {
            drop(write);
            become_program(parent, read.into(), &place, program)
        }
        Cloned::Parent { pid, .. } => pid,
    };
    let led = lead(pid, write, deadline);
    led.inspect_err(|_| puppet::end(pid)).map(|()| pid)
}

/// Puts it under our control and lets it execute.
fn lead(pid: i32, word: OwnedFd, deadline: Instant) -> Result<()> {
    ptrace::seize(pid, OPTIONS.and(Options::TRACE_EXEC)).map_err(Error::trace("seize", pid))?;
    rustix::io::write(&word, b"g").map_err(Error::own("let the shadow execute"))?;
    loop {
        match next_stop(pid, deadline, "executing the program again")? {
            Stop::Event(ptrace::EXECUTED) => break,
            Stop::Ended => return Err(Error::no_shadow("the program cannot be executed again")),
            Stop::Signal(signal) => ptrace::resume(pid, signal).map_err(Error::trace("resume", pid))?,
            Stop::Interrupted | Stop::Group(_) | Stop::Forked | Stop::Event(_) => {
                ptrace::resume(pid, 0).map_err(Error::trace("resume", pid))?;
            }
        }
    }
    // Out of the call, which would overwrite what is written to its registers.
    ptrace::interrupt(pid).map_err(Error::trace("interrupt", pid))?;
    ptrace::resume(pid, 0).map_err(Error::trace("resume", pid))?;
    puppet::settle(pid, deadline)
}

/// The new process's own steps. Whatever fails, the process that has executed goes on without shadow.
fn become_program(parent: i32, mut word: File, place: &Place<'_>, program: &Program) -> ! {
    let mut run = || -> std::result::Result<Errno, Errno> {
        process::die_with_parent()?;
        if process::parent_pid() != parent {
            return Err(Errno::SRCH);
        }
        // Traced from here on, or alone.
        word.read_exact(&mut [0]).map_err(|_| Errno::SRCH)?;
        process::new_session()?;
        if let Some(tasks) = place.memory {
            rustix::io::write(tasks, b"0")?;
        }
        ns::enter_process(place.pidfd, Kinds::MOUNT | Kinds::NETWORK | Kinds::UTS | Kinds::IPC)?;
        rustix::process::fchdir(&place.root)?;
        rustix::process::chroot(".")?;
        rustix::process::fchdir(&place.directory)?;
        process::set_personality(program.personality)?;
        // Those that a program is laid out by.
        for (name, number) in [("data", 2), ("stack", 3), ("as", 9)] {
            if let (Some(kind), Some([soft, hard])) = (Kind::named(name), place.limits.get(number)) {
                rlimit::set(kind, Limit { soft: *soft, hard: *hard })?;
            }
        }
        signal::reset()?;
        process::close_on_exec_from(0)?;
        let (path, arguments) = program.again().ok_or(Errno::NOEXEC)?;
        Ok(process::execve(path, &arguments, &program.environment))
    };
    let _ = run();
    process::exit_now(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_shows_is_taken_apart() {
        assert_eq!(strings(b"a\0\0b\0"), [c"a", c"", c"b"].map(CString::from));
        assert_eq!(strings(b"\0"), [CString::default()]);
        assert_eq!(strings(b""), Vec::<CString>::new());
    }

    #[test]
    fn a_scripts_own_arguments_are_found() {
        let arguments = [c"/bin/sh", c"-e", c"/entry", c"a", c"/entry"].map(CString::from).to_vec();
        let program = Program {
            path: c"/entry".into(),
            file: ObjectId { device: 0, inode: 0 },
            place: c"/bin/sh".into(),
            arguments,
            environment: Vec::new(),
            raw: [Vec::new(), Vec::new()],
            auxiliary: Vec::new(),
            personality: 0,
        };
        let expected = [c"/entry", c"a", c"/entry"].map(CString::from).to_vec();
        assert_eq!(program.for_script(), Some(expected));
        assert_eq!(program.auxiliary_at(1000), 1000 + 8 * 8);
    }
}
