//! `logout`: forget a registry's credentials.

use super::{auth, login};
use crate::command::{Args, Command, Invocation};
use crate::failure::Outcome;

/// `logout`
pub(crate) const COMMAND: Command = Command {
    usage: "[SERVER]",
    about: "Log out from a registry.",
    aliases: &[],
    long: "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    args: Args::AtMost(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let server = login::server(invocation.arg(0));
    crate::outln(&format!("Removing login credentials for {server}"))?;
    if !auth::erase(&invocation.globals.config, &server)? {
        eprintln!("Not logged in to {server}");
    }
    Ok(())
}
