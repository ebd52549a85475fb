//! Docker's build checks: what is allowed but seldom meant.
//!
//! Most are seen in the file itself; variables and ignored files only when a step is reached. A
//! Dockerfile chooses among them with `# check=skip=Rule,Rule;error=true`.
//!
//! | module | what |
//! |---|---|
//! | `file` | checks of the text alone |

mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::dockerfile::{Dockerfile, ParseError, SyntaxError};
use crate::expand::Variables;
use crate::nearest::nearest;

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Warning {
    /// Line of the instruction's beginning.
    pub line: usize,
    /// Of its end.
    pub last_line: usize,
    /// Name of the rule, as in Docker's documentation.
    pub rule: &'static str,
    /// What is wrong.
    pub text: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// Rules that have to be asked for.
const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

/// What is checked, and what was found so far.
#[derive(Debug, Default)]
pub(crate) struct Lint {
    config: Config,
    found: Mutex<BTreeSet<Warning>>,
}

/// `# check=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Config {
    skip: BTreeSet<String>,
    skip_all: bool,
    experimental: BTreeSet<String>,
    experimental_all: bool,
    fatal: bool,
}

impl Config {
    fn read(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| part.to_owned())?;
            let names = || value.split(',').map(|name| name.trim().to_lowercase());
            match name.trim().to_ascii_lowercase().as_str() {
                "skip" if value.trim().eq_ignore_ascii_case("all") => config.skip_all = true,
                "skip" => config.skip.extend(names()),
                "experimental" if value.trim().eq_ignore_ascii_case("all") => config.experimental_all = true,
                "experimental" => config.experimental.extend(names()),
                "error" => {
                    config.fatal = match value.trim().to_ascii_lowercase().as_str() {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err(part.to_owned()),
                    }
                }
                _ => return Err(part.to_owned()),
            }
        }
        Ok(config)
    }

    fn wants(&self, rule: &str) -> bool {
        let lower = rule.to_lowercase();
        let experimental = EXPERIMENTAL.contains(&rule);
        let asked = !experimental || self.experimental_all || self.experimental.contains(&lower);
        asked && !self.skip_all && !self.skip.contains(&lower)
    }
}

impl Lint {
    /// Checks the file.
    pub(crate) fn of(file: &Dockerfile) -> Result<Self, ParseError> {
        let config = match &file.check {
            Some(text) => Config::read(text)
                .map_err(|part| ParseError { line: 1, cause: SyntaxError::CheckDirective(part) })?,
            None => Config::default(),
        };
        let lint = Self { config, found: Mutex::default() };
        file::check(file, &lint);
        Ok(lint)
    }

    /// Notes what a check found, unless nobody wants to know.
    pub(crate) fn note(&self, rule: &'static str, lines: (usize, usize), text: String) {
        if self.config.wants(rule) {
            let warning = Warning { line: lines.0, last_line: lines.1, rule, text };
            self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(warning);
        }
    }

    /// Everything that was found, by line.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether a warning fails the build.
    pub(crate) fn is_fatal(&self) -> bool {
        self.config.fatal
    }

    /// A step's words named variables that nobody has set.
    pub(crate) fn undefined(&self, line: usize, names: &[String], variables: &Variables) {
        for name in names {
            let meant = nearest(name, variables.keys().map(String::as_str));
            let meant = meant.map(|meant| format!(" (did you mean ${meant}?)")).unwrap_or_default();
            self.note("UndefinedVar", (line, line), format!("Usage of undefined variable '${name}'{meant}"));
        }
    }

    /// The same of a `FROM`.
    pub(crate) fn undefined_in_from(&self, line: usize, names: &[String], variables: &Variables) {
        for name in names {
            let meant = nearest(name, variables.keys().map(String::as_str));
            let meant = meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
            let text = format!("FROM argument '{name}' is not declared{meant}");
            self.note("UndefinedArgInFrom", (line, line), text);
        }
    }

    /// A copy named a file that the ignore file hides.
    pub(crate) fn ignored(&self, instruction: &str, line: usize, path: &str) {
        let text = format!("Attempting to {instruction} file {path:?} that is excluded by .dockerignore");
        self.note("CopyIgnoredFile", (line, line), text);
    }
}
