//! `commit`: an image from a container's changes.

use seacow_spec::docker::IdBody;
use seacow_spec::reference::Reference;

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[
    Flag::new('a', "author", Kind::Str, "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")"),
    Flag::new('c', "change", Kind::List, "Apply Dockerfile instruction to the created image"),
    Flag::new('m', "message", Kind::Str, "Commit message"),
    Flag::new('p', "pause", Kind::Bool, "Pause container during commit (default true)").default("true"),
];

/// `commit`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    aliases: &["container commit", "commit"],
    flags: &[FLAGS],
    args: Args::Between(1, 2),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let name = invocation.arg(1);
    let (repository, tag) = if name.is_empty() { (String::new(), String::new()) } else { split(name)? };
    let mut call = invocation
        .client()?
        .post("/commit")
        .query_some("author", matches.str("author"))
        .query_some("comment", matches.str("message"))
        .query("container", invocation.arg(0))
        .query_some("repo", &repository)
        .query_some("tag", &tag);
    for change in matches.list("change") {
        call = call.query("changes", change);
    }
    if !matches.bool("pause") {
        call = call.query("pause", "0");
    }
    let image: IdBody = call.json()?;
    crate::outln(&image.id)
}

/// Repository and tag of the new image's name.
pub(super) fn split(name: &str) -> Result<(String, String), Failure> {
    let reference: Reference = name
        .parse()
        .map_err(|e: seacow_spec::reference::InvalidReference| Failure::Refused(e.to_string()))?;
    if reference.digest().is_some() {
        return Err(Failure::refused("cannot commit to digest reference"));
    }
    let reference = reference.or_latest();
    Ok((reference.repository(), reference.tag().unwrap_or("").to_owned()))
}
