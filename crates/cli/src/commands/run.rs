//! `run`: create, wire up, start, wait.
//!
//! ```text
//! connection A   create ──▶ id     wait ─────────────────────────────────▶ exit status
//! connection B                     attach ──▶ 101 … output ……………………………………▶ EOF
//! connection C                                     start ──▶ 204
//! ```
//! docker's client asks one thing after the other; here wait and attach are on their way at the
//! same time, and start follows as soon as both are known to be in place: before that, an exit or
//! the first output could be missed.

use std::sync::Arc;

use seacow_spec::docker::container::{CreateRequest, WaitResponse};

use super::create::{create, own_words};
use crate::client::Client;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome, USAGE};
use crate::flags::{Flag, Kind, Matches, NO};
use crate::http::{Conn, Response};
use crate::opts::container::create_request;
use crate::opts::container_flags::CONTAINER;
use crate::stream::{Attached, DetachKeys, Ended, Forwarder, Forwarding, Wires, send_resize};
use crate::term::{self, RawMode};

const FLAGS: &[Flag] = &[
    Flag::new('d', "detach", Kind::Bool, "Run container in background and print container ID"),
    Flag::new(NO, "detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    Flag::new(NO, "sig-proxy", Kind::Bool, "Proxy received signals to the process (default true)")
        .default("true"),
];

/// `run`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    aliases: &["container run", "run"],
    flags: &[FLAGS, CONTAINER],
    args: Args::AtLeast(1),
    interspersed: false,
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let plan = plan(invocation).map_err(|f| match f {
        // Said without the frame of a failed run, as docker says it.
        Failure::Refused(text) if text == NOT_A_TTY || text == ATTACH_AND_DETACH => Failure::Refused(text),
        other => own_words(other, invocation.path),
    })?;
    let failed = |f| own_words(f, invocation.path);
    let client = invocation.client().map_err(failed)?;
    let created = create(invocation, &plan.request).map_err(failed)?;
    if plan.detach {
        start(client, &created.id).map_err(|f| start_failure(f, invocation.path))?;
        return crate::outln(&created.id);
    }
    foreground(invocation, client, &plan, &created.id)
}

/// What one invocation of `run` is going to do.
struct Plan {
    request: CreateRequest,
    detach: bool,
    wires: Wires,
    sig_proxy: bool,
}

const ATTACH_AND_DETACH: &str = "conflicting options: cannot specify both --attach and --detach";

const NOT_A_TTY: &str = "the input device is not a TTY";

fn plan(invocation: &Invocation<'_>) -> Result<Plan, Failure> {
    let matches = invocation.matches;
    let mut request = create_request(matches)?;
    let (rows, columns) = term::size().unwrap_or((0, 0));
    request.host_config.console_size = [rows, columns];
    let detach = matches.bool("detach");
    if detach {
        if !matches.list("attach").is_empty() {
            return Err(Failure::refused(ATTACH_AND_DETACH));
        }
        let config = &mut request.config;
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    }
    let config = &request.config;
    if config.tty && config.attach_stdin && !term::is_terminal(rustix::stdio::stdin()) {
        return Err(Failure::refused(NOT_A_TTY));
    }
    let wires = Wires {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        detach: if detach { DetachKeys::default() } else { detach_keys(invocation)? },
    };
    Ok(Plan { detach, wires, sig_proxy: matches.bool("sig-proxy"), request })
}

/// `--detach-keys`, or the ones of the configuration.
pub(crate) fn detach_keys(invocation: &Invocation<'_>) -> Result<DetachKeys, Failure> {
    let given = invocation.matches.given("detach-keys").map(str::to_owned);
    // The configuration is read only by somebody who can type the keys.
    let typed = invocation.matches.bool("tty") || given.is_some();
    let keys = given.or_else(|| if typed { invocation.globals.config.string("detachKeys") } else { None });
    DetachKeys::parse(&keys.unwrap_or_default()).map_err(Failure::Refused)
}

fn start(client: &Client, id: &str) -> Result<(), Failure> {
    Ok(client.post(format!("/containers/{id}/start")).done()?)
}

/// A container that does not start: 127 if the command is not there, 126 if it cannot be run.
pub(crate) fn start_failure(failure: Failure, path: &str) -> Failure {
    let text = failure.to_string();
    let code = if [
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]
    .iter()
    .any(|t| text.contains(t))
    {
        127
    } else if ["permission denied", "is a directory"].iter().any(|t| text.contains(t)) {
        126
    } else {
        USAGE
    };
    match own_words(failure, path) {
        Failure::Status { text, .. } => Failure::Status { text, code },
        other => other,
    }
}

