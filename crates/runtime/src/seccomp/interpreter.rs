//! Classic BPF as the kernel runs it on system calls, for tests.

use seacow_sys::seccomp::SockFilter;

/// One system call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) arch: u32,
    pub(super) args: [u64; 6],
}

/// The action the program returns. Panics on an opcode that filters here never use, and on a
/// program that runs off its end.
pub(super) fn run(program: &[SockFilter], call: Call) -> u32 {
    let word = |at: u32| match at {
        0 => call.number,
        4 => call.arch,
        16.. => {
            let arg = call.args[(at as usize - 16) / 8];
            if at.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
        _ => panic!("load from {at}"),
    };
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let SockFilter { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x06 => return k,
            _ => panic!("opcode {code:#x}"),
        }
    }
}
