//! `rename`: give a container another name.

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};

/// `rename`
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER NEW_NAME",
    about: "Rename a container",
    aliases: &["container rename", "rename"],
    args: Args::Exactly(2),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let (old, new) = (invocation.arg(0).trim(), invocation.arg(1).trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::refused("Error: Neither old nor new names may be empty"));
    }
    let call = invocation.client()?.post(format!("/containers/{}/rename", escape(old)));
    call.query("name", new)
        .done()
        .map_err(|error| Failure::Refused(format!("{error}\nError: failed to rename container named {old}")))
}
