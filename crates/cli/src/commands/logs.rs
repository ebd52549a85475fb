//! `logs`: what a container wrote.

use std::io::Read;

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::{Json, time};
use crate::http::HttpError;
use crate::stream::{StdFd, copy_frames};

const FLAGS: &[Flag] = &[
    Flag::new(NO, "details", Kind::Bool, "Show extra details provided to logs"),
    Flag::new('f', "follow", Kind::Bool, "Follow log output"),
    Flag::new(
        NO,
        "since",
        Kind::Str,
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    Flag::new('n', "tail", Kind::Str, "Number of lines to show from the end of the logs (default \"all\")")
        .default("all"),
    Flag::new('t', "timestamps", Kind::Bool, "Show timestamps"),
    Flag::new(
        NO,
        "until",
        Kind::Str,
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

/// `logs`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    aliases: &["container logs", "logs"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let bound = |name: &str| {
        time::engine_timestamp(matches.str(name))
            .map_err(|e| Failure::Refused(format!("invalid value for \"{name}\": {e}")))
    };
    let (since, until) = (bound("since")?, bound("until")?);
    let path = format!("/containers/{}", escape(invocation.arg(0)));
    let container: Json = client.get(format!("{path}/json")).json()?;
    let mut response = client
        .get(format!("{path}/logs"))
        .flag("details", matches.bool("details"))
        .flag("follow", matches.bool("follow"))
        .query_some("since", &since)
        .flag("stderr", true)
        .flag("stdout", true)
        .query("tail", matches.str("tail"))
        .flag("timestamps", matches.bool("timestamps"))
        .query_some("until", &until)
        .send()?;
    if container.get("Config").bool("Tty") {
        return copy_plain(&mut response.body);
    }
    copy_frames(&mut response.body, StdFd::stdout(), StdFd::stderr())
}

fn copy_plain(body: &mut impl Read) -> Outcome {
    use std::io::Write;
    let mut out = StdFd::stdout();
    let mut buf = vec![0; 32 << 10];
    loop {
        match body.read(&mut buf).map_err(HttpError::Receive)? {
            0 => return Ok(()),
            n => out.write_all(&buf[..n])?,
        }
    }
}
