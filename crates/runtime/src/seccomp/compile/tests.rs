use seacow_spec::oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use seacow_sys::cred::Caps;

use super::super::interpreter::{Call, run};
use super::super::parse::parse;
use super::super::profile::{ALLOW, Calls, NOTIFY, stricter};
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
        None if profile.default == errno(1) && beyond(calls, call.number) => ENOSYS,
        None => profile.default,
    }
}

/// Above all that the profile can have known.
fn beyond(calls: &Calls, number: u32) -> bool {
    let last = if number & ARM_BASE == ARM_BASE { calls.private().last() } else { calls.iter().last() };
    number != u32::MAX && last.is_none_or(|(last, _)| number > last)
}

pub(super) fn holds(condition: &Condition, call: Call) -> bool {
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
        let private = if arch == Arch::Arm { ARM_BASE..ARM_BASE + 10 } else { 0..0 };
        for number in (base..base + 1200).chain(private).chain([top, u32::MAX]) {
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
    assert_eq!(answer(41, 38), errno(1), "socket AF_ALG");
    assert_eq!(answer(41, 0x1_0000_0001), errno(1), "no family of more than 32 bits");
    for family in [0, 1, 2, 10, 11, 16, 17, 29, 44, 45] {
        assert_eq!(answer(41, family), ALLOW, "socket {family}");
    }
    for family in [12, 19, 20, 23, 25, 34, 37, 46, 1000] {
        assert_eq!(answer(41, family), errno(1), "socket {family}");
    }
    assert_eq!(answer(459, 0), errno(1), "lsm_get_self_attr, allowed with CAP_SYS_ADMIN");
    assert_eq!(answer(165, 0), errno(1), "mount");
    assert_eq!(answer(161, 0), ALLOW, "chroot, allowed with CAP_SYS_CHROOT");
    assert_eq!(answer(135, 0xffff_ffff), ALLOW, "personality query");
    assert_eq!(answer(135, 0x0040_0000), errno(1), "personality ADDR_NO_RANDOMIZE");
    assert_eq!(answer(250, 0), errno(1), "keyctl");
    assert_eq!(answer(425, 0), errno(1), "io_uring_setup");
    assert_eq!(answer(10_000, 0), ENOSYS, "a call of the future");
    assert!(program.len() < 420, "{} instructions", program.len());
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
    rules.push(rule(&["brk"], "SCMP_ACT_ALLOW", &[]));
    rules.push(rule(&["set_tls", "send"], "SCMP_ACT_TRACE", &[(0, 7, 0, "SCMP_CMP_NE")]));
    // One of several values.
    for value in [1, 5, 9, 0xffff_ffff] {
        rules.push(rule(&["dup"], "SCMP_ACT_KILL_PROCESS", &[(1, value, 0, "SCMP_CMP_EQ")]));
    }
    rules.push(rule(&["dup"], "SCMP_ACT_KILL_PROCESS", &[(1, 4, 0, "SCMP_CMP_LT")]));
    // Sockets and semaphores through i386's other entrances.
    rules.push(rule(&["bind", "semop"], "SCMP_ACT_TRAP", &[]));
    rules.push(rule(&["socket"], "SCMP_ACT_KILL_THREAD", &[(0, 3, 0, "SCMP_CMP_EQ")]));
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"] {
        let oci = Seccomp {
            default_action: default.into(),
            architectures: vec![
                "SCMP_ARCH_X86_64".into(),
                "SCMP_ARCH_X32".into(),
                "SCMP_ARCH_AARCH64".into(),
                "SCMP_ARCH_ARM".into(),
                "SCMP_ARCH_X86".into(),
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

fn profile(default: &str, rules: Vec<SeccompRule>) -> Seccomp {
    Seccomp { default_action: default.into(), syscalls: rules, ..Seccomp::default() }
}

#[test]
fn i386_has_no_second_entrance() {
    let x86 = |default: &str, rules| {
        let oci = Seccomp { architectures: vec!["SCMP_ARCH_X86".into()], ..profile(default, rules) };
        let program = program(&parse(&oci).unwrap());
        move |number, first| {
            let args = [first, 0, 0, 0, 0, 0];
            run(&program, Call { number, arch: Arch::X86.audit(), args })
        }
    };
    let (socketcall, ipc) = (102, 117);
    let forbidden = vec![rule(&["socket", "shmat"], "SCMP_ACT_ERRNO", &[])];
    let answer = x86("SCMP_ACT_ALLOW", forbidden);
    assert_eq!([answer(359, 2), answer(socketcall, 1), answer(socketcall, 2)], [errno(1), errno(1), ALLOW]);
    assert_eq!([answer(397, 0), answer(ipc, 21), answer(ipc, 0x1_0015)], [errno(1); 3]);
    // Forbidden for one family: the family is out of sight, so all are forbidden there.
    let answer =
        x86("SCMP_ACT_ALLOW", vec![rule(&["socket"], "SCMP_ACT_ERRNO", &[(0, 38, 0, "SCMP_CMP_EQ")])]);
    assert_eq!([answer(359, 38), answer(359, 1), answer(socketcall, 1)], [errno(1), ALLOW, errno(1)]);
    // Permitted for one family: permits nothing there.
    let answer = x86("SCMP_ACT_KILL", vec![rule(&["socket"], "SCMP_ACT_ALLOW", &[(0, 1, 0, "SCMP_CMP_EQ")])]);
    assert_eq!([answer(359, 1), answer(359, 2), answer(socketcall, 1)], [ALLOW, 0, 0]);
    let answer = x86("SCMP_ACT_KILL", vec![rule(&["socket"], "SCMP_ACT_ALLOW", &[])]);
    assert_eq!([answer(359, 2), answer(socketcall, 1), answer(socketcall, 2)], [ALLOW, ALLOW, 0]);
}

#[test]
fn a_rule_that_says_the_default_only_makes_the_call_known() {
    let rules = vec![
        rule(&["openat2"], "SCMP_ACT_ERRNO", &[]),
        rule(&["read"], "SCMP_ACT_ERRNO", &[]),
        rule(&["read"], "SCMP_ACT_ALLOW", &[(0, 1, 0, "SCMP_CMP_EQ")]),
    ];
    let program = program(&parse(&profile("SCMP_ACT_ERRNO", rules)).unwrap());
    let answer = |number, first| {
        run(&program, Call { number, arch: Arch::X86_64.audit(), args: [first, 0, 0, 0, 0, 0] })
    };
    assert_eq!([answer(437, 0), answer(436, 0), answer(438, 0)], [errno(1), errno(1), ENOSYS]);
    assert_eq!([answer(0, 1), answer(0, 0)], [ALLOW, errno(1)]);
}

#[test]
fn notifications() {
    let mut oci = profile("SCMP_ACT_ALLOW", vec![rule(&["mkdir"], "SCMP_ACT_NOTIFY", &[])]);
    oci.listener_path = "/run/agent.sock".into();
    oci.flags = vec!["SECCOMP_FILTER_FLAG_TSYNC".into(), "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()];
    let parsed = parse(&oci).unwrap();
    assert!(parsed.notifies);
    assert_eq!(parsed.flags, seacow_sys::seccomp::Flags::WAIT_KILLABLE_RECV);
    let call = Call { number: 83, arch: Arch::X86_64.audit(), args: [0; 6] };
    assert_eq!(run(&program(&parsed), call), NOTIFY);
    oci.syscalls.clear();
    let parsed = parse(&oci).unwrap();
    assert!(!parsed.notifies);
    assert_eq!(parsed.flags, seacow_sys::seccomp::Flags::TSYNC);
}

#[test]
fn refusals_name_the_field() {
    let told = |oci: &Seccomp| parse(oci).unwrap_err().to_string();
    let allow = || vec![rule(&["read"], "SCMP_ACT_ALLOW", &[])];
    let with = |change: fn(&mut SeccompRule)| {
        let mut rules = allow();
        rules.extend(allow());
        change(&mut rules[1]);
        told(&profile("SCMP_ACT_ERRNO", rules))
    };
    assert_eq!(told(&profile("", vec![])), "linux.seccomp.defaultAction: unknown action \"\"");
    assert_eq!(
        told(&profile("SCMP_ACT_NOTIFY", vec![])),
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"
    );
    let errno = |action: &str, value| Seccomp { default_errno_ret: Some(value), ..profile(action, vec![]) };
    assert_eq!(told(&errno("SCMP_ACT_ERRNO", 5000)), "linux.seccomp.defaultErrnoRet: 5000 is out of range");
    assert_eq!(
        told(&errno("SCMP_ACT_KILL", 1)),
        "linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL does not return an errno"
    );
    assert_eq!(
        with(|r| r.action = "SCMP_ACT_DENY".into()),
        "linux.seccomp.syscalls[1].action: unknown action \"SCMP_ACT_DENY\""
    );
    assert_eq!(with(|r| r.names.clear()), "linux.seccomp.syscalls[1].names: must have at least one entry");
    assert_eq!(
        with(|r| r.names.push(String::new())),
        "linux.seccomp.syscalls[1].names[1]: unknown system call \"\""
    );
    let arg = |index, op: &str| SeccompArg { index, value: 0, value_two: 0, op: op.into() };
    assert_eq!(
        with(|r| r.args = vec![SeccompArg { index: 0, value: 0, value_two: 0, op: "EQ".into() }]),
        "linux.seccomp.syscalls[1].args[0].op: unknown comparison \"EQ\""
    );
    let mut rules = allow();
    rules[0].args = vec![arg(0, "SCMP_CMP_EQ"), arg(6, "SCMP_CMP_EQ")];
    assert_eq!(
        told(&profile("SCMP_ACT_ERRNO", rules)),
        "linux.seccomp.syscalls[0].args[1].index: 6 is out of range"
    );
    let arches = Seccomp { architectures: vec!["SCMP_ARCH_VAX".into()], ..profile("SCMP_ACT_ALLOW", vec![]) };
    assert_eq!(told(&arches), "linux.seccomp.architectures[0]: unknown architecture \"SCMP_ARCH_VAX\"");
    let flags = Seccomp { flags: vec!["SECCOMP_FILTER_FLAG_X".into()], ..profile("SCMP_ACT_ALLOW", vec![]) };
    assert_eq!(told(&flags), "linux.seccomp.flags[0]: unknown flag \"SECCOMP_FILTER_FLAG_X\"");
    let notify = |name: &str| profile("SCMP_ACT_ALLOW", vec![rule(&[name], "SCMP_ACT_NOTIFY", &[])]);
    assert_eq!(
        told(&notify("write")),
        "linux.seccomp.syscalls[0].names[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall"
    );
    assert_eq!(
        told(&notify("mkdir")),
        "linux.seccomp.listenerPath: must be set when SCMP_ACT_NOTIFY is used"
    );
    let abstract_name = Seccomp { listener_path: "@agent".into(), ..notify("mkdir") };
    assert_eq!(told(&abstract_name), "linux.seccomp.listenerPath: must be an absolute path");
    let metadata = Seccomp { listener_metadata: "x".into(), ..profile("SCMP_ACT_ALLOW", vec![]) };
    assert_eq!(told(&metadata), "linux.seccomp.listenerMetadata: must not be set without listenerPath");
}

#[test]
fn names_of_no_machine() {
    // Left out, it would stay open.
    let closing = profile("SCMP_ACT_ALLOW", vec![rule(&["mkdir", "nosuchcall"], "SCMP_ACT_ERRNO", &[])]);
    assert_eq!(
        parse(&closing).unwrap_err().to_string(),
        "linux.seccomp.syscalls[0].names[1]: unknown system call \"nosuchcall\""
    );
    // Left out, it stays closed: perhaps a call of a newer kernel.
    let opening = profile("SCMP_ACT_ERRNO", vec![rule(&["mkdir", "nosuchcall"], "SCMP_ACT_ALLOW", &[])]);
    assert_eq!(
        parse(&opening).unwrap().ignored.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["linux.seccomp.syscalls[0].names[1]: unknown system call \"nosuchcall\" is ignored"]
    );
    // Calls of other machines are no news.
    let other = ["riscv_flush_icache", "s390_runtime_instr", "sync_file_range2", "send", "breakpoint"];
    let other = profile("SCMP_ACT_ALLOW", vec![rule(&other, "SCMP_ACT_ERRNO", &[])]);
    assert!(parse(&other).unwrap().ignored.is_empty());
}

mod oracle;
