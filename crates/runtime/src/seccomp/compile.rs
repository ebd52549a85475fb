//! From a profile to a program: one balanced tree of number ranges per audit architecture.

use std::collections::BTreeMap;

use seacow_sys::seccomp::SockFilter;

use super::profile::{
    ARM_BASE, Action, Arch, Condition, ENOSYS, KILL_PROCESS, Profile, Test, Verdict, X32_BIT, errno,
};

// linux/bpf_common.h
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const fn plain(code: u16, k: u32) -> SockFilter {
    SockFilter { code, jt: 0, jf: 0, k }
}

/// The whole program. An architecture without rules kills: its numbers mean something else.
pub(super) fn program(profile: &Profile) -> Vec<SockFilter> {
    let mut by_audit: BTreeMap<u32, Vec<Arch>> = BTreeMap::new();
    for arch in profile.calls.keys() {
        by_audit.entry(arch.audit()).or_default().push(*arch);
    }
    let usual = Usual::of(profile.default);
    let mut code = Vec::with_capacity(1024);
    code.push(plain(LOAD, ARCH));
    // The most used first: x86_64 has the greater value.
    for (audit, arches) in by_audit.into_iter().rev() {
        code.push(SockFilter { code: JUMP_EQUAL, jt: 1, jf: 0, k: audit });
        // Not this architecture: over the section, whose length is known at its end.
        let over = code.len();
        code.push(plain(JUMP, 0));
        code.push(plain(LOAD, NUMBER));
        tree(&mut code, &ranges(profile, &arches, &usual), profile.default);
        let section = code.len() - over - 1;
        if let Some(jump) = code.get_mut(over) {
            jump.k = section as u32;
        }
    }
    code.push(plain(RETURN, KILL_PROCESS));
    code
}

/// What becomes of numbers without a rule.
struct Usual {
    default: Verdict,
    /// Of numbers that the profile cannot have known.
    unknown: Verdict,
    kill: Verdict,
}

impl Usual {
    fn of(default: Action) -> Self {
        let unknown = if default == errno(1) { ENOSYS } else { default };
        let [default, unknown, kill] = [default, unknown, KILL_PROCESS].map(Verdict::Fixed);
        Self { default, unknown, kill }
    }
}

/// Verdicts by first number, each up to the next one's.
struct Ranges<'a>(Vec<(u32, &'a Verdict)>);

impl<'a> Ranges<'a> {
    fn push(&mut self, start: u32, verdict: &'a Verdict) {
        // A later verdict for the same number takes its place, and may then continue its neighbour.
        if self.0.last().is_some_and(|(last, _)| *last == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(_, present)| *present != verdict) {
            self.0.push((start, verdict));
        }
    }

    /// Calls from number `from` on, with the default in their gaps; the number behind the last.
    fn calls(
        &mut self,
        from: u32,
        calls: impl Iterator<Item = (u32, &'a Verdict)>,
        default: &'a Verdict,
    ) -> u32 {
        self.push(from, default);
        let mut after = from;
        for (number, verdict) in calls {
            if number != after {
                self.push(after, default);
            }
            self.push(number, if verdict.is_default() { default } else { verdict });
            after = number + 1;
        }
        after
    }
}

fn ranges<'a>(profile: &'a Profile, arches: &[Arch], usual: &'a Usual) -> Vec<(u32, &'a Verdict)> {
    let mut found = Ranges(Vec::with_capacity(512));
    let Usual { default, unknown, kill } = usual;
    for arch in [Arch::X86, Arch::Aarch64, Arch::Arm, Arch::X86_64, Arch::X32] {
        let Some(calls) = profile.calls.get(&arch).filter(|_| arches.contains(&arch)) else { continue };
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        let after = found.calls(base, calls.iter(), default);
        found.push(after, unknown);
        if arch == Arch::Arm {
            let after = found.calls(ARM_BASE, calls.private(), default);
            found.push(after, unknown);
        }
    }
    if arches.contains(&Arch::X86_64) && !arches.contains(&Arch::X32) {
        found.push(X32_BIT, kill);
    }
    // -1 is what a tracer makes of a call it has replaced.
    found.push(u32::MAX, default);
    found.0
}

/// Ranges of one block: its decisions and results together lie within a conditional jump's reach.
const BLOCK: usize = 120;

