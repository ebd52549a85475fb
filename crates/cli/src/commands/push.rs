//! `push`: an image to its registry.

use seacow_spec::reference::Reference;

use super::auth;
use super::pull::invalid;
use crate::client::escape_path;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::stream::{Progress, show};
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('a', "all-tags", Kind::Bool, "Push all tags of an image to the repository"),
    Flag::new(NO, "disable-content-trust", Kind::Bool, "Skip image signing (default true)").default("true"),
    Flag::new(
        NO,
        "platform",
        Kind::Str,
        "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    Flag::new(
        NO,
        "compression",
        Kind::Str,
        "How layers are packed that the registry does not have: gzip, zstd, or one of\nthem with a level (gzip:1 to gzip:9, zstd:1 to zstd:19) (seacow only)",
    ),
    Flag::new('q', "quiet", Kind::Bool, "Suppress verbose output"),
];

/// `push`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    aliases: &["image push", "push"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let reference: Reference = invocation.arg(0).parse().map_err(invalid)?;
    let (all, quiet) = (matches.bool("all-tags"), matches.bool("quiet"));
    if all && reference.tag().is_some() {
        return Err(Failure::refused("tag can't be used with --all-tags/-a"));
    }
    if !all && reference.tag().is_none() && !quiet {
        crate::outln("Using default tag: latest")?;
    }
    let tag = match (all, reference.tag()) {
        (true, _) => "",
        (false, Some(tag)) => tag,
        (false, None) => seacow_spec::reference::DEFAULT_TAG,
    };
    let mut response = invocation
        .client()?
        .post(format!("/images/{}/push", escape_path(&reference.repository())))
        .query_some("platform", matches.str("platform"))
        .query_some("compression", matches.str("compression"))
        .query_some("tag", tag)
        .field("X-Registry-Auth", auth::header(invocation.globals, reference.domain()))
        .send()?;
    let mut stdout = std::io::stdout();
    let terminal = term::is_terminal(rustix::stdio::stdout());
    let progress = (!quiet).then(|| Progress::new(&mut stdout, terminal));
    show(&mut response.body, progress, |_| {})?;
    if quiet {
        crate::outln(&reference.or_latest().to_string())?;
    }
    Ok(())
}
