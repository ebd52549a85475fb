//! `diff`: what a container changed in its file system.

use seacow_spec::docker::container::FilesystemChange;

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::format::listing::{Kind as Listing, Row};

/// `diff`
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    aliases: &["container diff", "diff"],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Type}}\t{{.Path}}",
    quiet: "{{.Path}}",
    raw: "",
    headings: &[("Type", "CHANGE TYPE"), ("Path", "PATH")],
    go_type: "*container.diffContext",
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    if invocation.arg(0).is_empty() {
        return Err(Failure::refused("container name cannot be empty"));
    }
    let path = format!("/containers/{}/changes", escape(invocation.arg(0)));
    let changes: Option<Vec<FilesystemChange>> = invocation.client()?.get(path).json()?;
    let rows = changes.unwrap_or_default().into_iter().map(|change| {
        let kind = match change.kind {
            0 => "C",
            1 => "A",
            _ => "D",
        };
        Row::default().text("Type", kind).text("Path", change.path)
    });
    let shape = LISTING.shape("{{.Type}} {{.Path}}", false);
    crate::out(&LISTING.render(&shape, rows.collect()).map_err(|e| Failure::Refused(e.to_string()))?)
}
