//! Against libseccomp, which is what runc and crun use: the same profiles, the same answers.

use std::io::Write;
use std::process::{Command, Stdio};

use super::super::super::calls::CALLS;
use super::*;

const SCRIPT: &str = include_str!("../../libseccomp.py");

/// What libseccomp makes of the profiles; `None`, said aloud, where it is not installed.
fn libseccomp(profiles: &[Seccomp]) -> Option<Vec<Vec<SockFilter>>> {
    let mut child = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()
        .or_else(|| {
            eprintln!("SKIP comparison with libseccomp: no python3");
            None
        })?;
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<String> = profiles.iter().map(|p| serde_json::to_string(p).unwrap() + "\n").collect();
    // It answers while it reads: both at once. It may also be gone at once; its error tells.
    let writer = std::thread::spawn(move || drop(input.write_all(lines.concat().as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("cannot open shared object file") {
        eprintln!("SKIP comparison with libseccomp: no libseccomp.so.2");
        return None;
    }
    assert!(output.status.success(), "{errors}");
    let mut rest = output.stdout.as_slice();
    let mut programs = Vec::new();
    while let Some((len, body)) = rest.split_first_chunk::<4>() {
        let (program, behind) = body.split_at(u32::from_le_bytes(*len) as usize);
        programs.push(program.chunks_exact(8).map(instruction).collect());
        rest = behind;
    }
    Some(programs)
}

fn instruction(bytes: &[u8]) -> SockFilter {
    SockFilter {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}

/// Numbers worth asking on an architecture: all that there are, and some that are not.
fn numbers(arch: Arch) -> impl Iterator<Item = u32> {
    let base = if arch == Arch::X32 { X32_BIT } else { 0 };
    let private = if arch == Arch::Arm { ARM_BASE..ARM_BASE + 8 } else { 0..0 };
    (base..base + 600).chain(private).filter(move |number| !younger(arch, number - base))
}

/// Calls that libseccomp 2.5.4 does not know yet.
fn younger(arch: Arch, number: u32) -> bool {
    (451..512).contains(&number) || arch == Arch::X86_64 && matches!(number, 335 | 336)
}

/// Where we mean to differ: i386's second entrance, see [`super::super::super`].
fn ours_is_stricter(arch: Arch, number: u32, ours: Action, theirs: Action) -> bool {
    arch == Arch::X86 && matches!(number, 102 | 117) && stricter(ours, theirs)
}

fn compare(oci: &Seccomp, theirs: &[SockFilter], arguments: &[[u64; 6]]) {
    let profile = parse(oci).unwrap();
    let ours = program(&profile);
    for arch in profile.calls.keys().copied() {
        for number in numbers(arch) {
            for args in arguments {
                let call = Call { number, arch: arch.audit(), args: *args };
                let (mine, other) = (run(&ours, call), run(theirs, call));
                let nosys = mine == ENOSYS && other == errno(1) && beyond(&profile.calls[&arch], number);
                assert!(
                    mine == other || nosys || ours_is_stricter(arch, number, mine, other),
                    "{arch:?} {number} {args:x?}: {mine:#x}, libseccomp {other:#x}; {:?}",
                    profile.calls[&arch].get(number)
                );
            }
        }
    }
}

#[test]
fn dockers_default() {
    let sets = [Caps(0), Caps(0xa804_25fb), Caps(1 << 21), Caps::ALL];
    let profiles = sets.map(default_as_oci);
    let Some(programs) = libseccomp(&profiles) else { return };
    let values =
        [0, 1, 8, 12, 13, 16, 38, 40, 45, 46, 0x20000, 0x20008, 0x1000_0000, 0x7e02_0000, 0xffff_ffff];
    let arguments: Vec<_> = values.iter().map(|v| [*v, 0, 0, 0, 0, 0]).collect();
    for (profile, theirs) in profiles.iter().zip(&programs) {
        compare(profile, theirs, &arguments);
    }
}

/// A sequence that is the same every time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GT",
    "SCMP_CMP_GE",
    "SCMP_CMP_MASKED_EQ",
];

/// Rules as different as they come, within two limits of libseccomp. All rules of one call say the
/// same action, because it does not say which of two that match counts. And a call has one rule of
/// several conditions, or several of one value: where chains of conditions overlap, libseccomp 2.5.4
/// stops at the first whose first condition holds and does not try the next, and several orders of
/// one argument get each other's upper halves.
fn any_profile(dice: &mut Dice, arches: &[&str], values: &[u64]) -> Seccomp {
    let default = dice.pick(&["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"]);
    let (mut rules, mut names) = (Vec::new(), std::collections::BTreeSet::new());
    for _ in 0..60 {
        let name = dice.pick(CALLS).0;
        let action = dice.pick(&["SCMP_ACT_ALLOW", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE", "SCMP_ACT_KILL"]);
        let mut condition = |index| (index, dice.pick(values), dice.pick(values), dice.pick(&OPERATORS));
        let args: Vec<_> = (0..6).map(&mut condition).collect();
        let again: Vec<_> = (0..6).map(|_| (3, condition(3).1, 0, "SCMP_CMP_EQ")).collect();
        if !names.insert(name) {
            continue;
        }
        let at = dice.roll(4);
        match dice.roll(3) {
            0 => rules.push(rule(&[name], action, &args[at..at + dice.roll(3)])),
            1 => rules.push(rule(&[name], action, &again[at..])),
            _ => rules.extend(again[at..].iter().map(|arg| rule(&[name], action, &[*arg]))),
        }
    }
    Seccomp {
        architectures: arches.iter().map(|a| (*a).to_owned()).collect(),
        default_errno_ret: (default == "SCMP_ACT_ERRNO").then_some(22),
        ..profile(default, rules)
    }
}

#[test]
fn any_rules() {
    let small = [0, 1, 2, 5, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff];
    let big = [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0xff00_0000_0001, u64::MAX - 1, u64::MAX];
    // libseccomp sees only the lower half of arguments on machines of 32 bits.
    let kinds: [(&[&str], &[u64]); 2] = [
        (&["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], &big),
        (
            &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
            &small,
        ),
    ];
    for (seed, (arches, values)) in (1..).zip(kinds) {
        let mut dice = Dice(0x5ea_c0de * seed);
        let profiles: Vec<_> = (0..16).map(|_| any_profile(&mut dice, arches, values)).collect();
        let Some(programs) = libseccomp(&profiles) else { return };
        for (profile, theirs) in profiles.iter().zip(&programs) {
            let arguments: Vec<_> = (0..12).map(|_| [(); 6].map(|()| dice.pick(values))).collect();
            compare(profile, theirs, &arguments);
        }
    }
}
