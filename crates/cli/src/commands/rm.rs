//! `rm`: remove containers.

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[
    Flag::new('f', "force", Kind::Bool, "Force the removal of a running container (uses SIGKILL)"),
    Flag::new('l', "link", Kind::Bool, "Remove the specified link"),
    Flag::new('v', "volumes", Kind::Bool, "Remove anonymous volumes associated with the container"),
];

/// `rm`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    aliases: &["container rm", "container remove", "rm"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let force = matches.bool("force");
    each::at_once_named(invocation.args(), |name| {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(Failure::refused("container name cannot be empty"));
        }
        let removed = client
            .delete(format!("/containers/{}", escape(name)))
            .flag("force", force)
            .flag("link", matches.bool("link"))
            .flag("v", matches.bool("volumes"))
            .done();
        match removed {
            // With --force the wish is that it be gone.
            Err(e) if force && e.is_not_found() => {
                eprintln!("{e}");
                Ok(false)
            }
            other => Ok(other.map(|()| true)?),
        }
    })
}
