//! `save`: images as a tar archive.

use std::io::{Read, Write};
use std::path::Path;

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome, go_io_text};
use crate::flags::{Flag, Kind, NO};
use crate::http::HttpError;
use crate::stream::StdFd;
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('o', "output", Kind::Str, "Write to a file, instead of STDOUT"),
    Flag::new(
        NO,
        "platform",
        Kind::Str,
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

/// `save`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    aliases: &["image save", "save"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let output = invocation.matches.str("output");
    refuse_terminal(output)?;
    let mut call = invocation.client()?.get("/images/get");
    for image in invocation.args() {
        call = call.query("names", image);
    }
    for platform in invocation.matches.strings("platform") {
        call = call.query("platform", platform);
    }
    let mut response = call.send()?;
    write_out(&mut response.body, output)
}

/// An archive on a terminal is of no use to anybody.
pub(super) fn refuse_terminal(output: &str) -> Outcome {
    if output.is_empty() && term::is_terminal(rustix::stdio::stdout()) {
        return Err(Failure::refused("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    Ok(())
}

/// Copies a body to stdout, or to a file that appears only when it is complete.
pub(super) fn write_out(body: &mut impl Read, output: &str) -> Outcome {
    if output.is_empty() {
        return copy(body, &mut StdFd::stdout());
    }
    let failed = |e: std::io::Error| {
        Failure::Refused(format!("failed to save image: open {output}: {}", go_io_text(&e)))
    };
    let target = Path::new(output);
    if target.is_dir() || std::fs::metadata(target).is_ok_and(|m| !m.is_file()) {
        return special(body, target, output);
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let fresh = target.with_file_name(format!(".{name}.seacow-{}", std::process::id()));
    let mut file = std::fs::File::create(&fresh).map_err(failed)?;
    let copied = copy(body, &mut file);
    if copied.is_err() {
        // What was written is no archive.
        let _ = std::fs::remove_file(&fresh);
        return copied;
    }
    std::fs::rename(&fresh, target).map_err(failed)
}

/// A pipe or device can be written to, a directory cannot.
fn special(body: &mut impl Read, target: &Path, output: &str) -> Outcome {
    let opened = std::fs::OpenOptions::new().write(true).open(target);
    let mut file = opened
        .map_err(|e| Failure::Refused(format!("failed to save image: open {output}: {}", go_io_text(&e))))?;
    copy(body, &mut file)
}

fn copy(body: &mut impl Read, out: &mut impl Write) -> Outcome {
    let mut buf = vec![0; 128 << 10];
    loop {
        match body.read(&mut buf).map_err(HttpError::Receive)? {
            0 => return Ok(()),
            n => out.write_all(&buf[..n])?,
        }
    }
}
