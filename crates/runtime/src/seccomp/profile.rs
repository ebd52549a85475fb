//! A profile in terms of numbers, and the way there from the OCI specification's names.

use std::collections::BTreeMap;

use seacow_spec::oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use seacow_sys::seccomp::Flags;

use super::Error;
use super::calls::{CALLS, NO, Row};

/// An instruction set with its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
}

/// Marks numbers of the x32 calls (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// `AUDIT_ARCH_*`; x86_64 and x32 share one.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// The number of a call.
    fn number(self, row: &Row) -> Option<u32> {
        let number = match self {
            Self::X86_64 => row.1,
            Self::X86 => row.2,
            Self::X32 => row.3,
            Self::Aarch64 => row.4,
        };
        (number != NO).then_some(u32::from(number) | if self == Self::X32 { X32_BIT } else { 0 })
    }

    /// All that this machine's kernel may run.
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: &'static [Self] = &[Self::X86_64, Self::X86, Self::X32];
    /// All that this machine's kernel may run.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) const NATIVE: &'static [Self] = &[Self::Aarch64];
}

/// A SECCOMP_RET_* value with its data.
pub(super) type Action = u32;

pub(super) const ALLOW: Action = 0x7fff_0000;
pub(super) const KILL_PROCESS: Action = 0x8000_0000;
const ERRNO: Action = 0x0005_0000;
pub(super) const ENOSYS: Action = ERRNO | 38;

pub(super) const fn errno(number: u16) -> Action {
    ERRNO | number as u32
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) index: u8,
    pub(super) test: Test,
}

/// Comparisons, unsigned, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    Masked { mask: u64, value: u64 },
}

/// What happens to one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Always this.
    Fixed(Action),
    /// The first alternative whose conditions all hold, otherwise the default.
    Conditional(Vec<(Vec<Condition>, Action)>),
}

/// A whole profile.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) default: Action,
    pub(super) calls: BTreeMap<Arch, Calls>,
    pub(super) flags: Flags,
}

/// Verdicts of one architecture's calls, by number less the base.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    base: u32,
    slots: Vec<Option<Verdict>>,
}

impl Calls {
    fn new(arch: Arch) -> Self {
        Self { base: if arch == Arch::X32 { X32_BIT } else { 0 }, slots: Vec::with_capacity(640) }
    }

    fn slot(&mut self, number: u32) -> Option<&mut Option<Verdict>> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        self.slots.get_mut(at)
    }

    /// All that have a rule, in order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Verdict)> {
        (self.base..).zip(&self.slots).filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// The rule of one number.
    #[cfg(test)]
    pub(super) fn get(&self, number: u32) -> Option<&Verdict> {
        self.slots.get(usize::try_from(number.checked_sub(self.base)?).ok()?)?.as_ref()
    }
}

impl Profile {
    pub(super) fn new(default: Action, arches: &[Arch], flags: Flags) -> Self {
        Self { default, calls: arches.iter().map(|a| (*a, Calls::new(*a))).collect(), flags }
    }

    /// Adds a rule for a call by name; an unknown name is a call of another architecture or a newer
    /// kernel, and ignored, as runc does.
    pub(super) fn add(&mut self, name: &str, conditions: &[Condition], action: Action) {
        let Ok(at) = CALLS.binary_search_by(|row| row.0.cmp(name)) else { return };
        let Some(row) = CALLS.get(at) else { return };
        for (arch, calls) in &mut self.calls {
            if let Some(number) = arch.number(row) {
                add_to(calls, number, conditions, action);
            }
        }
    }
}

fn add_to(calls: &mut Calls, number: u32, conditions: &[Condition], action: Action) {
    let Some(slot) = calls.slot(number) else { return };
    if conditions.is_empty() {
        // The first unconditional rule stays.
        if !matches!(slot, Some(Verdict::Fixed(_))) {
            *slot = Some(Verdict::Fixed(action));
        }
        return;
    }
    if let Verdict::Conditional(alternatives) = slot.get_or_insert(Verdict::Conditional(Vec::new())) {
        alternatives.extend(alternatives_of(conditions).into_iter().map(|c| (c, action)));
    }
}

/// Conditions on different arguments hold together; on the same argument each is an alternative.
fn alternatives_of(conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let repeated = conditions
        .iter()
        .enumerate()
        .any(|(i, c)| conditions.get(..i).unwrap_or(&[]).iter().any(|earlier| earlier.index == c.index));
    if repeated { conditions.iter().map(|c| vec![*c]).collect() } else { vec![conditions.to_vec()] }
}

