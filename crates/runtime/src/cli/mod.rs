//! The command line: one verb, one file.

mod args;
mod bundle;
mod create;
mod delete;
mod error;
mod events;
mod exec;
mod features;
mod help;
mod hooks;
mod inspect;
mod kill;
mod log;
mod ps;
mod spec;
mod start;
mod state;
mod streams;
mod update;
mod verbs;

use std::io::Write;
use std::process::ExitCode;

use args::{Asked, Globals, Parsed};
use error::CliError;

/// Parses, dispatches, reports.
pub(crate) fn run() -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
    let (globals, asked) = args::parse(&words);
    let done = match asked {
        Ok(Asked::Verb(parsed)) => dispatch(&globals, &parsed),
        Ok(Asked::Help(None)) => print(&help::general()),
        Ok(Asked::Help(Some(verb))) => print(&help::of(verb)),
        Ok(Asked::Version) => print(&help::version()),
        Err(error) => Err(error),
    };
    done.unwrap_or_else(|error| globals.log.report(&error))
}

/// Prints to standard output; a reader that went away early is no failure of ours.
fn print(text: &str) -> Result<ExitCode, CliError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::file("write", "standard output", e))
        }
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

fn dispatch(globals: &Globals, parsed: &Parsed) -> Result<ExitCode, CliError> {
    let done = |result: Result<(), CliError>| result.map(|()| ExitCode::SUCCESS);
    match parsed.verb.name {
        "create" => done(create::create(globals, parsed)),
        "start" => done(start::start(globals, parsed)),
        "run" => create::run(globals, parsed),
        "exec" => exec::exec(globals, parsed),
        "state" => print(&inspect::state(globals, parsed)?),
        "list" => print(&inspect::list(globals, parsed)?),
        "ps" => print(&ps::ps(globals, parsed)?),
        "kill" => done(kill::kill(globals, parsed)),
        "delete" => done(delete::delete(globals, parsed)),
        "pause" => done(kill::pause(globals, parsed)),
        "resume" => done(kill::resume(globals, parsed)),
        "update" => done(update::update(globals, parsed)),
        "events" => done(events::events(globals, parsed)),
        "spec" => done(spec::spec(parsed)),
        "features" => print(&features::features()),
        other => Err(CliError::NotImplemented(format!("the command {other}"))),
    }
}
