//! Words to flags and operands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::CliError;
use super::log::Log;
use super::verbs::{self, Flag, GLOBAL, Verb};

/// Flags before the verb.
#[derive(Debug, Default)]
pub(crate) struct Globals {
    /// Where states are kept.
    pub(crate) root: Option<PathBuf>,
    /// Where messages go.
    pub(crate) log: Log,
    /// Cgroups by systemd.
    pub(crate) systemd_cgroup: bool,
}

/// What the words ask for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A verb, carried out.
    Verb(Parsed),
    /// The help of a verb, or the whole.
    Help(Option<&'static Verb>),
    /// The version.
    Version,
}

/// A verb with its flags (long names) and operands.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) verb: &'static Verb,
    flags: Flags,
    pub(crate) operands: Vec<String>,
}

type Flags = BTreeMap<&'static str, Vec<String>>;

impl Parsed {
    /// Whether a switch is on.
    pub(crate) fn has(&self, flag: &str) -> bool {
        is_on(&self.flags, flag)
    }

    /// A flag's last value.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        last(&self.flags, flag)
    }

    /// All values of a flag.
    pub(crate) fn values(&self, flag: &str) -> &[String] {
        self.flags.get(flag).map(Vec::as_slice).unwrap_or_default()
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self, flag: &str) -> Result<Option<T>, CliError> {
        self.value(flag)
            .map(|v| v.parse().map_err(|_| CliError::Usage(format!("--{flag} wants a number, not {v:?}"))))
            .transpose()
    }

    /// `--format`: whether it is JSON.
    pub(crate) fn wants_json(&self) -> Result<bool, CliError> {
        match self.value("format") {
            None | Some("table") => Ok(false),
            Some("json") => Ok(true),
            Some(other) => Err(CliError::Usage(format!("invalid format option {other:?}: table or json"))),
        }
    }

    /// The container's id: the first operand.
    pub(crate) fn id(&self) -> Result<&str, CliError> {
        self.operands
            .first()
            .map(String::as_str)
            .ok_or_else(|| CliError::Usage(format!("{:?} requires a minimum of 1 argument", self.verb.name)))
    }
}

fn is_on(flags: &Flags, flag: &str) -> bool {
    last(flags, flag).is_some_and(|value| value != "false")
}

fn last<'a>(flags: &'a Flags, flag: &str) -> Option<&'a str> {
    flags.get(flag)?.last().map(String::as_str)
}

/// Reads the whole command line. The globals come back also when the rest is wrong: they say where
/// that is reported.
pub(crate) fn parse(words: &[String]) -> (Globals, Result<Asked, CliError>) {
    let mut flags = Flags::new();
    let mut rest = words;
    while let [word, after @ ..] = rest {
        match word.as_str() {
            "--help" | "-help" | "-h" => return (Globals::default(), Ok(Asked::Help(None))),
            "--version" | "-version" | "-v" => return (Globals::default(), Ok(Asked::Version)),
            "--" => {
                rest = after;
                break;
            }
            flag if flag.starts_with('-') => match take(GLOBAL, rest, &mut flags) {
                Ok(after) => rest = after,
                Err(error) => return (Globals::default(), Err(error)),
            },
            _ => break,
        }
    }
    match globals(&flags) {
        Ok(globals) => {
            let asked = parse_verb(rest);
            (globals, asked)
        }
        Err(error) => (Globals::default(), Err(error)),
    }
}

fn globals(flags: &Flags) -> Result<Globals, CliError> {
    let json = match last(flags, "log-format") {
        None | Some("text" | "") => false,
        Some("json") => true,
        Some(other) => return Err(CliError::Usage(format!("invalid log-format {other:?}: text or json"))),
    };
    match last(flags, "rootless") {
        None | Some("true" | "false" | "auto") => {}
        Some(other) => {
            return Err(CliError::Usage(format!("--rootless wants true, false or auto, not {other:?}")));
        }
    }
    Ok(Globals {
        root: last(flags, "root").map(PathBuf::from),
        log: Log::open(last(flags, "log"), json, is_on(flags, "debug"))?,
        systemd_cgroup: is_on(flags, "systemd-cgroup"),
    })
}

