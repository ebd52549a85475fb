//! `exec`: one more process in a running container.

use std::sync::Arc;

use seacow_spec::docker::IdBody;
use seacow_spec::docker::exec::{ExecConfig, ExecInspect, ExecStart};

use crate::client::{Client, escape};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::opts::{env, validate};
use crate::stream::{Attached, Ended, Forwarding, Wires, send_resize};
use crate::term::{self, RawMode};

const FLAGS: &[Flag] = &[
    Flag::new('d', "detach", Kind::Bool, "Detached mode: run command in the background"),
    Flag::new(NO, "detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    Flag::new('e', "env", Kind::List, "Set environment variables").check(validate::env),
    Flag::new(NO, "env-file", Kind::List, "Read in a file of environment variables"),
    Flag::new('i', "interactive", Kind::Bool, "Keep STDIN open even if not attached"),
    Flag::new(NO, "privileged", Kind::Bool, "Give extended privileges to the command"),
    Flag::new('t', "tty", Kind::Bool, "Allocate a pseudo-TTY"),
    Flag::new('u', "user", Kind::Str, "Username or UID (format: \"<name|uid>[:<group|gid>]\")"),
    Flag::new('w', "workdir", Kind::Str, "Working directory inside the container"),
];

/// `exec`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    aliases: &["container exec", "exec"],
    flags: &[FLAGS],
    args: Args::AtLeast(2),
    interspersed: false,
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let (detach, tty, stdin) = (matches.bool("detach"), matches.bool("tty"), matches.bool("interactive"));
    let (stdin, terminal) = (stdin && !detach, term::is_terminal(rustix::stdio::stdin()));
    if tty && stdin && !terminal {
        return Err(Failure::refused("the input device is not a TTY"));
    }
    let console_size = if tty { term::size().map(|(h, w)| [h, w]) } else { None };
    let variables = env::variables(&matches.list("env-file"), &matches.list("env"))?;
    let config = ExecConfig {
        user: matches.str("user").to_owned(),
        privileged: matches.bool("privileged"),
        tty,
        console_size,
        attach_stdin: stdin,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach,
        detach_keys: matches.str("detach-keys").to_owned(),
        env: if variables.is_empty() { None } else { Some(variables) },
        working_dir: matches.str("workdir").to_owned(),
        cmd: Some(invocation.args()[1..].to_vec()),
    };
    let client = invocation.client()?;
    let path = format!("/containers/{}/exec", escape(invocation.arg(0)));
    let exec: IdBody = client.post(path).exchange_json(&config)?;
    if exec.id.is_empty() {
        return Err(Failure::refused("exec ID empty"));
    }
    let path = format!("/exec/{}", exec.id);
    let start = ExecStart { detach, tty, console_size };
    if detach {
        let response = client.post(format!("{path}/start")).send_json(&start)?;
        client.discard(response);
        return Ok(());
    }
    let detach_keys = super::run::detach_keys(invocation)?;
    let wires = Wires { stdin, stdout: true, stderr: true, tty, detach: detach_keys };
    attached(client, &path, &start, wires)
}

fn attached(client: &Arc<Client>, path: &str, start: &ExecStart, wires: Wires) -> Outcome {
    let (tty, interactive) = (wires.tty, wires.tty && wires.stdin);
    let response = client.post(format!("{path}/start")).hijack().send_json(start)?;
    let attached = Attached::new(response.body.into_conn(), wires);
    let raw = interactive.then(RawMode::enter).transpose()?;
    // Without a terminal of its own the process gets no signals of ours, as with docker: Ctrl-C
    // ends this client.
    let caught = if tty { Some(term::catch(interactive, true)?) } else { None };
    attached.start_stdin()?;
    let resize = tty.then(|| path.to_owned());
    if resize.is_some() {
        // The engine lets a resize wait until the process exists: not on this thread.
        let (client, path) = (Arc::clone(client), path.to_owned());
        std::thread::Builder::new().name("resize".to_owned()).spawn(move || send_resize(&client, &path))?;
    }
    let mut forwarder = Forwarding { kill: None, resize }.when_needed(client, caught);
    let ended = attached.copy_output(&mut forwarder);
    drop(raw);
    match ended? {
        Ended::Detached => Err(Failure::refused("read escape sequence")),
        Ended::Closed => exit_status(client, path),
    }
}

fn exit_status(client: &Client, path: &str) -> Outcome {
    let state: ExecInspect = client.get(format!("{path}/json")).json()?;
    match state.exit_code {
        None | Some(0) => Ok(()),
        Some(code) => Err(Failure::Exit(u8::try_from(code & 0xff).unwrap_or(1))),
    }
}
