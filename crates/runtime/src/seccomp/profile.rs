//! A profile in terms of numbers.

use std::collections::BTreeMap;

use seacow_sys::seccomp::Flags;

use crate::validate::Warning;

use super::calls::{ARM_PRIVATE, CALLS, ELSEWHERE, MULTIPLEXED, NO, Row};

/// An instruction set with its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// Marks numbers of the x32 calls (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Where ARM's private calls start (`__ARM_NR_BASE`).
pub(super) const ARM_BASE: u32 = 0x000f_0000;

impl Arch {
    /// `AUDIT_ARCH_*`; x86_64 and x32 share one.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The specification's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The number of a call.
    pub(super) fn number(self, row: &Row) -> Option<u32> {
        let number = match self {
            Self::X86_64 => row.1,
            Self::X86 => row.2,
            Self::X32 => row.3,
            Self::Aarch64 => row.4,
            Self::Arm => row.5,
        };
        match (self, number) {
            (_, NO) => None,
            (Self::X32, _) => Some(u32::from(number) | X32_BIT),
            (Self::Arm, ARM_PRIVATE..) => Some(ARM_BASE + u32::from(number - ARM_PRIVATE)),
            _ => Some(u32::from(number)),
        }
    }

    /// All that have numbers here.
    pub(super) const ALL: &'static [Self] = &[Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// All that this machine's kernel may run, its own first.
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: &'static [Self] = &[Self::X86_64, Self::X86, Self::X32];
    /// All that this machine's kernel may run, its own first.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) const NATIVE: &'static [Self] = &[Self::Aarch64, Self::Arm];
}

/// A SECCOMP_RET_* value with its data.
pub(super) type Action = u32;

pub(super) const ALLOW: Action = 0x7fff_0000;
pub(super) const LOG: Action = 0x7ffc_0000;
pub(super) const TRACE: Action = 0x7ff0_0000;
pub(super) const NOTIFY: Action = 0x7fc0_0000;
pub(super) const ERRNO: Action = 0x0005_0000;
pub(super) const TRAP: Action = 0x0003_0000;
pub(super) const KILL_THREAD: Action = 0;
pub(super) const KILL_PROCESS: Action = 0x8000_0000;
pub(super) const ENOSYS: Action = ERRNO | 38;

pub(super) const fn errno(number: u16) -> Action {
    ERRNO | number as u32
}

/// Whether the first lets less happen than the second: the kernel's own order, by which it chooses
/// among the answers of several filters.
pub(super) const fn stricter(one: Action, other: Action) -> bool {
    const KIND: u32 = 0xffff_0000;
    ((one & KIND) as i32) < ((other & KIND) as i32)
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
    /// The first alternative whose conditions all hold, otherwise the default. Without
    /// alternatives: the profile knows the call and leaves it to the default.
    Conditional(Vec<(Vec<Condition>, Action)>),
}

impl Verdict {
    /// Whether nothing is said but that the call is known.
    pub(super) fn is_default(&self) -> bool {
        matches!(self, Self::Conditional(alternatives) if alternatives.is_empty())
    }
}

/// A whole profile.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) default: Action,
    pub(super) calls: BTreeMap<Arch, Calls>,
    pub(super) flags: Flags,
    /// Some call is decided by an agent.
    pub(super) notifies: bool,
    /// Names nobody knows, with their place: they change nothing.
    pub(super) ignored: Vec<Warning>,
}

/// Verdicts of one architecture's calls.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    base: u32,
    /// By number less the base.
    slots: Vec<Option<Verdict>>,
    /// ARM's private ones, by number.
    private: BTreeMap<u32, Verdict>,
}

impl Calls {
    fn new(arch: Arch) -> Self {
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        Self { base, slots: Vec::with_capacity(640), private: BTreeMap::new() }
    }

    /// All that have a rule, in order of their numbers, but for the private ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Verdict)> {
        (self.base..).zip(&self.slots).filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// The private ones that have a rule, in order of their numbers.
    pub(super) fn private(&self) -> impl Iterator<Item = (u32, &Verdict)> {
        self.private.iter().map(|(number, verdict)| (*number, verdict))
    }

    /// The rule of one number.
    #[cfg(test)]
    pub(super) fn get(&self, number: u32) -> Option<&Verdict> {
        let slot = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.private.get(&number).or_else(|| self.slots.get(slot)?.as_ref())
    }

