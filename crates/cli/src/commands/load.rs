//! `load`: images from a tar archive.

use std::fs::File;
use std::io::{Read, Write};

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome, open_failed};
use crate::flags::{Flag, Kind, NO};
use crate::stream::{Progress, show};
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('i', "input", Kind::Str, "Read from tar archive file, instead of STDIN"),
    Flag::new(
        NO,
        "platform",
        Kind::Str,
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::new('q', "quiet", Kind::Bool, "Suppress the load output"),
];

/// `load`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Load an image from a tar archive or STDIN",
    aliases: &["image load", "load"],
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let input = matches.str("input");
    let reader: Box<dyn Read + Send> = if input.is_empty() {
        if term::is_terminal(rustix::stdio::stdin()) {
            return Err(Failure::refused("requested load from stdin, but stdin is empty"));
        }
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(input).map_err(|e| open_failed(input, &e))?)
    };
    let terminal = term::is_terminal(rustix::stdio::stdout());
    let quiet = matches.bool("quiet") || !terminal;
    let mut call = invocation.client()?.post("/images/load").query("quiet", if quiet { "1" } else { "0" });
    for platform in matches.strings("platform") {
        call = call.query("platform", platform);
    }
    let mut response = call.stream("application/x-tar", reader).send()?;
    let mut stdout = std::io::stdout();
    if response.head.field("Content-Type").is_some_and(|t| t.starts_with("application/json")) {
        return show(&mut response.body, Some(Progress::new(&mut stdout, terminal)), |_| {});
    }
    let text = response.body.collect()?;
    Ok(stdout.write_all(&text)?)
}
