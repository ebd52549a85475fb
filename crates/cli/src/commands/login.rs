//! `login`: credentials for a registry, tried by the engine and then stored.

use std::io::{BufRead, Read, Write};

use serde_json::json;

use super::auth;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('p', "password", Kind::Str, "Password or Personal Access Token (PAT)"),
    Flag::new(
        NO,
        "password-stdin",
        Kind::Bool,
        "Take the Password or Personal Access Token (PAT) from stdin",
    ),
    Flag::new('u', "username", Kind::Str, "Username"),
];

/// `login`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [SERVER]",
    about: "Authenticate to a registry.",
    aliases: &[],
    long: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    flags: &[FLAGS],
    args: Args::AtMost(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let server = server(invocation.arg(0));
    let (mut user, mut password) = (matches.str("username").to_owned(), matches.str("password").to_owned());
    if matches.bool("password-stdin") {
        if !password.is_empty() {
            return Err(Failure::refused("--password and --password-stdin are mutually exclusive"));
        }
        if user.is_empty() {
            return Err(Failure::refused("Must provide --username with --password-stdin"));
        }
        std::io::stdin().read_to_string(&mut password)?;
        password = password.trim_end_matches(['\n', '\r']).to_owned();
    } else if !password.is_empty() {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if user.is_empty() || password.is_empty() {
        if !term::is_terminal(rustix::stdio::stdin()) {
            return Err(Failure::refused("Error: Cannot perform an interactive login from a non TTY device"));
        }
        if user.is_empty() {
            user = ask("Username: ", true)?;
        }
        password = ask("Password: ", false)?;
    }
    let body = json!({"username": user, "password": password, "serveraddress": server});
    let answer: Json = invocation.client()?.post("/auth").exchange_json(&body)?;
    let token = answer.str("IdentityToken");
    auth::store(&invocation.globals.config, &server, &user, &password, token)?;
    let status = answer.str("Status");
    crate::outln(if status.is_empty() { "Login Succeeded" } else { status })
}

/// The key of a server's credentials: a bare host name, or Docker Hub's address.
pub(super) fn server(argument: &str) -> String {
    if matches!(argument, "" | "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        return auth::HUB.to_owned();
    }
    let bare = argument.trim_start_matches("https://").trim_start_matches("http://");
    bare.split('/').next().unwrap_or(bare).to_owned()
}

fn ask(prompt: &str, echo: bool) -> Result<String, Failure> {
    let mut stderr = std::io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let silence = if echo { None } else { Some(term::NoEcho::enter()?) };
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if silence.is_some() {
        drop(silence);
        eprintln!();
    }
    let line = line.trim_end_matches(['\n', '\r']).to_owned();
    if line.is_empty() {
        return Err(Failure::Refused(format!(
            "{} required",
            prompt.trim_end_matches([':', ' ']).to_lowercase()
        )));
    }
    Ok(line)
}
