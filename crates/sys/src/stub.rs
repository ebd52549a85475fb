//! Machine code that runs in another process: a list of system calls in one stop, and the way back to
//! where a thread was when its tracer has died.
//!
//! Nothing here is ever executed in the calling process; it is data to be written into a tracee.
//!
//! The code must leave a thread as it was found even when nobody is there to put its registers back.
//! So it changes no flags (only `mov`, `lea`, `jmp`, `jrcxz`, `syscall`; the kernel restores the flags
//! after a call), never moves the stack pointer (a signal may be delivered on it at any time), and does
//! not touch vector registers. What it does change it loads again from [`Pad`].

use crate::ptrace::Registers;

/// One system call of a list.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// Its answer, a negated errno on failure.
    pub result: u64,
    /// 0: whoever gets 0 as answer is a new process and ends at once (unless a tracer holds it). Any other
    /// value must be one that no answer makes 0 when added to it: [`Entry::NO_FORK`].
    pub fork: u64,
}

impl Entry {
    /// Bytes of an entry.
    pub const SIZE: usize = 72;
    /// For [`Entry::fork`] of every call but those that make a process.
    pub const NO_FORK: u64 = 1 << 62;

    /// As it lies in the tracee's memory.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let [a, b, c, d, e, f] = self.arguments;
        let words = [self.number, a, b, c, d, e, f, self.result, self.fork];
        let mut bytes = [0; Self::SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The answer in such bytes.
    pub fn result_in(bytes: &[u8]) -> Option<i64> {
        Some(i64::from_le_bytes(bytes.get(56..64)?.try_into().ok()?))
    }
}

/// The code that works off a list. Enter at its start with `rbx` = first [`Entry`], `rbp` = how many
/// (not 0), `r12` = where to go after the last.
pub fn list() -> &'static [u8] {
    // SAFETY: both symbols are defined below, in this order, in one section.
    unsafe { between(&raw const seacow_stub_list, &raw const seacow_stub_list_end) }
}

/// Where in [`list`] an instruction is that stops a tracee. It kills a process without tracer.
pub fn trap_offset() -> u64 {
    let (trap, start) = (&raw const seacow_stub_trap, &raw const seacow_stub_list);
    (trap.addr() - start.addr()) as u64
}

/// One system call, a signal to oneself by which the tracer learns that it is done, and the way back:
/// signal mask, registers, jump. [`Pad::ENTRY`] is before the call (its number and arguments in the
/// registers; the answer is in `rbx` at the signal), [`Pad::back`] after the signal.
#[derive(Clone, Copy, Debug)]
pub struct Pad {
    /// Registers to go back to.
    pub registers: Registers,
    /// Signal mask to go back to.
    pub mask: u64,
    /// Process, as its own pid namespace sees it.
    pub process: i32,
    /// Thread, likewise.
    pub thread: i32,
    /// The signal. One that the process ignores: without a tracer it is delivered.
    pub signal: i32,
}

impl Pad {
    /// Offset at which to enter for a call.
    pub const ENTRY: u64 = 0;

    /// Offset at which to enter for the way back alone.
    pub fn back() -> u64 {
        let (back, start) = (&raw const seacow_stub_back, &raw const seacow_stub_pad);
        (back.addr() - start.addr()) as u64
    }

    /// The first bytes of every pad.
    pub fn mark() -> &'static [u8] {
        pad_template()
    }

    /// Bytes of code and values.
    pub fn size() -> usize {
        pad_template().len()
    }

    /// Code and values, to be written anywhere at a multiple of 8.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = pad_template().to_vec();
        let r = &self.registers;
        let numbers = u64::from(self.process as u32) | u64::from(self.thread as u32) << 32;
        let words = [
            r.rip,
            r.rax,
            r.rbx,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rbp,
            r.r8,
            r.r9,
            r.r10,
            r.r11,
            r.r12,
            r.r13,
            r.r14,
            r.r15,
            self.mask,
            numbers,
            self.signal as u64,
        ];
        let first = bytes.len() - 8 * words.len();
        for (place, word) in bytes[first..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

fn pad_template() -> &'static [u8] {
    // SAFETY: both symbols are defined below, in this order, in one section.
    unsafe { between(&raw const seacow_stub_pad, &raw const seacow_stub_pad_end) }
}

