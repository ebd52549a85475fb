//! `registry`: the daemon's own, which others push to and pull from.

use std::path::Path;

use serde_json::{Map, Value};

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::format::units::human_size;

const START_FLAGS: &[Flag] = &[
    Flag::new(NO, "htpasswd", Kind::Str, "File with names and passwords, as htpasswd -B makes it"),
    Flag::new(
        NO,
        "listen",
        Kind::Str,
        "Address and port, or :PORT for all addresses (default 127.0.0.1:5000)",
    ),
    Flag::new(NO, "max-blob", Kind::Str, "Most that is taken of one blob, such as 10g (default 64g)"),
    Flag::new(NO, "read-only", Kind::Bool, "Take nothing and remove nothing"),
    Flag::new(NO, "root", Kind::Str, "Directory of its files (default registry in the daemon's data root)"),
    Flag::new(NO, "tls-cert", Kind::Str, "Certificate, in PEM; with --tls-key"),
    Flag::new(NO, "tls-key", Kind::Str, "Its key, in PEM"),
];

/// `registry start`
pub(crate) const START: Command = Command {
    usage: "[OPTIONS]",
    about: "Start the daemon's own registry",
    long: "Start the daemon's own registry, now and whenever the daemon starts, until it is stopped. Whoever \
           reaches its address may push and pull, unless there are passwords.",
    flags: &[START_FLAGS],
    args: Args::Exactly(0),
    run: start,
    ..Command::EMPTY
};

fn start(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let mut wanted = Map::new();
    if !matches.str("listen").is_empty() {
        wanted.insert("Listen".into(), matches.str("listen").into());
    }
    if matches.bool("read-only") {
        wanted.insert("ReadOnly".into(), true.into());
    }
    let paths =
        [("root", "Root"), ("htpasswd", "Htpasswd"), ("tls-cert", "TlsCertificate"), ("tls-key", "TlsKey")];
    for (flag, key) in paths {
        let given = matches.str(flag);
        if !given.is_empty() {
            // The daemon may have another working directory than we have.
            let path = std::path::absolute(Path::new(given))?;
            wanted.insert(key.into(), path.to_string_lossy().into());
        }
    }
    let size = matches.str("max-blob");
    if !size.is_empty() {
        let bytes = seacow_spec::size::parse(size).filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or_else(|| Failure::Refused(format!("invalid size: {size:?}")))?;
        wanted.insert("MaxBlob".into(), bytes.into());
    }
    let told: Json = invocation.client()?.post("/registry/start").exchange_json(&Value::Object(wanted))?;
    crate::outln(&format!("The registry listens on {}", told.str("Listen")))
}

/// `registry stop`
pub(crate) const STOP: Command = Command {
    about: "Stop the daemon's own registry; its files stay",
    args: Args::Exactly(0),
    run: stop,
    ..Command::EMPTY
};

fn stop(invocation: &Invocation<'_>) -> Outcome {
    invocation.client()?.post("/registry/stop").send()?;
    Ok(())
}

/// `registry status`
pub(crate) const STATUS: Command = Command {
    about: "Tell whether the daemon's own registry runs, where, and what it has",
    args: Args::Exactly(0),
    run: status,
    ..Command::EMPTY
};

fn status(invocation: &Invocation<'_>) -> Outcome {
    let told: Json = invocation.client()?.get("/registry").json()?;
    if !told.bool("Running") {
        return crate::outln("The registry does not run");
    }
    let config = told.get("Config");
    crate::outln(&format!("Listens on:   {}", told.str("Listen")))?;
    crate::outln(&format!("Files:        {}", config.str("Root")))?;
    crate::outln(&format!("Read-only:    {}", config.bool("ReadOnly")))?;
    let passwords = config.str("Htpasswd");
    crate::outln(&format!("Passwords:    {}", if passwords.is_empty() { "none" } else { passwords }))?;
    let tls = config.get("Tls").str("Certificate");
    crate::outln(&format!("TLS:          {}", if tls.is_empty() { "none" } else { tls }))?;
    crate::outln(&format!("Repositories: {}", told.int("Repositories")))?;
    let bytes = human_size(told.int("Bytes") as f64);
    crate::outln(&format!("Blobs:        {} ({bytes})", told.int("Blobs")))
}

const GC_FLAGS: &[Flag] = &[
    Flag::new(
        NO,
        "grace",
        Kind::Int,
        "Keep what came within so many seconds: it may belong to a push\nthat goes on (default 86400)",
    )
    .default("86400"),
    Flag::new(
        NO,
        "untagged",
        Kind::Bool,
        "Remove manifests without a tag too, unless an index lists them or\nthey tell something of one that stays",
    ),
];

/// `registry gc`
pub(crate) const GC: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove from the daemon's own registry what no manifest lists any more",
    flags: &[GC_FLAGS],
    args: Args::Exactly(0),
    run: gc,
    ..Command::EMPTY
};

fn gc(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let call = invocation.client()?.post("/registry/gc").query("grace", matches.int("grace").to_string());
    let untagged = if matches.bool("untagged") { "1" } else { "" };
    let done: Json = call.query_some("untagged", untagged).json()?;
    crate::outln(&format!("Manifests: {}", done.int("Manifests")))?;
    crate::outln(&format!("Blobs:     {}", done.int("Blobs")))?;
    crate::outln(&format!("Uploads:   {}", done.int("Uploads")))?;
    crate::outln(&format!("Total reclaimed space: {}", human_size(done.int("Bytes") as f64)))
}
