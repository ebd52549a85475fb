//! `import`: an image from a plain file system archive.

use std::fs::File;
use std::io::Read;

use crate::command::{Args, Command, Invocation};
use crate::failure::{Outcome, open_failed};
use crate::flags::{Flag, Kind, NO};
use crate::stream::{Progress, show};
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('c', "change", Kind::List, "Apply Dockerfile instruction to the created image"),
    Flag::new('m', "message", Kind::Str, "Set commit message for imported image"),
    Flag::new(NO, "platform", Kind::Str, "Set platform if server is multi-platform capable"),
];

/// `import`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    aliases: &["image import", "import"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let (source, name) = (invocation.arg(0), invocation.arg(1));
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let reader: Option<Box<dyn Read + Send>> = match source {
        "-" => Some(Box::new(std::io::stdin())),
        _ if remote => None,
        path => Some(Box::new(File::open(path).map_err(|e| open_failed(path, &e))?)),
    };
    let mut call = invocation
        .client()?
        .post("/images/create")
        .query("fromSrc", if remote { source } else { "-" })
        .query_some("message", matches.str("message"))
        .query_some("platform", matches.str("platform"));
    if !name.is_empty() {
        // The name is the engine's to judge: it says what is wrong with it.
        call = call.query("repo", name);
    }
    for change in matches.list("change") {
        call = call.query("changes", change);
    }
    let mut response = match reader {
        Some(reader) => call.stream("application/x-tar", reader).send()?,
        None => call.send()?,
    };
    let mut stdout = std::io::stdout();
    let terminal = term::is_terminal(rustix::stdio::stdout());
    show(&mut response.body, Some(Progress::new(&mut stdout, terminal)), |_| {})
}