/// # Safety
/// Both must be addresses of one object of this program that never changes, `end` not before `start`.
unsafe fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: by contract these bytes exist and are constant.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

unsafe extern "C" {
    static seacow_stub_list: u8;
    static seacow_stub_trap: u8;
    static seacow_stub_list_end: u8;
    static seacow_stub_pad: u8;
    static seacow_stub_back: u8;
    static seacow_stub_pad_end: u8;
}

// In .rodata: bytes to be copied, not code of this program.
std::arch::global_asm!(
    ".pushsection .rodata.seacow_stub,\"a\",@progbits",
    ".balign 16",
    ".globl seacow_stub_list, seacow_stub_trap, seacow_stub_list_end",
    ".hidden seacow_stub_list, seacow_stub_trap, seacow_stub_list_end",
    "seacow_stub_list:",
    "2: mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "mov [rbx + 56], rax",
    // rcx = answer + fork: 0 in a new process only.
    "mov rcx, [rbx + 64]",
    "lea rcx, [rax + rcx]",
    "jrcxz 4f",
    "lea rbx, [rbx + 72]",
    "lea rbp, [rbp - 1]",
    "mov rcx, rbp",
    "jrcxz 3f",
    "jmp 2b",
    "3: jmp r12",
    // exit_group(0), in case nobody holds the new process.
    "4: mov eax, 231",
    "mov edi, 0",
    "syscall",
    "jmp 4b",
    "seacow_stub_trap:",
    "int3",
    "seacow_stub_list_end:",
    ".balign 16",
    ".globl seacow_stub_pad, seacow_stub_back, seacow_stub_pad_end",
    ".hidden seacow_stub_pad, seacow_stub_back, seacow_stub_pad_end",
    "seacow_stub_pad:",
    "syscall",
    "mov rbx, rax",
    // tgkill(process, thread, signal)
    "mov eax, 234",
    "mov edi, [rip + 7f]",
    "mov esi, [rip + 7f + 4]",
    "mov edx, [rip + 7f + 8]",
    "syscall",
    "seacow_stub_back:",
    // rt_sigprocmask(SIG_SETMASK, mask, null, 8)
    "mov eax, 14",
    "mov edi, 2",
    "lea rsi, [rip + 6f]",
    "mov edx, 0",
    "mov r10d, 8",
    "syscall",
    "mov rax, [rip + 5f + 8]",
    "mov rbx, [rip + 5f + 16]",
    "mov rcx, [rip + 5f + 24]",
    "mov rdx, [rip + 5f + 32]",
    "mov rsi, [rip + 5f + 40]",
    "mov rdi, [rip + 5f + 48]",
    "mov rbp, [rip + 5f + 56]",
    "mov r8, [rip + 5f + 64]",
    "mov r9, [rip + 5f + 72]",
    "mov r10, [rip + 5f + 80]",
    "mov r11, [rip + 5f + 88]",
    "mov r12, [rip + 5f + 96]",
    "mov r13, [rip + 5f + 104]",
    "mov r14, [rip + 5f + 112]",
    "mov r15, [rip + 5f + 120]",
    "jmp [rip + 5f]",
    ".balign 8",
    // Values, filled in by Pad::to_bytes: 16 registers, mask, numbers, signal.
    "5: .skip 128",
    "6: .skip 8",
    "7: .skip 16",
    "seacow_stub_pad_end:",
    ".popsection",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert!(list().len() < 128);
        assert_eq!(list()[trap_offset() as usize], 0xcc);
        assert!(Pad::size() < 400 && Pad::size().is_multiple_of(8), "{}", Pad::size());
        assert_eq!(size_of::<Entry>(), Entry::SIZE);
    }
}
