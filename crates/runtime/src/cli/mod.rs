//! The command line: one verb, one file.

mod args;
mod bundle;
mod create;
mod delete;
mod error;
mod exec;
mod features;
mod hooks;
mod inspect;
mod kill;
mod log;
mod spec;
mod start;
mod state;
mod streams;
mod update;

use std::process::ExitCode;

use args::{Globals, Parsed};
use error::CliError;

const USAGE: &str = "\
Usage: seacow-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] COMMAND …

Commands:
  create [-b BUNDLE] [--console-socket S] [--pid-file F] [--no-pivot] [--preserve-fds N] ID
  start ID
  run [-b BUNDLE] [-d] [--keep] [--console-socket S] [--pid-file F] [--preserve-fds N] ID
  exec [-t] [-d] [-p PROCESS.JSON] [-u USER] [-e K=V] [--cwd DIR] [--cap C] [--pid-file F]
       [--console-socket S] [--no-new-privs] [--preserve-fds N] ID [COMMAND …]
  state ID | list [-q] [-f table|json] | ps [-f table|json] ID
  kill [-a] ID [SIGNAL] | delete [-f] ID | pause ID | resume ID
  update [-r RESOURCES.JSON] ID | spec [-b DIR] | features
Not implemented: checkpoint, restore, events
";

/// Parses, dispatches, reports.
pub(crate) fn run() -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
    let (globals, parsed) = match args::parse(&words) {
        Ok(parsed) => parsed,
        Err(error) => return log::report(&Globals::default(), &error),
    };
    match dispatch(&globals, parsed) {
        Ok(code) => code,
        Err(error) => log::report(&globals, &error),
    }
}

fn dispatch(globals: &Globals, parsed: Parsed) -> Result<ExitCode, CliError> {
    let done = |result: Result<(), CliError>| result.map(|()| ExitCode::SUCCESS);
    match parsed.command.as_str() {
        "create" => done(create::create(globals, &parsed)),
        "start" => done(start::start(globals, &parsed)),
        "run" => create::run(globals, &parsed),
        "exec" => exec::exec(globals, &parsed),
        "state" => done(inspect::state(globals, &parsed)),
        "list" => done(inspect::list(globals, &parsed)),
        "ps" => done(inspect::ps(globals, &parsed)),
        "kill" => done(kill::kill(globals, &parsed)),
        "delete" => done(delete::delete(globals, &parsed)),
        "pause" => done(kill::pause(globals, &parsed)),
        "resume" => done(kill::resume(globals, &parsed)),
        "update" => done(update::update(globals, &parsed)),
        "spec" => done(spec::spec(&parsed)),
        "features" => done(features::features()),
        "checkpoint" | "restore" | "events" => {
            Err(CliError::NotImplemented(format!("the command {}", parsed.command)))
        }
        "--version" | "-v" | "version" => {
            println!(
                "seacow-runtime version {}\nspec: {}",
                env!("CARGO_PKG_VERSION"),
                seacow_spec::oci::runtime::VERSION
            );
            Ok(ExitCode::SUCCESS)
        }
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(CliError::Usage(format!("unknown command {other:?}"))),
    }
}
