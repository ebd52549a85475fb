//! `pull`, and the pulling half of `run`.

use std::io::Write;

use seacow_spec::reference::Reference;

use super::auth;
use crate::client::Client;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::stream::{Progress, show};
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('a', "all-tags", Kind::Bool, "Download all tagged images in the repository"),
    Flag::new(NO, "disable-content-trust", Kind::Bool, "Skip image verification (default true)")
        .default("true"),
    Flag::new(NO, "platform", Kind::Str, "Set platform if server is multi-platform capable"),
    Flag::new('q', "quiet", Kind::Bool, "Suppress verbose output"),
];

/// `pull`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    aliases: &["image pull", "pull"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let image = invocation.arg(0);
    let reference: Reference = image.parse().map_err(invalid)?;
    if matches.bool("all-tags") && (reference.tag().is_some() || reference.digest().is_some()) {
        return Err(Failure::refused("tag can't be used with --all-tags/-a"));
    }
    let quiet = matches.bool("quiet");
    if !matches.bool("all-tags") && reference.tag().is_none() && reference.digest().is_none() && !quiet {
        crate::outln("Using default tag: latest")?;
    }
    let platform = super::create::platform(invocation);
    let mut stdout = std::io::stdout();
    let out = Shown { terminal: term::is_terminal(rustix::stdio::stdout()), out: &mut stdout };
    pull(invocation, invocation.client()?, image, platform.as_deref(), (!quiet).then_some(out))?;
    crate::outln(&match (matches.bool("all-tags"), reference.digest()) {
        (true, _) => reference.repository(),
        (false, _) => reference.or_latest().to_string(),
    })
}

pub(crate) fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure::Refused(error.to_string())
}

/// Where progress is shown.
pub(crate) struct Shown<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) terminal: bool,
}

/// Asks the engine to pull; progress goes to `out`, if anywhere.
pub(crate) fn pull(
    invocation: &Invocation<'_>,
    client: &Client,
    image: &str,
    platform: Option<&str>,
    out: Option<Shown<'_>>,
) -> Result<(), Failure> {
    let reference: Reference = image.parse().map_err(invalid)?;
    let all_tags = matches!(invocation.path, "pull" | "image pull") && invocation.matches.bool("all-tags");
    let reference = if all_tags { reference } else { reference.or_latest() };
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => String::new(),
    };
    let auth = auth::header(invocation.globals, reference.domain());
    let mut response = client
        .post("/images/create")
        .query("fromImage", reference.repository())
        .query_some("tag", &tag)
        .query_some("platform", platform.unwrap_or(""))
        .field("X-Registry-Auth", auth)
        .send()?;
    let progress = out.map(|shown| Progress::new(shown.out, shown.terminal));
    show(&mut response.body, progress, |_| {})
}
