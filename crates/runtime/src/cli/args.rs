//! Words to flags and operands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::CliError;

/// Flags before the command.
#[derive(Debug, Default)]
pub(crate) struct Globals {
    /// Where states are kept.
    pub(crate) root: Option<PathBuf>,
    /// Log file.
    pub(crate) log: Option<PathBuf>,
    /// Its format.
    pub(crate) log_json: bool,
}

/// A command with its flags (long names) and operands.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) command: String,
    flags: BTreeMap<String, Vec<String>>,
    pub(crate) operands: Vec<String>,
}

impl Parsed {
    /// Whether a flag is there.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.get(flag).is_some_and(|values| values.last().is_none_or(|v| v != "false"))
    }

    /// A flag's last value.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag)?.last().map(String::as_str)
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

    /// The container's id: the first operand.
    pub(crate) fn id(&self) -> Result<&str, CliError> {
        self.operands
            .first()
            .map(String::as_str)
            .ok_or_else(|| CliError::Usage(format!("{} needs a container id", self.command)))
    }
}

/// Flags of a command: long name, short name, whether it takes a value.
type Flag = (&'static str, char, bool);

const CREATE: &[Flag] = &[
    ("bundle", 'b', true),
    ("console-socket", '-', true),
    ("pid-file", '-', true),
    ("no-pivot", '-', false),
    ("no-new-keyring", '-', false),
    ("preserve-fds", '-', true),
    ("detach", 'd', false),
    ("keep", '-', false),
    ("no-subreaper", '-', false),
];
const EXEC: &[Flag] = &[
    ("console-socket", '-', true),
    ("cwd", '-', true),
    ("env", 'e', true),
    ("tty", 't', false),
    ("user", 'u', true),
    ("additional-gids", 'g', true),
    ("process", 'p', true),
    ("detach", 'd', false),
    ("pid-file", '-', true),
    ("process-label", '-', true),
    ("apparmor", '-', true),
    ("no-new-privs", '-', false),
    ("cap", 'c', true),
    ("preserve-fds", '-', true),
    ("cgroup", '-', true),
    ("ignore-paused", '-', false),
];
const OTHER: &[Flag] = &[
    ("all", 'a', false),
    ("force", 'f', false),
    ("quiet", 'q', false),
    ("format", '-', true),
    ("resources", 'r', true),
    ("bundle", 'b', true),
    ("rootless", '-', false),
];
/// `list` and `ps` have `-f` for the format, `delete` for force.
const LISTING: &[Flag] = &[("format", 'f', true), ("quiet", 'q', false)];
const GLOBAL: &[Flag] = &[
    ("root", '-', true),
    ("log", '-', true),
    ("log-format", '-', true),
    ("debug", '-', false),
    ("systemd-cgroup", '-', false),
    ("rootless", '-', true),
    ("criu", '-', true),
];

/// Reads the whole command line.
pub(crate) fn parse(words: &[String]) -> Result<(Globals, Parsed), CliError> {
    let mut rest = words;
    let mut before = Parsed::default();
    while let [word, ..] = rest {
        if !word.starts_with('-') || matches!(word.as_str(), "--version" | "-v" | "--help" | "-h") {
            break;
        }
        rest = take(GLOBAL, rest, &mut before)?;
    }
    if before.has("systemd-cgroup") {
        return Err(CliError::NotImplemented("--systemd-cgroup (the cgroupfs driver is used)".into()));
    }
    let globals = Globals {
        root: before.value("root").map(PathBuf::from),
        log: before.value("log").map(PathBuf::from),
        log_json: before.value("log-format") == Some("json"),
    };
    let mut parsed = Parsed::default();
    let [command, after @ ..] = rest else { return Ok((globals, parsed)) };
    parsed.command.clone_from(command);
    let table = match command.as_str() {
        "create" | "run" => CREATE,
        "exec" => EXEC,
        "list" | "ps" => LISTING,
        _ => OTHER,
    };
    rest = after;
    while let [word, next @ ..] = rest {
        if word == "--" {
            parsed.operands.extend_from_slice(next);
            break;
        }
        if word.len() > 1 && word.starts_with('-') {
            rest = take(table, rest, &mut parsed)?;
            continue;
        }
        parsed.operands.push(word.clone());
        rest = next;
        if matches!(command.as_str(), "exec" | "ps") {
            // What follows the id belongs to the program.
            parsed.operands.extend_from_slice(match rest {
                [dashes, words @ ..] if dashes == "--" => words,
                words => words,
            });
            break;
        }
    }
    Ok((globals, parsed))
}

/// Takes one flag, with its value; gives what is left.
fn take<'a>(table: &[Flag], words: &'a [String], into: &mut Parsed) -> Result<&'a [String], CliError> {
    let [word, rest @ ..] = words else { return Ok(words) };
    // Go's parsers take one dash or two.
    let bare = word.trim_start_matches('-');
    let (name, inline) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (bare, None),
    };
    let known =
        table.iter().find(|(long, short, _)| *long == name || (name.chars().eq([*short]) && *short != '-'));
    let (long, _, wants_value) = known.ok_or_else(|| CliError::Usage(format!("unknown flag {word:?}")))?;
    let (value, rest) = match (wants_value, inline) {
        (_, Some(value)) => (value, rest),
        (false, None) => ("true".to_owned(), rest),
        (true, None) => match rest {
            [value, rest @ ..] => (value.clone(), rest),
            [] => return Err(CliError::Usage(format!("flag {word:?} needs a value"))),
        },
    };
    into.flags.entry((*long).to_owned()).or_default().push(value);
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn as_containerd_calls_it() {
        let line =
            "--root /r --log /l --log-format json create --bundle /b --pid-file=/p --console-socket /c id1";
        let (globals, parsed) = parse(&words(line)).unwrap();
        assert_eq!(globals.root, Some("/r".into()));
        assert!(globals.log_json);
        assert_eq!((parsed.command.as_str(), parsed.id().unwrap()), ("create", "id1"));
        assert_eq!(parsed.value("pid-file"), Some("/p"));
        let (_, parsed) = parse(&words("exec -t -e A=1 -env B=2 id sh -c ls")).unwrap();
        assert_eq!(parsed.values("env"), ["A=1", "B=2"]);
        assert_eq!(parsed.operands, ["id", "sh", "-c", "ls"]);
        let (_, parsed) = parse(&words("kill -a id KILL")).unwrap();
        assert!(parsed.has("all") && !parsed.has("force"));
        assert!(parse(&words("--systemd-cgroup list")).is_err());
        assert!(parse(&words("create --nosuch id")).is_err());
    }
}
