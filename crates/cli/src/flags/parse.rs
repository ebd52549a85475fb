//! Reading a command line against a table of flags.

use super::{Flag, Kind, NO, validate};

/// The command line does not fit the command's flags. The texts are `pflag`'s.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ParseError {
    #[error("unknown flag: --{0}")]
    UnknownFlag(String),
    #[error("unknown shorthand flag: {letter:?} in -{group}")]
    UnknownShorthand { letter: char, group: String },
    #[error("flag needs an argument: --{0}")]
    MissingValue(String),
    #[error("flag needs an argument: {letter:?} in -{group}")]
    MissingShortValue { letter: char, group: String },
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    #[error("invalid argument \"{value}\" for \"{flag}\" flag: {reason}")]
    Invalid { value: String, flag: String, reason: String },
    /// `--help` was given: not an error of the user's.
    #[error("help requested")]
    Help,
}

/// The flags and positional arguments of one invocation.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    tables: Vec<&'static [Flag]>,
    given: Vec<(&'static str, String)>,
    pub(crate) args: Vec<String>,
}

impl Matches {
    fn find(&self, long: &str) -> Option<&'static Flag> {
        self.tables.iter().flat_map(|t| t.iter()).find(|f| f.long == long)
    }

    /// Whether the user gave the flag at all.
    pub(crate) fn changed(&self, long: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == long)
    }

    /// The last value given, if any.
    pub(crate) fn given(&self, long: &str) -> Option<&str> {
        self.given.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// The last value given, or the flag's default.
    pub(crate) fn str(&self, long: &str) -> &str {
        debug_assert!(self.find(long).is_some(), "flag --{long} is not in the command's table");
        self.given(long).unwrap_or_else(|| self.find(long).map_or("", |f| f.default))
    }

    pub(crate) fn bool(&self, long: &str) -> bool {
        validate::parse_bool(self.str(long)).unwrap_or(false)
    }

    /// The value of an integer flag; its syntax was checked while parsing.
    pub(crate) fn int(&self, long: &str) -> i64 {
        validate::parse_int(self.str(long)).unwrap_or(0)
    }

    /// An integer flag the user gave, `None` otherwise.
    pub(crate) fn int_given(&self, long: &str) -> Option<i64> {
        self.given(long).and_then(|v| validate::parse_int(v).ok())
    }

    pub(crate) fn bytes(&self, long: &str) -> i64 {
        validate::parse_bytes(self.str(long)).unwrap_or(0)
    }

    /// A duration flag in nanoseconds.
    pub(crate) fn duration_ns(&self, long: &str) -> i64 {
        validate::parse_duration_ns(self.str(long)).unwrap_or(0)
    }

    /// Every occurrence, in order.
    pub(crate) fn list(&self, long: &str) -> Vec<String> {
        debug_assert!(self.find(long).is_some(), "flag --{long} is not in the command's table");
        self.given.iter().filter(|(name, _)| *name == long).map(|(_, value)| value.clone()).collect()
    }

    /// Every occurrence, split at commas.
    pub(crate) fn strings(&self, long: &str) -> Vec<String> {
        self.list(long).iter().flat_map(|v| v.split(',').map(str::to_owned)).collect()
    }

    fn record(&mut self, flag: &'static Flag, value: String) -> Result<(), ParseError> {
        validate::check(flag, &value).map_err(|reason| ParseError::Invalid {
            value: value.clone(),
            flag: flag.shown(),
            reason,
        })?;
        let name = if flag.alias_of.is_empty() { flag.long } else { flag.alias_of };
        self.given.push((name, value));
        Ok(())
    }
}

/// Reads `args` (without the command's own words).
///
/// `interspersed`: flags may stand between and after the positional arguments. Where they may not
/// (`run`, `exec`), everything from the first positional argument on is positional.
pub(crate) fn parse(
    tables: &[&'static [Flag]],
    interspersed: bool,
    args: &[String],
) -> Result<Matches, ParseError> {
    let mut matches = Matches { tables: tables.to_vec(), ..Matches::default() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            matches.args.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            long_flag(&mut matches, arg, long, &mut rest)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            short_flags(&mut matches, &arg[1..], &mut rest)?;
        } else {
            matches.args.push(arg.clone());
            if !interspersed {
                matches.args.extend(rest.cloned());
                break;
            }
        }
    }
    Ok(matches)
}

