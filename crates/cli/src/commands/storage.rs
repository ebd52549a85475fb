//! `storage`: the store in a file, for hosts whose file system cannot share extents. The work is the
//! daemon's program's, which knows the data root; it is done while no daemon runs.

use std::os::unix::process::CommandExt as _;

use crate::command::{Args, Command, Invocation};
use crate::connect::{ConnectError, autostart};
use crate::failure::{Failure, Outcome, go_io_text};
use crate::flags::{Flag, Kind, NO};

const ROOT: &[Flag] = &[
    Flag::new(NO, "data-root", Kind::Str, "The daemon's data root (default /var/lib/seacow)"),
    Flag::new(NO, "config-file", Kind::Str, "The daemon's configuration file"),
];

const INIT_FLAGS: &[Flag] = &[Flag::new(
    NO,
    "size",
    Kind::Str,
    "Size at first, such as 50g; it takes what is in it, and grows (default the disk's)",
)];

/// `storage init`
pub(crate) const INIT: Command = Command {
    usage: "[OPTIONS]",
    about: "Make a store that shares extents, and move into it what is there",
    flags: &[INIT_FLAGS, ROOT],
    args: Args::Exactly(0),
    run: init,
    ..Command::EMPTY
};

fn init(invocation: &Invocation<'_>) -> Outcome {
    let size = invocation.matches.str("size");
    let size = (!size.is_empty()).then(|| format!("--size={size}"));
    hand_over(invocation, "init", size)
}

/// `storage status`
pub(crate) const STATUS: Command = Command {
    usage: "[OPTIONS]",
    about: "Tell what the store in a file is and takes",
    flags: &[ROOT],
    args: Args::Exactly(0),
    run: status,
    ..Command::EMPTY
};

fn status(invocation: &Invocation<'_>) -> Outcome {
    hand_over(invocation, "status", None)
}

/// Becomes the daemon's program, which does the work.
fn hand_over(invocation: &Invocation<'_>, verb: &str, last: Option<String>) -> Outcome {
    let program = autostart::find_daemon().map_err(ConnectError::from)?;
    let mut daemon = std::process::Command::new(&program);
    for name in ["data-root", "config-file"] {
        let value = invocation.matches.str(name);
        if !value.is_empty() {
            daemon.arg(format!("--{name}={value}"));
        }
    }
    let error = daemon.args(["storage", verb]).args(last).exec();
    Err(Failure::Refused(format!("{}: {}", program.display(), go_io_text(&error))))
}
