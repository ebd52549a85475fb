//! `start`: start stopped containers, attached to one of them if asked.

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::commands::run::{catch_signals, exit_status, wire_up, wires_of};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::stream::{Ended, Forwarding, send_resize};
use crate::term::{self, RawMode};

const FLAGS: &[Flag] = &[
    Flag::new('a', "attach", Kind::Bool, "Attach STDOUT/STDERR and forward signals"),
    Flag::new(NO, "checkpoint", Kind::Str, "Restore from this checkpoint"),
    Flag::new(NO, "checkpoint-dir", Kind::Str, "Use a custom checkpoint storage directory"),
    Flag::new(NO, "detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    Flag::new('i', "interactive", Kind::Bool, "Attach container's STDIN"),
];

/// `start`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    aliases: &["container start", "start"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let attach = matches.bool("attach") || matches.bool("interactive");
    if attach {
        if invocation.args().len() > 1 {
            return Err(Failure::refused("you cannot start and attach multiple containers at once"));
        }
        return attached(invocation);
    }
    let client = invocation.client()?;
    let mut failed = Vec::new();
    for name in invocation.args() {
        let call = client.post(format!("/containers/{}/start", escape(name)));
        match call.query_some("checkpoint", matches.str("checkpoint")).done() {
            Ok(()) => crate::outln(name)?,
            Err(error) => {
                eprintln!("{error}");
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(format!("Error: failed to start containers: {}", failed.join(", "))))
}

fn attached(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let container: Json = client.get(format!("/containers/{}/json", escape(invocation.arg(0)))).json()?;
    let config = container.get("Config");
    let tty = config.bool("Tty");
    let stdin = matches.bool("interactive") && config.bool("OpenStdin");
    let wires = wires_of(invocation, matches, stdin, tty)?;
    let path = format!("/containers/{}", container.str("Id"));
    let removes_itself = container.at(&["HostConfig", "AutoRemove"]) == &Json::Bool(true);
    let condition = if removes_itself { "removed" } else { "next-exit" };
    // A terminal's Ctrl-C reaches the container as a key.
    let proxy = !tty;
    let (attached, waiting, caught) =
        wire_up(client, &path, &wires, condition, || catch_signals(proxy, tty))?;
    let interactive = tty && stdin && term::is_terminal(rustix::stdio::stdin());
    let raw = interactive.then(RawMode::enter).transpose()?;
    if let Some(attached) = &attached {
        attached.start_stdin()?;
    }
    if let Err(error) = client.post(format!("{path}/start")).done() {
        if let Some(attached) = attached {
            attached.abandon();
        }
        return Err(error.into());
    }
    if tty {
        send_resize(client, &path);
    }
    let resize = tty.then(|| path.clone());
    let mut forwarder = Forwarding { kill: proxy.then_some(path), resize }.when_needed(client, caught);
    let ended = attached.map_or(Ok(Ended::Closed), |attached| attached.copy_output(&mut forwarder));
    drop(raw);
    match ended? {
        Ended::Detached => Ok(()),
        Ended::Closed => exit_status(waiting.result(&mut forwarder)?),
    }
}