fn long_flag<'a>(
    matches: &mut Matches,
    arg: &str,
    long: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), ParseError> {
    let (name, inline) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(ParseError::Syntax(arg.to_owned()));
    }
    if name == "help" {
        return Err(ParseError::Help);
    }
    let Some(flag) = matches.find(name) else {
        return Err(ParseError::UnknownFlag(name.to_owned()));
    };
    let value = match (inline, flag.kind) {
        (Some(value), _) => value.to_owned(),
        (None, Kind::Bool) => "true".to_owned(),
        (None, _) => rest.next().cloned().ok_or_else(|| ParseError::MissingValue(name.to_owned()))?,
    };
    matches.record(flag, value)
}

/// One argument of the form `-abc`, `-n3`, `-n=3` or `-n` followed by its value.
fn short_flags<'a>(
    matches: &mut Matches,
    group: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), ParseError> {
    let mut letters = group;
    while let Some(letter) = letters.chars().next() {
        let after = &letters[letter.len_utf8()..];
        let found = matches.tables.iter().flat_map(|t| t.iter()).find(|f| f.short == letter && letter != NO);
        let Some(flag) = found else {
            return Err(if letter == 'h' {
                ParseError::Help
            } else {
                ParseError::UnknownShorthand { letter, group: letters.to_owned() }
            });
        };
        if let Some(value) = after.strip_prefix('=') {
            return matches.record(flag, value.to_owned());
        }
        if flag.kind == Kind::Bool {
            matches.record(flag, "true".to_owned())?;
            letters = after;
            continue;
        }
        let value = if after.is_empty() {
            rest.next()
                .cloned()
                .ok_or_else(|| ParseError::MissingShortValue { letter, group: letters.to_owned() })?
        } else {
            after.to_owned()
        };
        return matches.record(flag, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::new('a', "all", Kind::Bool, ""),
        Flag::new('q', "quiet", Kind::Bool, ""),
        Flag::new('n', "last", Kind::Int, "").default("-1"),
        Flag::new('e', "env", Kind::List, ""),
        Flag::new('m', "memory", Kind::Bytes, ""),
        Flag::new(NO, "network", Kind::List, ""),
        Flag::alias("net", Kind::List, "network"),
        Flag::new(NO, "sig-proxy", Kind::Bool, "").default("true"),
    ];

    fn run(interspersed: bool, args: &[&str]) -> Result<Matches, ParseError> {
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        parse(&[FLAGS], interspersed, &args)
    }

    fn refusal(args: &[&str]) -> String {
        run(true, args).unwrap_err().to_string()
    }

    #[test]
    fn groups_values_and_order() {
        let m =
            run(true, &["-aqn3", "x", "-e", "A=1", "-eB=2", "--net=a", "--network", "b", "-m=5k"]).unwrap();
        assert!(m.bool("all") && m.bool("quiet") && m.bool("sig-proxy"));
        assert_eq!(m.int("last"), 3);
        assert_eq!(m.list("env"), ["A=1", "B=2"]);
        assert_eq!(m.list("network"), ["a", "b"]);
        assert_eq!(m.bytes("memory"), 5120);
        assert_eq!(m.args, ["x"]);
    }

    #[test]
    fn the_command_of_a_container_keeps_its_flags() {
        let m = run(false, &["-a", "img", "ls", "-q", "--", "x"]).unwrap();
        assert!(!m.bool("quiet"));
        assert_eq!(m.args, ["img", "ls", "-q", "--", "x"]);
        let m = run(true, &["-a", "--", "-q", "--all=x"]).unwrap();
        assert_eq!(m.args, ["-q", "--all=x"]);
    }

    #[test]
    fn defaults_and_switching_off() {
        let m = run(true, &["--all=false", "--sig-proxy=0"]).unwrap();
        assert!(!m.bool("all") && !m.bool("sig-proxy") && m.changed("all"));
        assert_eq!(m.int("last"), -1);
        assert_eq!(m.int_given("last"), None);
    }

    #[test]
    fn refusals_read_like_docker() {
        assert_eq!(refusal(&["--foo"]), "unknown flag: --foo");
        assert_eq!(refusal(&["-aZ"]), "unknown shorthand flag: 'Z' in -Z");
        assert_eq!(refusal(&["-m"]), "flag needs an argument: 'm' in -m");
        assert_eq!(refusal(&["--env"]), "flag needs an argument: --env");
        assert_eq!(refusal(&["--=x"]), "bad flag syntax: --=x");
        assert_eq!(
            refusal(&["-m", "abc"]),
            "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'"
        );
        assert_eq!(
            refusal(&["-n", "abc"]),
            "invalid argument \"abc\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
        assert_eq!(run(true, &["-h"]).unwrap_err(), ParseError::Help);
        assert_eq!(run(true, &["x", "--help"]).unwrap_err(), ParseError::Help);
    }
}
