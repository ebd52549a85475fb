//! `tag`: another name for an image.

use seacow_spec::reference::Reference;

use crate::client::escape_path;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};

/// `tag`
pub(crate) const COMMAND: Command = Command {
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    aliases: &["image tag", "tag"],
    args: Args::Exactly(2),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let (source, target) = (invocation.arg(0), invocation.arg(1));
    let reference: Reference = target.parse().map_err(|e| {
        Failure::Refused(format!("Error parsing reference: {target:?} is not a valid repository/tag: {e}"))
    })?;
    if reference.digest().is_some() {
        return Err(Failure::refused("refusing to create a tag with a digest reference"));
    }
    let reference = reference.or_latest();
    let call = invocation.client()?.post(format!("/images/{}/tag", escape_path(source)));
    Ok(call.query("repo", reference.repository()).query_some("tag", reference.tag().unwrap_or("")).done()?)
}
