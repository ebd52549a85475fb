//! What a command is: its words, its flags, its rule for arguments, and the function behind it.

use std::sync::Arc;

use crate::client::Client;
use crate::failure::{Failure, Outcome, USAGE};
use crate::flags::{self, Flag, Matches, ParseError};
use crate::globals::Globals;

/// How many positional arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Args {
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// One verb. A constant; the same one may stand at several places of the tree.
pub(crate) struct Command {
    /// What follows the command's name in its usage line.
    pub(crate) usage: &'static str,
    /// One line: the list of commands shows it.
    pub(crate) about: &'static str,
    /// Replaces `about` on the command's own help page, if not empty.
    pub(crate) long: &'static str,
    /// Every way to call it, when there is more than one.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) flags: &'static [&'static [Flag]],
    pub(crate) args: Args,
    /// False where everything behind the first argument belongs to the container.
    pub(crate) interspersed: bool,
    pub(crate) run: fn(&Invocation<'_>) -> Outcome,
}

impl Command {
    /// Values for the fields a command does not name.
    pub(crate) const EMPTY: Command = Command {
        usage: "",
        about: "",
        long: "",
        aliases: &[],
        flags: &[],
        args: Args::Exactly(0),
        interspersed: true,
        run: |_| Ok(()),
    };
}

/// A command being run: its parsed command line, and the way to the engine.
pub(crate) struct Invocation<'a> {
    pub(crate) globals: &'a Globals,
    pub(crate) matches: &'a Matches,
    /// The command's name as it was called: `ps`, `container ls`.
    pub(crate) path: &'a str,
}

impl Invocation<'_> {
    pub(crate) fn client(&self) -> Result<&Arc<Client>, Failure> {
        Ok(self.globals.client()?)
    }

    pub(crate) fn args(&self) -> &[String] {
        &self.matches.args
    }

    /// The argument at `index`; the command's [`Args`] rule guarantees those it asks for.
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.matches.args.get(index).map_or("", String::as_str)
    }
}

/// Parses the rest of the command line and runs the command.
pub(crate) fn invoke(command: &Command, path: &str, args: &[String], globals: &Globals) -> Outcome {
    let matches = match flags::parse(command.flags, command.interspersed, args) {
        Ok(matches) => matches,
        Err(ParseError::Help) => {
            crate::out(&help(command, path))?;
            return Ok(());
        }
        Err(error) => return Err(Failure::Status { text: misuse(command, path, &error), code: USAGE }),
    };
    check_args(command, path, matches.args.len())?;
    (command.run)(&Invocation { globals, matches: &matches, path })
}

fn usage_line(command: &Command, path: &str) -> String {
    format!("Usage:  seacow {path} {}", command.usage).trim_end().to_owned()
}

fn misuse(command: &Command, path: &str, error: &ParseError) -> String {
    format!("{error}\n\n{}\n\nRun 'seacow {path} --help' for more information", usage_line(command, path))
}

fn check_args(command: &Command, path: &str, count: usize) -> Outcome {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let (wrong, verb) = match command.args {
        Args::Exactly(0) if count > 0 => ("accepts no arguments".to_owned(), "Run"),
        Args::Exactly(n) if count != n => (format!("requires {n} {}", plural(n)), "Run"),
        Args::AtLeast(n) if count < n => (format!("requires at least {n} {}", plural(n)), "See"),
        Args::AtMost(n) if count > n => (format!("requires at most {n} {}", plural(n)), "Run"),
        Args::Between(a, b) if count < a || count > b => {
            (format!("requires at least {a} and at most {b} {}", plural(b)), "Run")
        }
        Args::Exactly(_) | Args::AtLeast(_) | Args::AtMost(_) | Args::Between(..) => return Ok(()),
    };
    Err(Failure::Refused(format!(
        "seacow: 'seacow {path}' {wrong}\n\n{}\n\n{verb} 'seacow {path} --help' for more information",
        usage_line(command, path)
    )))
}

/// The command's help page.
pub(crate) fn help(command: &Command, path: &str) -> String {
    let about = if command.long.is_empty() { command.about } else { command.long };
    let mut page = format!("{}\n\n{about}\n", usage_line(command, path));
    if command.aliases.len() > 1 {
        let names: Vec<String> = command.aliases.iter().map(|a| format!("seacow {a}")).collect();
        page.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    if command.flags.iter().any(|t| !t.is_empty()) {
        let usages = flags::flag_usages(command.flags, flags::wrap_width());
        page.push_str(&format!("\nOptions:\n{usages}"));
    }
    page
}
