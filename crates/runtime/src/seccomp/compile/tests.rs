use seacow_spec::oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use seacow_sys::cred::Caps;

use super::super::interpreter::{Call, run};
use super::super::profile::{ALLOW, parse};
use super::super::{default_as_oci, default_profile};
use super::*;

/// The plain meaning of a profile, without trees.
fn expected(profile: &Profile, arch: Arch, call: Call) -> Action {
    let calls = &profile.calls[&arch];
    match calls.get(call.number) {
        Some(Verdict::Fixed(action)) => *action,
        Some(Verdict::Conditional(alternatives)) => alternatives
            .iter()
            .find(|(conditions, _)| conditions.iter().all(|c| holds(c, call)))
            .map_or(profile.default, |(_, action)| *action),
        None if call.number != u32::MAX
            && profile.default == errno(1)
            && calls.iter().last().is_none_or(|(last, _)| call.number > last) =>
        {
            ENOSYS
        }
        None => profile.default,
    }
}

fn holds(condition: &Condition, call: Call) -> bool {
    let arg = call.args[usize::from(condition.index)];
    match condition.test {
        Test::Equal(v) => arg == v,
        Test::NotEqual(v) => arg != v,
        Test::Less(v) => arg < v,
        Test::LessOrEqual(v) => arg <= v,
        Test::Greater(v) => arg > v,
        Test::GreaterOrEqual(v) => arg >= v,
        Test::Masked { mask, value } => arg & mask == value,
    }
}

/// Compares the program with the rules for every number and telling arguments.
fn check(profile: &Profile, arguments: &[u64]) {
    let program = program(profile);
    for arch in profile.calls.keys().copied() {
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        let top = if arch == Arch::X32 { u32::MAX - 1 } else { X32_BIT - 1 };
        for number in (base..base + 1200).chain([top, u32::MAX]) {
            for a in arguments {
                for b in arguments.iter().take(4) {
                    let call = Call { number, arch: arch.audit(), args: [*a, *b, 0, 0, 0, *a] };
                    let got = run(&program, call);
                    assert_eq!(got, expected(profile, arch, call), "{arch:?} {number} {a:#x} {b:#x}");
                }
            }
        }
    }
    let foreign = Call { arch: 0x1234, ..Call::default() };
    assert_eq!(run(&program, foreign), KILL_PROCESS);
}

#[test]
fn dockers_default_for_several_capability_sets() {
    let arguments = [0, 1, 8, 40, 0x20000, 0x20008, 0xffff_ffff, 0x1_0000_0000, 0x1000_0000, 0x7e02_0000];
    for caps in [Caps(0), Caps(0xa804_25fb), Caps(1 << 21), Caps::ALL] {
        check(&default_profile::for_capabilities(caps), &arguments);
    }
}

#[test]
fn dockers_default_says_what_docker_says() {
    let program = program(&default_profile::for_capabilities(Caps(0xa804_25fb)));
    let answer = |number: u32, first: u64| {
        run(&program, Call { number, arch: Arch::X86_64.audit(), args: [first, 0, 0, 0, 0, 0] })
    };
    assert_eq!(answer(0, 0), ALLOW, "read");
    assert_eq!(answer(435, 0), ENOSYS, "clone3");
    assert_eq!(answer(56, 0x11), ALLOW, "clone as fork");
    assert_eq!(answer(56, 0x1000_0000), errno(1), "clone with a user namespace");
    assert_eq!(answer(41, 1), ALLOW, "socket AF_UNIX");
    assert_eq!(answer(41, 40), errno(1), "socket AF_VSOCK");
    assert_eq!(answer(165, 0), errno(1), "mount");
    assert_eq!(answer(161, 0), ALLOW, "chroot, allowed with CAP_SYS_CHROOT");
    assert_eq!(answer(135, 0xffff_ffff), ALLOW, "personality query");
    assert_eq!(answer(135, 0x0040_0000), errno(1), "personality ADDR_NO_RANDOMIZE");
    assert_eq!(answer(250, 0), errno(1), "keyctl");
    assert_eq!(answer(425, 0), errno(1), "io_uring_setup");
    assert_eq!(answer(10_000, 0), ENOSYS, "a call of the future");
    assert!(program.len() < 700, "{} instructions", program.len());
}

