//! Device rules of cgroup version 2: an eBPF program, assembled by hand.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use seacow_sys::{Errno, bpf};

use super::devices::{Access, Kind, Rule};
use super::{Cgroups, Error};

/// Builds and attaches the program, in the place of one for other rules. All attached programs must
/// allow an access, so the new one comes first: at no moment is more allowed than before or after.
/// With everything allowed none is needed.
pub(super) fn install(cgroups: &Cgroups, rules: &[Rule]) -> Result<(), Error> {
    let Some(dir) = cgroups.dir_of("") else { return Ok(()) };
    let cgroup = open(&dir)?;
    let old = bpf::attached_device_programs(cgroup.as_fd())
        .map_err(|e| Error::file("list the device programs of", &dir, e))?;
    if !allow_everything(rules) {
        attach(&dir, &cgroup, rules)?;
    }
    old.iter().try_for_each(|program| {
        bpf::detach_device_program(cgroup.as_fd(), program.as_fd())
            .map_err(|e| Error::file("detach an old device program from", &dir, e))
    })
}

fn allow_everything(rules: &[Rule]) -> bool {
    matches!(rules, [only] if only.allow && only.kind == Kind::All && only.major.is_none())
}

fn open(dir: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| Error::file("open", dir, e))
}

fn attach(dir: &Path, cgroup: &OwnedFd, rules: &[Rule]) -> Result<(), Error> {
    let program = match bpf::load_device_program(&assemble(rules)) {
        Ok(program) => program,
        // Without privilege over the host nobody can make a device node that opens anything either:
        // the kernel honours nodes on file systems of the first user namespace alone.
        Err(Errno::PERM) if super::systemd::is_rootless() => return Ok(()),
        Err(errno) => return Err(Error::file("load the device program of", dir, errno)),
    };
    bpf::attach_device_program(cgroup.as_fd(), program.as_fd())
        .map_err(|e| Error::file("attach the device program to", dir, e))
}

// Registers: r1 context, r2 type, r3 access, r4 major, r5 minor, r6 scratch.
const LOAD_WORD: u8 = 0x61;
const MOVE_IMM: u8 = 0xb7;
const MOVE_REG: u8 = 0xbf;
const AND_IMM32: u8 = 0x54;
const SHIFT_RIGHT_IMM32: u8 = 0x74;
const JUMP_NOT_EQUAL_IMM: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn instruction(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> u64 {
    (code as u64)
        | (dst as u64) << 8
        | (src as u64) << 12
        | (offset as u16 as u64) << 16
        | (imm as u32 as u64) << 32
}

/// The last matching rule decides, so they are tested from the last to the first. A rule matches
/// an access when it covers all of it (allow) or any of it (deny).
fn assemble(rules: &[Rule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_IMM32, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT_IMM32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(rule));
        if rule.kind == Kind::All
            && rule.major.is_none()
            && rule.minor.is_none()
            && rule.access == Access::ALL
        {
            return program;
        }
    }
    program.extend([instruction(MOVE_IMM, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

fn block(rule: &Rule) -> Vec<u64> {
    // Each test jumps behind the block when it fails; the distance is known at the end.
    let mut tests: Vec<(u8, u8, i32)> = Vec::new();
    match rule.kind {
        Kind::All => {}
        Kind::Block => tests.push((JUMP_NOT_EQUAL_IMM, 2, 1)),
        Kind::Char => tests.push((JUMP_NOT_EQUAL_IMM, 2, 2)),
    }
    let mut code: Vec<u64> = Vec::new();
    let mut jumps: Vec<usize> = Vec::new();
    if rule.access != Access::ALL {
        code.push(instruction(MOVE_REG, 6, 3, 0, 0));
        let bits = if rule.allow { !rule.access.0 & 7 } else { rule.access.0 };
        code.push(instruction(AND_IMM32, 6, 0, 0, bits as i32));
        // Allow: no bit outside the rule may be wanted. Deny: some bit of the rule must be.
        const JUMP_EQUAL_IMM: u8 = 0x15;
        jumps.push(code.len());
        code.push(if rule.allow {
            instruction(JUMP_NOT_EQUAL_IMM, 6, 0, 0, 0)
        } else {
            instruction(JUMP_EQUAL_IMM, 6, 0, 0, 0)
        });
    }
    tests.extend(rule.major.map(|m| (JUMP_NOT_EQUAL_IMM, 4, m as i32)));
    tests.extend(rule.minor.map(|m| (JUMP_NOT_EQUAL_IMM, 5, m as i32)));
    for (opcode, register, value) in tests {
        jumps.push(code.len());
        code.push(instruction(opcode, register, 0, 0, value));
    }
    code.push(instruction(MOVE_IMM, 0, 0, 0, i32::from(rule.allow)));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    let end = code.len();
    for at in jumps {
        if let Some(jump) = code.get_mut(at) {
            *jump |= ((end - at - 1) as u64) << 16;
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::super::devices::effective;
    use super::*;
    use seacow_spec::oci::runtime::DeviceRule;

    /// Runs the few opcodes used here.
    fn decide(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0u64; 11], 0);
        loop {
            let word = program[at];
            let (code, dst, src) = (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let (offset, imm) = ((word >> 16) as i16, (word >> 32) as u32);
            at += 1;
            let jump = match code {
                LOAD_WORD => {
                    registers[dst] = context[offset as usize / 4].into();
                    false
                }
                MOVE_IMM => {
                    registers[dst] = imm.into();
                    false
                }
                MOVE_REG => {
                    registers[dst] = registers[src];
                    false
                }
                AND_IMM32 => {
                    registers[dst] &= u64::from(imm);
                    false
                }
                SHIFT_RIGHT_IMM32 => {
                    registers[dst] >>= imm;
                    false
                }
                JUMP_NOT_EQUAL_IMM => registers[dst] != u64::from(imm),
                0x15 => registers[dst] == u64::from(imm),
                EXIT => return registers[0] == 1,
                _ => panic!("opcode {code:#x}"),
            };
            if jump {
                at += offset as usize;
            }
        }
    }

    const MKNOD: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;
    const BLOCK: u32 = 1;
    const CHAR: u32 = 2;

    #[test]
    fn decides_as_the_rules_say() {
        let own =
            DeviceRule { allow: true, kind: "b".into(), major: Some(8), minor: Some(1), access: "r".into() };
        let program = assemble(&effective(&[own], false).unwrap());
        assert!(decide(&program, CHAR, READ | WRITE, 1, 3));
        assert!(decide(&program, CHAR, MKNOD, 77, 7));
        assert!(!decide(&program, CHAR, READ, 77, 7));
        assert!(!decide(&program, CHAR, READ | MKNOD, 77, 7));
        assert!(decide(&program, BLOCK, READ, 8, 1));
        assert!(!decide(&program, BLOCK, WRITE, 8, 1));
        assert!(!decide(&program, BLOCK, READ, 8, 2));
        assert!(!decide(&program, CHAR, READ, 8, 1));
        assert!(decide(&program, CHAR, WRITE, 136, 999));
    }

    #[test]
    fn the_kernel_takes_it() {
        let program = assemble(&effective(&[], false).unwrap());
        match seacow_sys::bpf::load_device_program(&program) {
            Err(seacow_sys::Errno::PERM) => eprintln!("SKIP: needs root to load a device program"),
            loaded => drop(loaded.unwrap()),
        }
    }
}
