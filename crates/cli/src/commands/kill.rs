//! `kill`: send a signal to containers.

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::Outcome;
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[Flag::new('s', "signal", Kind::Str, "Signal to send to the container")];

/// `kill`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Kill one or more running containers",
    aliases: &["container kill", "kill"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let client = invocation.client()?;
    each::at_once(invocation.args(), |name| {
        let call = client.post(format!("/containers/{}/kill", escape(name)));
        Ok(call.query_some("signal", invocation.matches.str("signal")).done()?)
    })
}