/// Appends the tree of these ranges, in blocks that share their results.
fn tree(code: &mut Vec<SockFilter>, ranges: &[(u32, &Verdict)], default: Action) {
    if ranges.len() <= BLOCK {
        return block(code, ranges, default);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let pivot = right.first().map_or(0, |(start, _)| *start);
    // Over the left half, whose length is known at its end, by a jump without a limit.
    let over = code.len() + 1;
    code.push(SockFilter { code: JUMP_GREATER_EQUAL, jt: 0, jf: 1, k: pivot });
    code.push(plain(JUMP, 0));
    tree(code, left, default);
    let length = code.len() - over - 1;
    if let Some(jump) = code.get_mut(over) {
        jump.k = length as u32;
    }
    tree(code, right, default);
}

/// Where a decision leads.
#[derive(Clone, Copy)]
enum Next {
    Decision(usize),
    Result(usize),
}

/// A decision: from this number on, or below it.
struct Decision {
    pivot: u32,
    below: Next,
    from: Next,
}

/// Decisions in the order of a walk that goes below first, then each different result once.
fn block(code: &mut Vec<SockFilter>, ranges: &[(u32, &Verdict)], default: Action) {
    let nothing = Verdict::Fixed(default);
    let ranges = if ranges.is_empty() { &[(0, &nothing)] } else { ranges };
    let (mut decisions, mut results) = (Vec::with_capacity(ranges.len()), Vec::new());
    decide(ranges, &mut decisions, &mut results);
    for (here, Decision { pivot, below, from }) in decisions.iter().enumerate() {
        let distance = |next: &Next| {
            let at = match next {
                Next::Decision(number) => *number,
                Next::Result(number) => decisions.len() + number,
            };
            // BLOCK sees to it.
            (at - here - 1) as u8
        };
        code.push(SockFilter {
            code: JUMP_GREATER_EQUAL,
            jt: distance(from),
            jf: distance(below),
            k: *pivot,
        });
    }
    // One instruction for each; what takes more lies behind them.
    let first = code.len();
    for result in &results {
        code.push(match result {
            Verdict::Fixed(action) => plain(RETURN, *action),
            Verdict::Conditional(_) => plain(JUMP, 0),
        });
    }
    for (number, result) in results.iter().enumerate() {
        if let Verdict::Conditional(alternatives) = result {
            let (at, target) = (first + number, code.len());
            if let Some(jump) = code.get_mut(at) {
                jump.k = (target - at - 1) as u32;
            }
            conditional(code, alternatives, default);
        }
    }
}

/// The way to the ranges' results.
fn decide<'a>(
    ranges: &[(u32, &'a Verdict)],
    decisions: &mut Vec<Decision>,
    results: &mut Vec<&'a Verdict>,
) -> Next {
    if let [(_, only)] = ranges {
        let known = results.iter().position(|result| result == only);
        return Next::Result(known.unwrap_or_else(|| {
            results.push(only);
            results.len() - 1
        }));
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let pivot = right.first().map_or(0, |(start, _)| *start);
    let number = decisions.len();
    decisions.push(Decision { pivot, below: Next::Result(0), from: Next::Result(0) });
    let below = decide(left, decisions, results);
    let from = decide(right, decisions, results);
    if let Some(decision) = decisions.get_mut(number) {
        (decision.below, decision.from) = (below, from);
    }
    Next::Decision(number)
}

/// The first alternative whose conditions hold, or the default.
fn conditional(code: &mut Vec<SockFilter>, alternatives: &[(Vec<Condition>, Action)], default: Action) {
    if let Some((index, values, action)) = one_of(alternatives) {
        code.extend(membership(index, &values, action, default));
        return;
    }
    for (conditions, action) in alternatives {
        code.extend(alternative(conditions, *action));
    }
    code.push(plain(RETURN, default));
}

/// Alternatives that all ask whether one argument has one of a few small values, or is less than
/// one: the argument, the tests, and the action they share.
fn one_of(alternatives: &[(Vec<Condition>, Action)]) -> Option<(u8, Vec<Test>, Action)> {
    let [(first, action), _, ..] = alternatives else { return None };
    let index = first.first()?.index;
    let small = |value: u64| u32::try_from(value).is_ok();
    let tests = alternatives.iter().map(|(conditions, present)| match conditions.as_slice() {
        [Condition { index: same, test: test @ (Test::Equal(value) | Test::Less(value)) }]
            if *same == index && present == action && small(*value) =>
        {
            Some(*test)
        }
        _ => None,
    });
    // So that every jump reaches its end.
    let tests = tests.collect::<Option<Vec<Test>>>()?;
    (tests.len() < 200).then_some((index, tests, *action))
}

/// Reads the argument once and compares it with each value: the action, or the default.
fn membership(index: u8, tests: &[Test], action: Action, default: Action) -> Vec<SockFilter> {
    let low = ARGS + u32::from(index) * 8;
    let refuse = plain(RETURN, default);
    let mut code = vec![
        plain(LOAD, low + 4),
        SockFilter { code: JUMP_EQUAL, jt: 1, jf: 0, k: 0 },
        refuse,
        plain(LOAD, low),
    ];
    for (at, test) in tests.iter().enumerate() {
        // To the last instruction, past the remaining tests and the refusal.
        let found = (tests.len() - at) as u8;
        code.push(match *test {
            Test::Less(value) => SockFilter { code: JUMP_GREATER_EQUAL, jt: 0, jf: found, k: value as u32 },
            Test::Equal(value) => SockFilter { code: JUMP_EQUAL, jt: found, jf: 0, k: value as u32 },
            // Not taken up by one_of.
            Test::NotEqual(_)
            | Test::LessOrEqual(_)
            | Test::Greater(_)
            | Test::GreaterOrEqual(_)
            | Test::Masked { .. } => continue,
        });
    }
    code.extend([refuse, plain(RETURN, action)]);
    code
}

/// Where a comparison goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The next instruction.
    Next,
    /// The condition holds: behind its last instruction.
    Holds,
    /// It does not: behind the alternative.
    Fails,
}

/// An instruction whose jumps are not numbers yet.
type Draft = (u16, u32, To, To);

/// Tests all conditions, returns the action, and is left at its end when one fails.
fn alternative(conditions: &[Condition], action: Action) -> Vec<SockFilter> {
    let drafts: Vec<Vec<Draft>> = conditions.iter().map(draft).collect();
    let total: usize = drafts.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code: Vec<SockFilter> = Vec::with_capacity(total);
    for one in drafts {
        let behind = code.len() + one.len();
        for (opcode, k, if_true, if_false) in one {
            let here = code.len() + 1;
            // At most six conditions of at most five instructions: always below 255.
            let distance = |to: To| match to {
                To::Next => 0,
                To::Holds => (behind - here) as u8,
                To::Fails => (total - here) as u8,
            };
            code.push(SockFilter { code: opcode, jt: distance(if_true), jf: distance(if_false), k });
        }
    }
    code.push(plain(RETURN, action));
    code
}

/// Arguments are 64 bits and the machine has 32: high half first.
fn draft(condition: &Condition) -> Vec<Draft> {
    use To::{Fails, Holds, Next};
    let low = ARGS + u32::from(condition.index) * 8;
    let high = low + 4;
    let load = |at: u32| (LOAD, at, Next, Next);
    let halves = |v: u64| ((v >> 32) as u32, v as u32);
    match condition.test {
        Test::Equal(value) => {
            let (h, l) = halves(value);
            vec![load(high), (JUMP_EQUAL, h, Next, Fails), load(low), (JUMP_EQUAL, l, Next, Fails)]
        }
        Test::NotEqual(value) => {
            let (h, l) = halves(value);
            vec![load(high), (JUMP_EQUAL, h, Next, Holds), load(low), (JUMP_EQUAL, l, Fails, Next)]
        }
        Test::Masked { mask, value } => {
            let ((mh, ml), (h, l)) = (halves(mask), halves(value));
            let mut code = Vec::new();
            for (at, mask, value) in [(high, mh, h), (low, ml, l)] {
                if mask != 0 || value != 0 {
                    code.extend([load(at), (AND, mask, Next, Next), (JUMP_EQUAL, value, Next, Fails)]);
                }
            }
            code
        }
        Test::Greater(value) => ordered(high, low, halves(value), JUMP_GREATER, Holds, Fails),
        Test::GreaterOrEqual(value) => ordered(high, low, halves(value), JUMP_GREATER_EQUAL, Holds, Fails),
        Test::LessOrEqual(value) => ordered(high, low, halves(value), JUMP_GREATER, Fails, Holds),
        Test::Less(value) => ordered(high, low, halves(value), JUMP_GREATER_EQUAL, Fails, Holds),
    }
}

/// Decides by the high half where it differs, otherwise by `compare` on the low one.
fn ordered(high: u32, low: u32, (h, l): (u32, u32), compare: u16, above: To, below: To) -> Vec<Draft> {
    // The last jump's Holds is the next instruction anyway.
    vec![
        (LOAD, high, To::Next, To::Next),
        (JUMP_GREATER, h, above, To::Next),
        (JUMP_EQUAL, h, To::Next, below),
        (LOAD, low, To::Next, To::Next),
        (compare, l, above, below),
    ]
}

#[cfg(test)]
mod tests;
