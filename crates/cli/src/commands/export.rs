//! `export`: a container's file system as a tar archive.

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::commands::save::{refuse_terminal, write_out};
use crate::failure::Outcome;
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[Flag::new('o', "output", Kind::Str, "Write to a file, instead of STDOUT")];

/// `export`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    aliases: &["container export", "export"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let output = invocation.matches.str("output");
    refuse_terminal(output)?;
    let path = format!("/containers/{}/export", escape(invocation.arg(0)));
    let mut response = invocation.client()?.get(path).send()?;
    write_out(&mut response.body, output)
}
