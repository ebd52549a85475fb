//! `rmi`: remove images.

use crate::client::escape_path;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;

const FLAGS: &[Flag] = &[
    Flag::new('f', "force", Kind::Bool, "Force removal of the image"),
    Flag::new(NO, "no-prune", Kind::Bool, "Do not delete untagged parents"),
    Flag::new(
        NO,
        "platform",
        Kind::Strings,
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

/// `rmi`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    aliases: &["image rm", "image remove", "rmi"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let force = matches.bool("force");
    let mut failures: Vec<Failure> = Vec::new();
    let mut fatal = false;
    for image in invocation.args() {
        let mut call = client.delete(format!("/images/{}", escape_path(image)));
        call = call.flag("force", force);
        if matches.bool("no-prune") {
            call = call.query("noprune", "1");
        }
        for platform in matches.strings("platform") {
            call = call.query("platforms", platform);
        }
        match call.json::<Json>() {
            Ok(removed) => {
                for item in removed.array() {
                    let (verb, name) =
                        item.members().first().map_or(("", ""), |(k, v)| (k.as_str(), v.as_str()));
                    crate::outln(&format!("{verb}: {name}"))?;
                }
            }
            Err(error) => {
                fatal |= !error.is_not_found();
                failures.push(error.into());
            }
        }
    }
    // With --force an image that is not there is as good as removed.
    if force && !fatal {
        for failure in failures {
            eprintln!("{failure}");
        }
        return Ok(());
    }
    Failure::all(failures)
}
