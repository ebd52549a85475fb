//! `wait`: until containers stop; prints their exit codes.

use seacow_spec::docker::container::WaitResponse;

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};

/// `wait`
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    about: "Block until one or more containers stop, then print their exit codes",
    aliases: &["container wait", "wait"],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let client = invocation.client()?;
    let mut failures = Vec::new();
    for name in invocation.args() {
        let ended = client.post(format!("/containers/{}/wait", escape(name))).json::<WaitResponse>();
        match ended {
            Ok(WaitResponse { error: Some(error), .. }) if !error.message.is_empty() => {
                failures.push(Failure::Refused(error.message));
            }
            Ok(ended) => crate::outln(&ended.status_code.to_string())?,
            Err(error) => failures.push(error.into()),
        }
    }
    Failure::all(failures)
}