#[test]
fn the_oci_form_is_the_same_profile() {
    for caps in [Caps(0), Caps(0xa804_25fb), Caps::ALL] {
        let direct = program(&default_profile::for_capabilities(caps));
        assert_eq!(program(&parse(&default_as_oci(caps)).unwrap()), direct);
    }
}

fn rule(names: &[&str], action: &str, args: &[(u32, u64, u64, &str)]) -> SeccompRule {
    SeccompRule {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        action: action.into(),
        errno_ret: None,
        args: args
            .iter()
            .map(|(index, value, value_two, op)| SeccompArg {
                index: *index,
                value: *value,
                value_two: *value_two,
                op: (*op).into(),
            })
            .collect(),
    }
}

#[test]
fn every_comparison_and_combination() {
    let big = 0x1_0000_0005;
    let mut rules = Vec::new();
    for (name, op) in [
        ("read", "SCMP_CMP_EQ"),
        ("write", "SCMP_CMP_NE"),
        ("open", "SCMP_CMP_LT"),
        ("close", "SCMP_CMP_LE"),
        ("stat", "SCMP_CMP_GT"),
        ("fstat", "SCMP_CMP_GE"),
    ] {
        rules.push(rule(&[name], "SCMP_ACT_ALLOW", &[(0, big, 0, op)]));
        rules.push(rule(&[name], "SCMP_ACT_LOG", &[(0, 3, 0, op), (1, big, 0, "SCMP_CMP_NE")]));
    }
    rules.push(rule(&["lseek"], "SCMP_ACT_ALLOW", &[(5, 0xff_0000_00ff, 5, "SCMP_CMP_MASKED_EQ")]));
    // The same index twice: alternatives.
    rules.push(rule(&["mmap"], "SCMP_ACT_TRAP", &[(0, 1, 0, "SCMP_CMP_EQ"), (0, 2, 0, "SCMP_CMP_EQ")]));
    // Without arguments beats with.
    rules.push(rule(&["brk"], "SCMP_ACT_ERRNO", &[(0, 1, 0, "SCMP_CMP_EQ")]));
    rules.push(rule(&["brk", "nosuchcall"], "SCMP_ACT_ALLOW", &[]));
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"] {
        let oci = Seccomp {
            default_action: default.into(),
            architectures: vec![
                "SCMP_ARCH_X86_64".into(),
                "SCMP_ARCH_X32".into(),
                "SCMP_ARCH_AARCH64".into(),
            ],
            syscalls: rules.clone(),
            ..Seccomp::default()
        };
        let arguments = [0, 1, 2, 3, 4, 5, big - 1, big, big + 1, u64::MAX, 0xff_0000_0005];
        check(&parse(&oci).unwrap(), &arguments);
    }
}

#[test]
fn x32_is_closed_when_not_listed() {
    let oci = Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..Seccomp::default() };
    let program = program(&parse(&oci).unwrap());
    let call = |number| Call { number, arch: Arch::X86_64.audit(), args: [0; 6] };
    assert_eq!(run(&program, call(X32_BIT)), KILL_PROCESS);
    assert_eq!(run(&program, call(1)), ALLOW);
    assert_eq!(run(&program, call(u32::MAX)), ALLOW);
}

#[test]
fn refusals() {
    let with = |action: &str| Seccomp { default_action: action.into(), ..Seccomp::default() };
    assert!(parse(&with("SCMP_ACT_NOTIFY")).is_err());
    assert!(parse(&with("")).is_err());
    let bad = Seccomp { default_errno_ret: Some(5000), ..with("SCMP_ACT_ERRNO") };
    assert!(parse(&bad).is_err());
}
