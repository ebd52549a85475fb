//! `--help` and `--version`, laid out as runc's callers expect it.

use std::fmt::Write;
use std::path::Path;

use super::verbs::{ALL, Flag, GLOBAL, Verb};

/// The name we were called by: whoever installs a link named `runc` gets a `runc`.
pub(crate) fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().map(|n| n.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "seacow-runtime".into())
}

/// The whole.
pub(crate) fn general() -> String {
    let program = program();
    let mut text = format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         Runs a bundle, which is a directory with a root file system and a config.json, as a container.\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n",
        version_lines().join("\n   ")
    );
    let help = [("help, h", "print this, or the help of one command")];
    let rows = ALL.iter().map(|verb| (verb.name, verb.about)).chain(help);
    table(&mut text, rows.map(|(name, about)| (name.to_owned(), about)).collect());
    text.push_str("\nGLOBAL OPTIONS:\n");
    let mut rows: Vec<_> = GLOBAL.iter().map(row).collect();
    rows.push(("--help, -h".into(), "print this"));
    rows.push(("--version, -v".into(), "print the version"));
    table(&mut text, rows);
    text
}

/// Of one verb.
pub(crate) fn of(verb: &Verb) -> String {
    let program = program();
    let options = if verb.flags.is_empty() { "" } else { " [command options]" };
    let usage = format!("{program} {}{options} {}", verb.name, verb.operands);
    let mut text =
        format!("NAME:\n   {program} {} - {}\n\nUSAGE:\n   {}\n", verb.name, verb.about, usage.trim_end());
    if !verb.text.is_empty() {
        let lines = verb.text.replace('\n', "\n   ");
        let _ = write!(text, "\nDESCRIPTION:\n   {lines}\n");
    }
    if !verb.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
        table(&mut text, verb.flags.iter().map(row).collect());
    }
    text
}

/// `--version`.
pub(crate) fn version() -> String {
    format!("{} version {}\n", program(), version_lines().join("\n"))
}

fn version_lines() -> [String; 3] {
    [
        env!("CARGO_PKG_VERSION").to_owned(),
        format!("commit: {}", option_env!("SEACOW_COMMIT").unwrap_or("unknown")),
        format!("spec: {}", seacow_spec::oci::runtime::VERSION),
    ]
}

fn row(flag: &Flag) -> (String, &'static str) {
    let value = flag.value.map(|v| format!(" {v}")).unwrap_or_default();
    let short = flag.short.map(|s| format!(", -{s}{value}")).unwrap_or_default();
    (format!("--{}{value}{short}", flag.long), flag.help)
}

fn table(text: &mut String, rows: Vec<(String, &str)>) {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "   {left:<width$}  {right}");
    }
}
