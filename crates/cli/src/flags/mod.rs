//! Command-line flags with the rules, and the words, of Go's `pflag`.
//!
//! Scripts that drive `docker` depend on how its flags are parsed (`-aq`, `-n3`, `--all=false`,
//! flags after the image belong to the container) and on the texts of its refusals. All tables
//! are constants: nothing is built at start-up.

mod help;
mod parse;
mod validate;

pub(crate) use help::{flag_usages, wrap_width};
pub(crate) use parse::{Matches, ParseError, parse};
pub(crate) use validate::{parse_bytes, parse_cpus, parse_duration_ns, parse_int, parse_key_value_map};

/// What a flag's value looks like; decides parsing, validation and the word in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On or off; takes a value only with `=`.
    Bool,
    Str,
    Int,
    Uint,
    Uint16,
    /// May be repeated; each occurrence is one element.
    List,
    /// May be repeated; each occurrence is split at commas (Go's `StringSlice`).
    Strings,
    /// `key=value`, may be repeated.
    Map,
    /// Go duration (`1m30s`).
    Duration,
    /// A size with a unit (`512m`).
    Bytes,
    /// `--memory-swap`: a size, or -1.
    SwapBytes,
    /// `--cpus`.
    Decimal,
    Filter,
    /// A value with a syntax and a type name of its own, may be repeated.
    Named(&'static str),
}

impl Kind {
    /// The word shown after the flag in the help.
    fn type_name(self) -> &'static str {
        match self {
            Kind::Bool => "",
            Kind::Str => "string",
            Kind::Int => "int",
            Kind::Uint => "uint",
            Kind::Uint16 => "uint16",
            Kind::List => "list",
            Kind::Strings => "strings",
            Kind::Map => "map",
            Kind::Duration => "duration",
            Kind::Bytes | Kind::SwapBytes => "bytes",
            Kind::Decimal => "decimal",
            Kind::Filter => "filter",
            Kind::Named(name) => name,
        }
    }
}

/// A check that a value must pass while the command line is read; the text is the refusal.
pub(crate) type Check = fn(&str) -> Result<(), String>;

/// One flag of one command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    /// `'\0'` when the flag has no short form.
    pub(crate) short: char,
    pub(crate) kind: Kind,
    /// The help text, with its "(default …)".
    pub(crate) help: &'static str,
    /// Value when the flag is not given.
    pub(crate) default: &'static str,
    pub(crate) hidden: bool,
    pub(crate) check: Option<Check>,
    /// Another name of the flag `target`; occurrences are stored there.
    pub(crate) alias_of: &'static str,
}

/// For flags without a short form.
pub(crate) const NO: char = '\0';

impl Flag {
    pub(crate) const fn new(short: char, long: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { long, short, kind, help, default: "", hidden: false, check: None, alias_of: "" }
    }

    pub(crate) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    pub(crate) const fn check(self, check: Check) -> Self {
        Self { check: Some(check), ..self }
    }

    pub(crate) const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// A second, hidden name for the flag `target` (`--net` for `--network`).
    pub(crate) const fn alias(long: &'static str, kind: Kind, target: &'static str) -> Self {
        Self { alias_of: target, ..Self::new(NO, long, kind, "").hidden() }
    }

    /// How refusals name the flag: `-m, --memory` or `--memory-swap`.
    fn shown(&self) -> String {
        if self.short == NO {
            format!("--{}", self.long)
        } else {
            format!("-{}, --{}", self.short, self.long)
        }
    }
}
