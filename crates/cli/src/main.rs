//! seacow, the client: flags to request to terminal.
//!
//! ```text
//! main ─▶ tree (which command?) ─▶ command (flags, help) ─▶ commands::<verb>
//!                                                             │
//!            format (tables, templates, units) ◀──────────────┼──▶ opts (values of flags)
//!            stream (attach, demultiplexing, progress) ◀──────┤
//!                                                             ▼
//!                          client (versions, errors) ─▶ http ─▶ connect (which engine?)
//! ```
//! Verbs, options, outputs and exit statuses are those of docker's client. It knows HTTP and
//! [`seacow_spec`], and nothing of how an engine works.

#![forbid(unsafe_code)]

mod archive;
mod client;
mod command;
mod commands;
mod config;
mod connect;
mod failure;
mod flags;
mod format;
mod globals;
mod http;
mod opts;
mod stream;
mod term;
mod tree;

use std::io::{self, Write};
use std::process::ExitCode;

use failure::{Failure, Outcome, USAGE};
use flags::ParseError;
use globals::Globals;

/// How requests introduce this client.
pub(crate) const USER_AGENT: &str = concat!("seacow-client/", env!("CARGO_PKG_VERSION"));

/// This client's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// musl's own allocator maps and unmaps single pages all the time: a fifth of what a short `run`
/// costs here. This one takes memory in large pieces and gives none back, which suits a program
/// that lives for milliseconds.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let args: Vec<String> = match std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect() {
        Ok(args) => args,
        Err(arg) => {
            eprintln!("seacow: argument {arg:?} is not UTF-8");
            return ExitCode::from(USAGE);
        }
    };
    let outcome = dispatch(&args).and_then(|()| io::stdout().flush().map_err(Failure::from));
    term::restore();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => term::die_of_broken_pipe(),
        Err(Failure::Exit(code)) => ExitCode::from(code),
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                eprintln!("{text}");
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Reads the options before the command's name, finds the command and runs it.
fn dispatch(args: &[String]) -> Outcome {
    if args.first().is_some_and(|a| a == connect::autostart::DETACH) {
        return Err(Failure::Io(connect::autostart::detach(&args[1..])));
    }
    let matches = match flags::parse(&[globals::FLAGS], false, args) {
        Ok(matches) => matches,
        Err(ParseError::Help) => return out(&tree::help()),
        Err(error) => {
            let text = format!(
                "{error}\n\nUsage:  seacow [OPTIONS] COMMAND [ARG...]\n\nRun 'seacow --help' for more information"
            );
            return Err(Failure::Status { text, code: USAGE });
        }
    };
    if matches.bool("version") {
        return out(&format!("seacow version {VERSION}\n"));
    }
    if matches.list("host").len() > 1 {
        return Err(Failure::refused("Specify only one -H"));
    }
    let globals = Globals::new(&matches);
    tree::run(&matches.args, &globals)
}

/// Writes to stdout; a reader that went away is an error that `main` passes over in silence.
pub(crate) fn out(text: &str) -> Outcome {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// One line to stdout.
pub(crate) fn outln(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.write_all(b"\n")?)
}