fn foreground(invocation: &Invocation<'_>, client: &Arc<Client>, plan: &Plan, id: &str) -> Outcome {
    let failed = |f| own_words(f, invocation.path);
    let path = format!("/containers/{id}");
    let condition = if plan.request.host_config.auto_remove { "removed" } else { "next-exit" };
    let meanwhile = || {
        client.open_ahead()?;
        catch_signals(plan.sig_proxy, plan.wires.tty)
    };
    let (attached, waiting, caught) =
        wire_up(client, &path, &plan.wires, condition, meanwhile).map_err(failed)?;
    let interactive = plan.wires.tty && plan.wires.stdin;
    let raw = interactive.then(RawMode::enter).transpose().map_err(|e| failed(e.into()))?;
    if let Some(attached) = &attached {
        attached.start_stdin().map_err(|e| failed(e.into()))?;
    }
    if let Err(failure) = start(client, id) {
        if let Some(attached) = attached {
            attached.abandon();
        }
        drop(raw);
        if plan.request.host_config.auto_remove {
            // The engine removes what did not start; the user's next command must not meet it.
            let _ = waiting.result(&mut Forwarder::idle());
        }
        return Err(start_failure(failure, invocation.path));
    }
    let tty = plan.wires.tty.then(|| path.clone());
    if tty.is_some() {
        send_resize(client, &path);
    }
    let forwarding = Forwarding { kill: plan.sig_proxy.then_some(path), resize: tty };
    let outcome = finish(attached, waiting, forwarding.when_needed(client, caught));
    drop(raw);
    outcome
}

fn finish(attached: Option<Attached>, waiting: Waiting, mut forwarder: Forwarder) -> Outcome {
    if let Some(attached) = attached
        && attached.copy_output(&mut forwarder)? == Ended::Detached
    {
        return Ok(());
    }
    exit_status(waiting.result(&mut forwarder)?)
}

/// The container's exit status as ours.
pub(crate) fn exit_status(result: WaitResponse) -> Outcome {
    if let Some(error) = result.error.filter(|e| !e.message.is_empty()) {
        eprintln!("Error waiting for container: {}", error.message);
        return Err(Failure::Exit(USAGE));
    }
    match u8::try_from(result.status_code & 0xff) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Exit(code)),
        Err(_) => Err(Failure::Exit(USAGE)),
    }
}

/// Signals are caught before the container runs, so that none is lost.
pub(crate) fn catch_signals(proxy: bool, tty: bool) -> Result<Option<term::Caught>, Failure> {
    if !proxy && !tty {
        return Ok(None);
    }
    Ok(Some(term::catch(true, tty)?))
}

/// A wait whose answer has begun.
pub(crate) struct Waiting(Response);

impl Waiting {
    /// The exit status, once there is one. Signals are passed on meanwhile.
    pub(crate) fn result(mut self, forwarder: &mut Forwarder) -> Result<WaitResponse, Failure> {
        forwarder.go_unless_soon(self.0.body.conn())?;
        let bytes = self.0.body.collect()?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Failure::Refused(format!("error waiting for container: {e}")))
    }
}

/// Sends wait and attach, does `meanwhile`, and returns once the engine has taken both.
pub(crate) fn wire_up<T>(
    client: &Client,
    path: &str,
    wires: &Wires,
    condition: &str,
    meanwhile: impl FnOnce() -> Result<T, Failure>,
) -> Result<(Option<Attached>, Waiting, T), Failure> {
    let mut waiting = client.connection()?;
    let mut wait = client.post(format!("{path}/wait")).query_some("condition", condition);
    wait.send_on(&mut waiting)?;
    if !(wires.stdin || wires.stdout || wires.stderr) {
        let done = meanwhile()?;
        return Ok((None, Waiting(wait.receive_on(waiting)?), done));
    }
    let mut attaching = Conn::new(client.endpoint.connect()?);
    let mut attach = client
        .post(format!("{path}/attach"))
        .flag("stderr", wires.stderr)
        .flag("stdin", wires.stdin)
        .flag("stdout", wires.stdout)
        .flag("stream", true)
        .hijack();
    attach.send_on(&mut attaching)?;
    let done = meanwhile()?;
    let response = attach.receive_on(attaching)?;
    let attached = Attached::new(response.body.into_conn(), wires.clone());
    Ok((Some(attached), Waiting(wait.receive_on(waiting)?), done))
}

/// Which streams `start -a` and `attach` connect.
pub(crate) fn wires_of(
    invocation: &Invocation<'_>,
    matches: &Matches,
    stdin: bool,
    tty: bool,
) -> Result<Wires, Failure> {
    let keys = matches.given("detach-keys").map(str::to_owned);
    let keys = keys.or_else(|| if tty { invocation.globals.config.string("detachKeys") } else { None });
    let detach = DetachKeys::parse(&keys.unwrap_or_default()).map_err(Failure::Refused)?;
    Ok(Wires { stdin, stdout: true, stderr: true, tty, detach })
}
