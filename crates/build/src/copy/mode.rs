//! `--chmod`, as a number or in words.

/// New permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// `755`
    Octal(u32),
    /// `u=rwX,go=rX`
    Symbolic(Vec<Clause>),
}

/// `go+rX`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Bits of the classes that are meant: of user, group and others.
    who: u32,
    operator: char,
    /// Permissions, as they are for others.
    bits: u32,
    /// `X`: execution where somebody may execute, or of a directory.
    executable: bool,
    /// `s` and `t`.
    special: u32,
}

const USER: u32 = 0o700;
const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;
const ALL: u32 = USER | GROUP | OTHERS;

impl Chmod {
    /// Reads a mode; `None` when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|ch: char| ch.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)?;
            return Some(Self::Octal(mode));
        }
        text.split(',').map(Clause::parse).collect::<Option<Vec<_>>>().map(Self::Symbolic)
    }

    /// The new mode of a file with this one.
    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(new) => *new,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['+', '-', '='])?;
        let (who, rest) = text.split_at(at);
        let mut letters = rest.chars();
        let operator = letters.next()?;
        let mut clause = Self { who: 0, operator, bits: 0, executable: false, special: 0 };
        for class in who.chars() {
            clause.who |= match class {
                'u' => USER,
                'g' => GROUP,
                'o' => OTHERS,
                'a' => ALL,
                _ => return None,
            };
        }
        if clause.who == 0 {
            clause.who = ALL;
        }
        for letter in letters {
            match letter {
                'r' => clause.bits |= 4,
                'w' => clause.bits |= 2,
                'x' => clause.bits |= 1,
                'X' => clause.executable = true,
                's' if clause.who & USER != 0 && clause.who & GROUP != 0 => clause.special |= 0o6000,
                's' if clause.who & USER != 0 => clause.special |= 0o4000,
                's' if clause.who & GROUP != 0 => clause.special |= 0o2000,
                't' => clause.special |= 0o1000,
                _ => return None,
            }
        }
        Some(clause)
    }

    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let executable = self.executable && (is_dir || mode & 0o111 != 0);
        let bits = self.bits | u32::from(executable);
        let bits = (bits * 0o111) & self.who | self.special;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Chmod;

    #[test]
    fn numbers_and_words() {
        for (text, mode, is_dir, want) in [
            ("755", 0o600, false, 0o755),
            ("0644", 0o755, false, 0o644),
            ("4755", 0, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("u+s,o=", 0o755, false, 0o4750),
            ("g=u", 0, false, u32::MAX),
            ("", 0, false, u32::MAX),
            ("99", 0, false, u32::MAX),
            ("77777", 0, false, u32::MAX),
            ("z+x", 0, false, u32::MAX),
        ] {
            let got = Chmod::parse(text).map_or(u32::MAX, |chmod| chmod.apply(mode, is_dir));
            assert_eq!(got, want, "{text}: {got:o}");
        }
    }
}
