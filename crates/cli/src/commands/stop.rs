//! `stop` and `restart`.

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::Outcome;
use crate::flags::{Flag, Kind};

const STOP_FLAGS: &[Flag] = &[
    Flag::new('s', "signal", Kind::Str, "Signal to send to the container"),
    Flag::new('t', "timeout", Kind::Int, "Seconds to wait before killing the container"),
    Flag::alias("time", Kind::Int, "timeout"),
];

/// `stop`
pub(crate) const STOP: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop one or more running containers",
    aliases: &["container stop", "stop"],
    flags: &[STOP_FLAGS],
    args: Args::AtLeast(1),
    run: |i| run(i, "stop"),
    ..Command::EMPTY
};

const RESTART_FLAGS: &[Flag] = &[
    Flag::new('s', "signal", Kind::Str, "Signal to send to the container"),
    Flag::new('t', "timeout", Kind::Int, "Seconds to wait before killing the container"),
    Flag::alias("time", Kind::Int, "timeout"),
];

/// `restart`
pub(crate) const RESTART: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Restart one or more containers",
    aliases: &["container restart", "restart"],
    flags: &[RESTART_FLAGS],
    args: Args::AtLeast(1),
    run: |i| run(i, "restart"),
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>, verb: &str) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let timeout = matches.int_given("timeout").map(|t| t.to_string()).unwrap_or_default();
    each::at_once(invocation.args(), |name| {
        let call = client.post(format!("/containers/{}/{verb}", escape(name)));
        Ok(call.query_some("signal", matches.str("signal")).query_some("t", &timeout).done()?)
    })
}
