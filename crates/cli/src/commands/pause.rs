//! `pause` and `unpause`.

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::Outcome;

/// `pause`
pub(crate) const PAUSE: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    about: "Pause all processes within one or more containers",
    aliases: &["container pause", "pause"],
    args: Args::AtLeast(1),
    run: |i| run(i, "pause"),
    ..Command::EMPTY
};

/// `unpause`
pub(crate) const UNPAUSE: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    about: "Unpause all processes within one or more containers",
    aliases: &["container unpause", "unpause"],
    args: Args::AtLeast(1),
    run: |i| run(i, "unpause"),
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>, verb: &str) -> Outcome {
    let client = invocation.client()?;
    each::at_once(invocation.args(), |name| {
        Ok(client.post(format!("/containers/{}/{verb}", escape(name))).done()?)
    })
}
