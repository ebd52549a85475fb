//! Where a stopped thread goes on.

use seacow_sys::ptrace::{Registers, Rseq};

use crate::error::Result;
use crate::memory::Memory;

/// `orig_rax` of a thread that is in no system call.
pub(crate) const NO_CALL: u64 = u64::MAX;

const RESTART_SYS: i64 = -512;
const RESTART_NO_INTR: i64 = -513;
const RESTART_NO_HAND: i64 = -514;
const RESTART_BLOCK: i64 = -516;
/// Length of the `syscall` instruction.
const SYSCALL: u64 = 2;

/// Calls that a mere stop ends with EINTR although no signal was delivered (signal(7), "Interruption of
/// system calls by stop signals"): many programs take that for an error.
const ENDED_BY_STOP: [i64; 9] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_io_getevents,
];

/// A thread that stopped in one of those makes its call again. `signals`: one is about to be delivered,
/// so that EINTR is right.
pub(crate) fn unstopped(mut registers: Registers, signals: bool) -> Registers {
    let ended = registers.rax as i64 == -i64::from(libc::EINTR);
    if ended && !signals && ENDED_BY_STOP.contains(&(registers.orig_rax as i64)) {
        again(&mut registers);
    }
    registers
}

/// What the kernel does on the way out of an interrupted call, done by hand: for a thread that will not
/// go that way. `same_task`: the kernel still knows the rest of a call with a time limit.
pub(crate) fn restarted(mut registers: Registers, same_task: bool) -> Registers {
    if registers.orig_rax == NO_CALL {
        return registers;
    }
    match registers.rax as i64 {
        RESTART_SYS | RESTART_NO_INTR | RESTART_NO_HAND => again(&mut registers),
        RESTART_BLOCK => {
            again(&mut registers);
            if same_task {
                registers.rax = libc::SYS_restart_syscall as u64;
            }
        }
        _ => registers.orig_rax = NO_CALL,
    }
    registers
}

fn again(registers: &mut Registers) {
    registers.rax = registers.orig_rax;
    registers.rip = registers.rip.wrapping_sub(SYSCALL);
    registers.orig_rax = NO_CALL;
}

/// A thread inside a restartable sequence goes on at that one's abort handler, as it would after losing the
/// processor: it may not go on inside, since it was elsewhere meanwhile.
pub(crate) fn out_of_sequence(mut registers: Registers, rseq: &Rseq, memory: &Memory) -> Result<Registers> {
    if rseq.area == 0 || registers.orig_rax != NO_CALL {
        return Ok(registers);
    }
    // struct rseq: the descriptor's address is at 8. struct rseq_cs: start, length, abort at 8, 16, 24.
    let descriptor = memory.read_word(rseq.area + 8)?;
    if descriptor == 0 {
        return Ok(registers);
    }
    let (start, length) = (memory.read_word(descriptor + 8)?, memory.read_word(descriptor + 16)?);
    if registers.rip.wrapping_sub(start) < length {
        registers.rip = memory.read_word(descriptor + 24)?;
    }
    Ok(registers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(orig_rax: i64, rax: i64) -> Registers {
        Registers { orig_rax: orig_rax as u64, rax: rax as u64, rip: 1000, ..Registers::default() }
    }

    #[test]
    fn interrupted_calls_are_made_again() {
        let read = restarted(at(0, RESTART_SYS), true);
        assert_eq!((read.rax, read.rip, read.orig_rax), (0, 998, NO_CALL));
        let sleep = restarted(at(libc::SYS_nanosleep, RESTART_BLOCK), true);
        assert_eq!((sleep.rax, sleep.rip), (libc::SYS_restart_syscall as u64, 998));
        let sleep = restarted(at(libc::SYS_nanosleep, RESTART_BLOCK), false);
        assert_eq!((sleep.rax, sleep.rip), (libc::SYS_nanosleep as u64, 998));
        // In no call: a value that only looks like it.
        assert_eq!(restarted(at(-1, RESTART_SYS), true), at(-1, RESTART_SYS));
        // A call that was done.
        assert_eq!(restarted(at(1, 5), true), at(-1, 5));
    }

    #[test]
    fn waits_ended_by_the_stop_alone_are_made_again() {
        let wait = unstopped(at(libc::SYS_epoll_wait, -4), false);
        assert_eq!((wait.rax, wait.rip), (libc::SYS_epoll_wait as u64, 998));
        assert_eq!(unstopped(at(libc::SYS_epoll_wait, -4), true), at(libc::SYS_epoll_wait, -4));
        assert_eq!(unstopped(at(libc::SYS_read, -4), false), at(libc::SYS_read, -4));
    }
}
