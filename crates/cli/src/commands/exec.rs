//! `exec`: one more process in a running container.

use std::sync::Arc;

use seacow_spec::docker::IdBody;
use seacow_spec::docker::container::WaitResponse;
use seacow_spec::docker::exec::{EXEC_ID_FIELD, ExecConfig, ExecInspect, ExecStart};

use crate::client::{Call, Client, decode, escape};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::http::{Conn, Response};
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
    let create = client.post(format!("/containers/{}/exec", escape(invocation.arg(0))));
    let start = ExecStart { detach, tty, console_size };
    if detach {
        let exec = checked(create.exchange_json(&config)?)?;
        let response = client.post(format!("/exec/{exec}/start")).send_json(&start)?;
        client.discard(response);
        return Ok(());
    }
    let detach_keys = super::run::detach_keys(invocation)?;
    let wires = Wires { stdin, stdout: true, stderr: true, tty, detach: detach_keys };
    let response = create.flag("start", true).hijack_if_offered().send_json(&config)?;
    let (id, conn) = started(client, response, &start)?;
    attached(client, &format!("/exec/{id}"), conn, wires)
}

fn checked(created: IdBody) -> Result<String, Failure> {
    if created.id.is_empty() { Err(Failure::refused("exec ID empty")) } else { Ok(created.id) }
}

/// Starts what was created, unless that is done: seacow starts an exec with its creation when asked to,
/// one round trip less. Gives its id and the connection that is its streams.
fn started(client: &Client, response: Response, start: &ExecStart) -> Result<(String, Conn), Failure> {
    if response.head.status == 101 {
        let id = response.head.field(EXEC_ID_FIELD).unwrap_or_default().to_owned();
        return Ok((checked(IdBody { id })?, response.body.into_conn()));
    }
    let id = checked(decode(client, "exec".to_owned(), response)?)?;
    let response = client.post(format!("/exec/{id}/start")).hijack().send_json(start)?;
    Ok((id, response.body.into_conn()))
}

fn attached(client: &Arc<Client>, path: &str, conn: Conn, wires: Wires) -> Outcome {
    let (tty, interactive) = (wires.tty, wires.tty && wires.stdin);
    let waiting = Waiting::begin(client, path)?;
    let attached = Attached::new(conn, wires);
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
        Ended::Closed => exit_status(client, path, waiting),
    }
}

/// A wait whose answer has not been looked for: it is there when the streams have closed.
struct Waiting<'a> {
    call: Call<'a>,
    conn: Conn,
}

impl<'a> Waiting<'a> {
    fn begin(client: &'a Client, path: &str) -> Result<Self, Failure> {
        let mut conn = Conn::new(client.endpoint.connect()?);
        let mut call = client.post(format!("{path}/wait"));
        call.send_on(&mut conn)?;
        Ok(Self { call, conn })
    }
}

fn exit_status(client: &Client, path: &str, waiting: Waiting<'_>) -> Outcome {
    let code = match waiting.call.json_on::<WaitResponse>(waiting.conn) {
        Ok(ended) => ended.status_code,
        // An engine that is not seacow, or an older one.
        Err(error) if error.is_not_found() => {
            let state: ExecInspect = client.get(format!("{path}/json")).json()?;
            i64::from(state.exit_code.unwrap_or_default())
        }
        Err(error) => return Err(error.into()),
    };
    match code & 0xff {
        0 => Ok(()),
        code => Err(Failure::Exit(u8::try_from(code).unwrap_or(1))),
    }
}