    /// Adds a rule: no conditions beat all, and the first without conditions stays.
    fn add(&mut self, number: u32, conditions: &[Condition], action: Action) {
        let fresh = || match conditions {
            [] => Verdict::Fixed(action),
            some => Verdict::Conditional(alternatives_of(some).map(|c| (c, action)).collect()),
        };
        match self.present(number) {
            None => self.set(number, fresh()),
            Some(Verdict::Fixed(_)) => {}
            Some(verdict) if conditions.is_empty() => *verdict = fresh(),
            Some(Verdict::Conditional(alternatives)) => {
                alternatives.extend(alternatives_of(conditions).map(|c| (c, action)));
            }
        }
    }

    /// Notes that the profile knows the call.
    fn mention(&mut self, number: u32) {
        if self.present(number).is_none() {
            self.set(number, Verdict::Conditional(Vec::new()));
        }
    }

    fn present(&mut self, number: u32) -> Option<&mut Verdict> {
        if number & ARM_BASE == ARM_BASE {
            return self.private.get_mut(&number);
        }
        self.slots.get_mut(number.checked_sub(self.base)? as usize)?.as_mut()
    }

    fn set(&mut self, number: u32, verdict: Verdict) {
        if number & ARM_BASE == ARM_BASE {
            self.private.insert(number, verdict);
            return;
        }
        let at = number.saturating_sub(self.base) as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some(verdict);
        }
    }
}

/// Where a name means a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// On an architecture with numbers here.
    Here,
    /// On other architectures only.
    Elsewhere,
    /// Nowhere, up to the Linux version that [`CALLS`] names.
    Nowhere,
}

impl Profile {
    pub(super) fn new(default: Action, arches: &[Arch], flags: Flags) -> Self {
        let calls = arches.iter().map(|a| (*a, Calls::new(*a))).collect();
        Self { default, calls, flags, notifies: default == NOTIFY, ignored: Vec::new() }
    }

    /// Adds a rule for a call by name, on every architecture of the profile that has it. A rule that
    /// says what happens anyway only makes the call known, whatever else says about it.
    pub(super) fn add(&mut self, name: &str, conditions: &[Condition], action: Action) -> Known {
        let row = CALLS.binary_search_by(|row| row.0.cmp(name)).ok().and_then(|at| CALLS.get(at));
        let Some(row) = row else {
            let elsewhere = ELSEWHERE.binary_search(&name).is_ok();
            return if elsewhere { Known::Elsewhere } else { Known::Nowhere };
        };
        self.notifies |= action == NOTIFY;
        for (arch, calls) in &mut self.calls {
            let Some(number) = arch.number(row) else { continue };
            if action == self.default {
                calls.mention(number);
            } else {
                calls.add(number, conditions, action);
            }
        }
        if action != self.default && may_be_multiplexed(row) {
            self.add_multiplexed(name, conditions, action);
        }
        Known::Here
    }

    /// On i386 sockets and System V IPC have a second entrance, which must not stay open when the
    /// first is closed. Its arguments are in memory, out of a filter's sight: a rule with conditions
    /// closes it whole when it forbids, and leaves it alone when it permits.
    fn add_multiplexed(&mut self, name: &str, conditions: &[Condition], action: Action) {
        let Some(calls) = self.calls.get_mut(&Arch::X86) else { return };
        if !(conditions.is_empty() || stricter(action, self.default)) {
            return;
        }
        for (entrance, selectors) in MULTIPLEXED {
            let Ok(at) = selectors.binary_search_by(|(call, _)| (*call).cmp(name)) else { continue };
            let row = CALLS.binary_search_by(|row| row.0.cmp(entrance)).ok().and_then(|at| CALLS.get(at));
            let Some(number) = row.and_then(|row| Arch::X86.number(row)) else { continue };
            let value = selectors.get(at).map_or(0, |(_, selector)| u64::from(*selector));
            // The kernel keeps a version of the interface in the upper half of ipc's selector.
            let mask = if *entrance == "ipc" { 0xffff } else { 0xffff_ffff };
            calls.add(number, &[Condition { index: 0, test: Test::Masked { mask, value } }], action);
        }
    }
}

/// Whether [`MULTIPLEXED`] may name the call: by its number on i386, because most calls are not there
/// and comparing names costs most of what building a profile costs.
pub(super) fn may_be_multiplexed(row: &Row) -> bool {
    matches!(row.2, NO | 337 | 345 | 359..=373 | 393..=402)
}

/// Conditions on different arguments hold together; when an argument appears twice, each is an
/// alternative, as in runc.
fn alternatives_of(conditions: &[Condition]) -> impl Iterator<Item = Vec<Condition>> {
    let repeated = conditions
        .iter()
        .enumerate()
        .any(|(i, c)| conditions.get(..i).unwrap_or(&[]).iter().any(|earlier| earlier.index == c.index));
    let size = if repeated { 1 } else { conditions.len().max(1) };
    conditions.chunks(size).map(<[Condition]>::to_vec)
}