/// Reads an OCI profile.
pub(super) fn parse(oci: &Seccomp) -> Result<Profile, Error> {
    if !oci.listener_path.is_empty() {
        return Err(Error::NotImplemented("a notification listener"));
    }
    let default = action(&oci.default_action, oci.default_errno_ret)?;
    let mut profile = Profile::new(default, &arches(&oci.architectures)?, flags(&oci.flags)?);
    for rule in &oci.syscalls {
        add_rule(&mut profile, rule)?;
    }
    Ok(profile)
}

fn add_rule(profile: &mut Profile, rule: &SeccompRule) -> Result<(), Error> {
    let action = action(&rule.action, rule.errno_ret)?;
    let conditions = rule.args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    // A rule that says what happens anyway.
    if action == profile.default && !conditions.is_empty() {
        return Ok(());
    }
    for name in &rule.names {
        profile.add(name, &conditions, action);
    }
    Ok(())
}

fn arches(names: &[String]) -> Result<Vec<Arch>, Error> {
    if names.is_empty() {
        return Ok(Arch::NATIVE.first().copied().into_iter().collect());
    }
    let mut found = Vec::new();
    for name in names {
        match name.as_str() {
            "SCMP_ARCH_X86_64" => found.push(Arch::X86_64),
            "SCMP_ARCH_X86" => found.push(Arch::X86),
            "SCMP_ARCH_X32" => found.push(Arch::X32),
            "SCMP_ARCH_AARCH64" => found.push(Arch::Aarch64),
            // This kernel cannot run them: no rule is needed.
            "SCMP_ARCH_ARM"
            | "SCMP_ARCH_MIPS"
            | "SCMP_ARCH_MIPS64"
            | "SCMP_ARCH_MIPS64N32"
            | "SCMP_ARCH_MIPSEL"
            | "SCMP_ARCH_MIPSEL64"
            | "SCMP_ARCH_MIPSEL64N32"
            | "SCMP_ARCH_PPC"
            | "SCMP_ARCH_PPC64"
            | "SCMP_ARCH_PPC64LE"
            | "SCMP_ARCH_S390"
            | "SCMP_ARCH_S390X"
            | "SCMP_ARCH_PARISC"
            | "SCMP_ARCH_PARISC64"
            | "SCMP_ARCH_RISCV64"
            | "SCMP_ARCH_LOONGARCH64"
            | "SCMP_ARCH_M68K"
            | "SCMP_ARCH_SH"
            | "SCMP_ARCH_SHEB" => {}
            _ => return Err(Error::Unknown { what: "architecture", value: name.clone() }),
        }
    }
    // The native one is always there, as in libseccomp.
    for native in Arch::NATIVE.iter().take(1) {
        if !found.contains(native) {
            found.push(*native);
        }
    }
    Ok(found)
}

fn flags(names: &[String]) -> Result<Flags, Error> {
    if names.is_empty() {
        // As runc: the mitigation costs much and protects only within one process.
        return Ok(Flags::SPEC_ALLOW);
    }
    names.iter().try_fold(Flags::default(), |all, name| {
        Ok(all
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => Flags::TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => Flags::LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Flags::SPEC_ALLOW,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
                    return Err(Error::NotImplemented("a notification listener"));
                }
                _ => return Err(Error::Unknown { what: "flag", value: name.clone() }),
            })
    })
}

fn action(name: &str, errno_ret: Option<u32>) -> Result<Action, Error> {
    const EPERM: u32 = 1;
    let data = || {
        let value = errno_ret.unwrap_or(EPERM);
        // The kernel caps errno values at MAX_ERRNO.
        if value > 4095 { Err(Error::Range { what: "errnoRet", value: value.into() }) } else { Ok(value) }
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => ERRNO | data()?,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data()?,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_NOTIFY" => return Err(Error::NotImplemented("the action SCMP_ACT_NOTIFY")),
        _ => return Err(Error::Unknown { what: "action", value: name.to_owned() }),
    })
}

fn condition(arg: &SeccompArg) -> Result<Condition, Error> {
    let index = u8::try_from(arg.index)
        .ok()
        .filter(|i| *i < 6)
        .ok_or(Error::Range { what: "argument index", value: arg.index.into() })?;
    let test = match arg.op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(arg.value),
        "SCMP_CMP_NE" => Test::NotEqual(arg.value),
        "SCMP_CMP_LT" => Test::Less(arg.value),
        "SCMP_CMP_LE" => Test::LessOrEqual(arg.value),
        "SCMP_CMP_GT" => Test::Greater(arg.value),
        "SCMP_CMP_GE" => Test::GreaterOrEqual(arg.value),
        "SCMP_CMP_MASKED_EQ" => Test::Masked { mask: arg.value, value: arg.value_two },
        _ => return Err(Error::Unknown { what: "comparison", value: arg.op.clone() }),
    };
    Ok(Condition { index, test })
}
