//! `daemon`: start seacow's own daemon, see whether it runs, read its words.

use std::path::Path;

use crate::command::{Args, Command, Invocation};
use crate::connect::{DEFAULT_SOCKET, autostart};
use crate::failure::{Failure, Outcome, go_io_text};
use crate::flags::{Flag, Kind};
use crate::format::Json;

/// `daemon start`
pub(crate) const START: Command = Command {
    about: "Start the daemon on its default socket, if none is running",
    args: Args::Exactly(0),
    run: start,
    ..Command::EMPTY
};

fn start(_: &Invocation<'_>) -> Outcome {
    let socket = Path::new(DEFAULT_SOCKET);
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        return crate::outln(&format!("seacowd is running at unix://{DEFAULT_SOCKET}"));
    }
    autostart::start(socket).map_err(crate::connect::ConnectError::from)?;
    crate::outln(&format!(
        "seacowd was started at unix://{DEFAULT_SOCKET}; its log is {}",
        autostart::log_path(socket).display()
    ))
}

/// `daemon status`
pub(crate) const STATUS: Command = Command {
    about: "Tell which engine answers, and where",
    args: Args::Exactly(0),
    run: status,
    ..Command::EMPTY
};

fn status(invocation: &Invocation<'_>) -> Outcome {
    let client = invocation.client()?;
    let version: Json = client.get("/version").json()?;
    let name = version.get("Platform").str("Name");
    let name = if name.is_empty() { "an engine" } else { name };
    crate::outln(&format!(
        "{name} {} (API {}) answers at {}",
        version.str("Version"),
        version.str("ApiVersion"),
        client.endpoint.url
    ))
}

const LOG_FLAGS: &[Flag] =
    &[Flag::new('n', "tail", Kind::Int, "Number of lines to show from the end of the log (default 50)")
        .default("50")];

/// `daemon log`
pub(crate) const LOG: Command = Command {
    usage: "[OPTIONS]",
    about: "Show the log of a daemon that this client started",
    flags: &[LOG_FLAGS],
    args: Args::Exactly(0),
    run: log,
    ..Command::EMPTY
};

fn log(invocation: &Invocation<'_>) -> Outcome {
    let path = autostart::log_path(Path::new(DEFAULT_SOCKET));
    let text = std::fs::read(&path).map_err(|e| {
        Failure::Refused(format!(
            "{}: {} (a daemon started by systemd writes to the journal: journalctl -u seacow)",
            path.display(),
            go_io_text(&e)
        ))
    })?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let count = usize::try_from(invocation.matches.int("tail")).unwrap_or(usize::MAX);
    lines[lines.len().saturating_sub(count)..].iter().try_for_each(|line| crate::outln(line))
}
