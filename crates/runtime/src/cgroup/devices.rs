//! Device rules, independent of the cgroup version.

use seacow_spec::oci::runtime::DeviceRule;

use super::Error;

/// One rule; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Kind,
    /// `None` is any.
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    All,
    Char,
    Block,
}

/// Bits as the kernel's device program gets them: mknod 1, read 2, write 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access(pub(super) u32);

impl Access {
    pub(super) const MKNOD: Self = Self(1);
    pub(super) const ALL: Self = Self(7);

    /// `rwm`, or what there is of it.
    pub(super) fn text(self) -> String {
        [(2, 'r'), (4, 'w'), (1, 'm')]
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| name)
            .collect()
    }
}

impl Rule {
    const DENY_ALL: Self = Self { allow: false, ..Self::ALLOW_ALL };
    const ALLOW_ALL: Self =
        Self { allow: true, kind: Kind::All, major: None, minor: None, access: Access::ALL };

    const fn allow_char(major: u32, minor: Option<u32>) -> Self {
        Self { allow: true, kind: Kind::Char, major: Some(major), minor, access: Access::ALL }
    }

    /// As version 1 files take it.
    pub(super) fn v1_text(&self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let letter = match self.kind {
            Kind::All if self.access == Access::ALL && self.major.is_none() && self.minor.is_none() => {
                return "a".into();
            }
            Kind::All => 'a',
            Kind::Char => 'c',
            Kind::Block => 'b',
        };
        format!("{letter} {}:{} {}", number(self.major), number(self.minor), self.access.text())
    }
}

/// What every container may use: making nodes (they open nothing by themselves), null, zero, full,
/// random, urandom, tty, console, ptmx, its own pseudo terminals, as runc and Docker have it.
const DEFAULTS: [Rule; 10] = [
    Rule { allow: true, kind: Kind::Char, major: None, minor: None, access: Access::MKNOD },
    Rule { allow: true, kind: Kind::Block, major: None, minor: None, access: Access::MKNOD },
    Rule::allow_char(1, Some(3)),
    Rule::allow_char(1, Some(5)),
    Rule::allow_char(1, Some(7)),
    Rule::allow_char(1, Some(8)),
    Rule::allow_char(1, Some(9)),
    Rule::allow_char(5, Some(0)),
    Rule::allow_char(5, Some(2)),
    Rule::allow_char(136, None),
];

/// The rules in force: nothing, then the request's own, then the defaults.
pub(super) fn effective(requested: &[DeviceRule], all_devices: bool) -> Result<Vec<Rule>, Error> {
    if all_devices {
        return Ok(vec![Rule::ALLOW_ALL]);
    }
    let mut rules = vec![Rule::DENY_ALL];
    for rule in requested {
        let rule = parse(rule)?;
        if rule.kind == Kind::All && rule.v1_text() == "a" {
            // It overrides all before it.
            rules.clear();
        }
        rules.push(rule);
    }
    if rules != [Rule::ALLOW_ALL] {
        rules.extend(DEFAULTS);
    }
    Ok(rules)
}

fn parse(rule: &DeviceRule) -> Result<Rule, Error> {
    let invalid = || Error::Invalid { what: format!("device rule {rule:?}") };
    let kind = match rule.kind.as_str() {
        "" | "a" => Kind::All,
        "c" | "u" => Kind::Char,
        "b" => Kind::Block,
        _ => return Err(invalid()),
    };
    let number = |n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| invalid()),
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => 2,
            'w' => 4,
            'm' => 1,
            'a' => 7,
            _ => return Err(invalid()),
        };
    }
    if access == 0 {
        access = 7;
    }
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access: Access(access),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_order() {
        let rules = effective(
            &[
                DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() },
                DeviceRule {
                    allow: true,
                    kind: "b".into(),
                    major: Some(8),
                    minor: None,
                    access: "rm".into(),
                },
            ],
            false,
        )
        .unwrap();
        let texts: Vec<_> = rules.iter().map(Rule::v1_text).collect();
        assert_eq!(texts[..4], ["a", "b 8:* rm", "c *:* m", "b *:* m"]);
        assert_eq!(texts.last().unwrap(), "c 136:* rwm");
        assert_eq!(effective(&[], true).unwrap(), [Rule::ALLOW_ALL]);
        let bad = DeviceRule { kind: "x".into(), ..DeviceRule::default() };
        assert!(effective(&[bad], false).is_err());
    }
}