fn parse_verb(words: &[String]) -> Result<Asked, CliError> {
    let [name, words @ ..] = words else { return Ok(Asked::Help(None)) };
    if matches!(name.as_str(), "help" | "h") {
        return match words.first() {
            None => Ok(Asked::Help(None)),
            Some(of) => find(of).map(|verb| Asked::Help(Some(verb))),
        };
    }
    let verb = find(name)?;
    let mut parsed = Parsed { verb, flags: Flags::new(), operands: Vec::new() };
    let mut rest = words;
    while let [word, next @ ..] = rest {
        match word.as_str() {
            "--" => {
                parsed.operands.extend_from_slice(next);
                break;
            }
            "--help" | "-help" | "-h" => return Ok(Asked::Help(Some(verb))),
            _ if verbs::MISSING.contains(&verb.name) => rest = next,
            flag if flag.len() > 1 && flag.starts_with('-') => {
                rest = take(verb.flags, rest, &mut parsed.flags)?;
            }
            operand => {
                parsed.operands.push(operand.to_owned());
                rest = next;
                if verb.hands_on {
                    parsed.operands.extend_from_slice(match rest {
                        [dashes, words @ ..] if dashes == "--" => words,
                        words => words,
                    });
                    break;
                }
            }
        }
    }
    count(&parsed)?;
    Ok(Asked::Verb(parsed))
}

fn find(name: &str) -> Result<&'static Verb, CliError> {
    verbs::find(name).ok_or_else(|| CliError::NoVerb(name.to_owned()))
}

fn count(parsed: &Parsed) -> Result<(), CliError> {
    let (verb, given) = (parsed.verb, parsed.operands.len());
    let wrong =
        |how: &str, n: usize| Err(CliError::Usage(format!("{:?} requires {how} {n} argument(s)", verb.name)));
    match verb.most {
        Some(most) if most == verb.least && given != most => wrong("exactly", most),
        Some(most) if given > most => wrong("a maximum of", most),
        Some(_) | None if given < verb.least => wrong("a minimum of", verb.least),
        Some(_) | None => Ok(()),
    }
}

/// Takes one flag, with its value; gives what is left.
fn take<'a>(table: &'static [Flag], words: &'a [String], into: &mut Flags) -> Result<&'a [String], CliError> {
    let [word, rest @ ..] = words else { return Ok(words) };
    // Go's parsers take one dash or two.
    let bare = word.trim_start_matches('-');
    let (name, inline) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (bare, None),
    };
    let known = |f: &&Flag| f.long == name || f.short.is_some_and(|s| name.chars().eq([s]));
    let flag = table
        .iter()
        .find(known)
        .ok_or_else(|| CliError::Usage(format!("flag provided but not defined: -{name}")))?;
    let (value, rest) = match (flag.value, inline) {
        (_, Some(value)) => (value, rest),
        (None, None) => ("true".to_owned(), rest),
        (Some(_), None) => match rest {
            [value, rest @ ..] => (value.clone(), rest),
            [] => return Err(CliError::Usage(format!("flag needs an argument: -{name}"))),
        },
    };
    into.entry(flag.long).or_default().push(value);
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn verb(line: &str) -> Parsed {
        match parse(&words(line)).1.unwrap() {
            Asked::Verb(parsed) => parsed,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        parse(&words(line)).1.unwrap_err().to_string()
    }

    #[test]
    fn as_containerd_calls_it() {
        let line = "--root /r --log /dev/null --log-format json create --bundle /b --pid-file=/p --console-socket /c id1";
        let (globals, asked) = parse(&words(line));
        assert_eq!(globals.root, Some("/r".into()));
        let Ok(Asked::Verb(parsed)) = asked else { panic!("no verb") };
        assert_eq!((parsed.verb.name, parsed.id().unwrap()), ("create", "id1"));
        assert_eq!(parsed.value("pid-file"), Some("/p"));
        let parsed = verb("exec -t -e A=1 -env B=2 id sh -c ls");
        assert_eq!(parsed.values("env"), ["A=1", "B=2"]);
        assert_eq!(parsed.operands, ["id", "sh", "-c", "ls"]);
        let parsed = verb("kill -a id KILL");
        assert!(parsed.has("all") && !parsed.has("force"));
        assert!(parse(&words("--systemd-cgroup list")).0.systemd_cgroup);
    }

    #[test]
    fn flags_may_follow_operands_unless_handed_on() {
        assert_eq!(verb("update id --memory 5").value("memory"), Some("5"));
        assert_eq!(verb("ps id -e -x").operands, ["id", "-e", "-x"]);
        assert!(matches!(parse(&words("list --help")).1, Ok(Asked::Help(Some(v))) if v.name == "list"));
    }

    #[test]
    fn refusals() {
        assert!(refused("create --nosuch id").contains("not defined: -nosuch"));
        assert!(refused("create").contains("\"create\" requires exactly 1 argument(s)"));
        assert!(refused("start a b").contains("exactly 1"));
        assert!(refused("kill").contains("a minimum of 1"));
        assert!(refused("kill a b c").contains("a maximum of 2"));
        assert!(refused("create --bundle").contains("needs an argument"));
        assert!(refused("foo -h").contains("No help topic for 'foo'"));
        assert!(refused("--log-format xml list").contains("log-format"));
        assert!(refused("--rootless maybe list").contains("--rootless"));
    }
}
