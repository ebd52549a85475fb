//! `attach`: our terminal's streams to a running container's.

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::commands::run::{catch_signals, exit_status, wire_up, wires_of};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::stream::{Ended, Forwarding, send_resize};
use crate::term::{self, RawMode};

const FLAGS: &[Flag] = &[
    Flag::new(NO, "detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    Flag::new(NO, "no-stdin", Kind::Bool, "Do not attach STDIN"),
    Flag::new(NO, "sig-proxy", Kind::Bool, "Proxy all received signals to the process (default true)")
        .default("true"),
];

/// `attach`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    aliases: &["container attach", "attach"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let container: Json = client.get(format!("/containers/{}/json", escape(invocation.arg(0)))).json()?;
    let (state, config) = (container.get("State"), container.get("Config"));
    for (is, what) in [
        (!state.bool("Running"), "stopped"),
        (state.bool("Paused"), "paused"),
        (state.bool("Restarting"), "restarting"),
    ] {
        if is {
            let advice = match what {
                "stopped" => "start it first",
                "paused" => "unpause it first",
                _ => "wait for it to be running",
            };
            let text = if what == "restarting" {
                "cannot attach to a restarting container, wait until it is running".to_owned()
            } else {
                format!("cannot attach to a {what} container, {advice}")
            };
            return Err(Failure::Refused(text));
        }
    }
    let tty = config.bool("Tty");
    let stdin = !matches.bool("no-stdin") && config.bool("OpenStdin");
    let terminal = term::is_terminal(rustix::stdio::stdin());
    if tty && stdin && !terminal {
        return Err(Failure::refused("the input device is not a TTY"));
    }
    let wires = wires_of(invocation, matches, stdin, tty)?;
    let path = format!("/containers/{}", container.str("Id"));
    let proxy = matches.bool("sig-proxy") && !tty;
    let (attached, waiting, caught) = wire_up(client, &path, &wires, "", || catch_signals(proxy, tty))?;
    let raw = (tty && stdin).then(RawMode::enter).transpose()?;
    if let Some(attached) = &attached {
        attached.start_stdin()?;
    }
    if tty {
        repaint(client, &path);
    }
    let resize = tty.then(|| path.clone());
    let mut forwarder = Forwarding { kill: proxy.then_some(path), resize }.when_needed(client, caught);
    let ended = attached.map_or(Ok(Ended::Closed), |attached| attached.copy_output(&mut forwarder));
    drop(raw);
    match ended? {
        Ended::Detached => Err(Failure::refused("read escape sequence")),
        Ended::Closed => exit_status(waiting.result(&mut forwarder)?),
    }
}

/// A program redraws its screen when the size changes; so it is changed, and changed back.
fn repaint(client: &crate::client::Client, path: &str) {
    if let Some((rows, columns)) = term::size().filter(|size| *size != (0, 0)) {
        let grown = client.post(format!("{path}/resize")).query("h", (rows + 1).to_string());
        // It fails when the process has just ended; there is nothing to redraw then.
        let _ = grown.query("w", (columns + 1).to_string()).done();
    }
    send_resize(client, path);
}
