//! `doctor`: what is wrong, and what to do about it. First this client's own view, then the
//! engine's.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use seacow_spec::docker::system::{Check, Diagnosis, Verdict};

use crate::command::{Args, Command, Invocation};
use crate::config::{docker_dir, read_object};
use crate::connect::context::{DEFAULT, dir as context_dir};
use crate::connect::{DEFAULT_SOCKET, access, autostart};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::globals::Globals;

const FLAGS: &[Flag] = &[Flag::new(NO, "json", Kind::Bool, "Print the checks as JSON")];

/// `doctor`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Check this machine and the engine, and say how to mend what is wrong",
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let mut checks = client_checks();
    match engine(invocation.globals) {
        Ok((check, theirs)) => {
            checks.push(check);
            checks.extend(theirs);
        }
        Err(check) => checks.push(check),
    }
    let failed = checks.iter().filter(|c| c.verdict == Verdict::Failed).count();
    if invocation.matches.bool("json") {
        let json = serde_json::to_string_pretty(&Diagnosis { checks });
        crate::outln(&json.map_err(|e| Failure::Refused(e.to_string()))?)?;
    } else {
        crate::out(&page(&checks))?;
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Exit(1)) }
}

fn page(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Failed => "FAIL",
        };
        out.push_str(&format!("{mark}  {}: {}\n", check.name, check.found));
        if !check.mend.is_empty() {
            out.push_str(&format!("      -> {}\n", check.mend));
        }
    }
    let count = |v: Verdict| checks.iter().filter(|c| c.verdict == v).count();
    out.push_str(&match (count(Verdict::Failed), count(Verdict::Warning)) {
        (0, 0) => "\nAll is well.\n".to_owned(),
        (0, warnings) => format!("\nNothing is broken; {warnings} to look at.\n"),
        (failed, warnings) => format!("\n{failed} broken, {warnings} to look at.\n"),
    });
    out
}

fn check(name: &str, verdict: Verdict, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.to_owned(), verdict, found: found.into(), mend: mend.into() }
}

fn client_checks() -> Vec<Check> {
    vec![user(), socket(), daemon_program(), docker_host(), docker_context()]
}

fn user() -> Check {
    if rustix::process::geteuid().is_root() {
        return check("user", Verdict::Ok, "root", "");
    }
    let own = rustix::process::getuid().as_raw();
    let socket = Path::new(DEFAULT_SOCKET);
    if access::is_member(socket) {
        return check("user", Verdict::Ok, format!("uid {own}, a member of the socket's group"), "");
    }
    check(
        "user",
        Verdict::Warning,
        format!("uid {own}: neither root nor a member of the socket's group"),
        format!("{}; or run seacow with sudo", access::mend(socket)),
    )
}

fn socket() -> Check {
    let path = Path::new(DEFAULT_SOCKET);
    match path.metadata() {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            if mode & 0o007 != 0 {
                return check(
                    "socket",
                    Verdict::Warning,
                    format!(
                        "{DEFAULT_SOCKET} is open to everybody (mode {mode:03o}): whoever reaches it is root here"
                    ),
                    format!("chmod o= {DEFAULT_SOCKET}"),
                );
            }
            check("socket", Verdict::Ok, format!("{DEFAULT_SOCKET} (mode {mode:03o})"), "")
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => check(
            "socket",
            Verdict::Warning,
            format!("{DEFAULT_SOCKET} does not exist: no daemon is running there"),
            "sudo seacow daemon start (any command run as root starts it, too)",
        ),
        Err(e) => check("socket", Verdict::Failed, format!("{DEFAULT_SOCKET}: {e}"), ""),
    }
}

fn daemon_program() -> Check {
    match autostart::find_daemon() {
        Ok(path) if path.is_file() => check("daemon program", Verdict::Ok, path.display().to_string(), ""),
        Ok(path) => check(
            "daemon program",
            Verdict::Failed,
            format!("SEACOW_DAEMON={} is no file", path.display()),
            "unset SEACOW_DAEMON",
        ),
        Err(_) => check(
            "daemon program",
            Verdict::Warning,
            "there is no seacowd beside this program or on the PATH",
            "install seacowd beside seacow; until then a daemon must be running already",
        ),
    }
}

fn docker_host() -> Check {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => check(
            "DOCKER_HOST",
            Verdict::Warning,
            format!("{host}: docker goes there; seacow does only if a seacow answers"),
            format!("unset DOCKER_HOST, or set it to unix://{DEFAULT_SOCKET} to have docker drive seacow"),
        ),
        _ => check("DOCKER_HOST", Verdict::Ok, "not set", ""),
    }
}

fn docker_context() -> Check {
    let dir = docker_dir();
    let config = read_object(&dir.join("config.json"));
    let current = config.get("currentContext").and_then(|c| c.as_str()).unwrap_or(DEFAULT).to_owned();
    if context_dir(&dir, "seacow").join("meta.json").is_file() {
        return check(
            "docker context",
            Verdict::Ok,
            format!("docker --context seacow is there; docker uses {current:?} now"),
            "",
        );
    }
    check(
        "docker context",
        Verdict::Ok,
        format!("docker uses {current:?}; it has no context for seacow"),
        "seacow context docker makes `docker --context seacow` reach seacow",
    )
}

/// Who answers, and what it says of itself.
fn engine(globals: &Globals) -> Result<(Check, Vec<Check>), Check> {
    let failed = |text: String| check("engine", Verdict::Failed, text, "");
    let client = globals.client().map_err(|e| failed(e.to_string()))?;
    let url = client.endpoint.url.clone();
    let response = client.call("GET", "/_ping").unversioned().send().map_err(|e| failed(e.to_string()))?;
    let is_seacow = response.head.field("Seacow-Api").is_some();
    client.discard(response);
    if !is_seacow {
        let found =
            format!("{url} answers, but it is not a seacow: own commands (cow, doctor) will not work");
        return Ok((check("engine", Verdict::Warning, found, "seacow -H names another engine"), Vec::new()));
    }
    let answers = check("engine", Verdict::Ok, format!("a seacow answers at {url}"), "");
    match client.get("/system/doctor").json::<Diagnosis>() {
        Ok(diagnosis) => Ok((answers, diagnosis.checks)),
        Err(e) if matches!(e.status(), Some(404 | 501)) => Ok((answers, Vec::new())),
        Err(e) => Err(failed(format!("{url}: {e}"))),
    }
}
