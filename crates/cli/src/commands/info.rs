//! `info`: this client and the engine that answered, at length.

use std::fmt::Write as _;

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::format::Json;
use crate::format::template::{Format, value};
use crate::format::units::bytes_size;

const FLAGS: &[Flag] = &[Flag::new(
    'f',
    "format",
    Kind::Str,
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
)];

/// `info`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Display system-wide information",
    aliases: &["system info", "info"],
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let fetched = invocation.client().and_then(|c| Ok(c.get("/info").json::<Json>()?));
    let (server, failure) = match fetched {
        Ok(server) => (Some(server), None),
        Err(failure) => (None, Some(failure)),
    };
    let context = super::context::current(invocation.globals);
    let format = invocation.matches.str("format");
    if !format.is_empty() {
        let json = whole(server, &context);
        let template = Format::parse(if format == "json" { "{{json .}}" } else { format })
            .map_err(|e| Failure::Refused(e.to_string()))?;
        let text = template
            .render(&value(&json), "system.dockerInfo")
            .map_err(|e| Failure::Refused(e.to_string().replace("failed to execute template: ", "")))?;
        crate::outln(&text)?;
        return failure.map_or(Ok(()), Err);
    }
    let mut page = format!(
        "Client: seacow\n Version:    {}\n Context:    {context}\n Debug Mode: false\n\nServer:{}\n",
        crate::VERSION,
        engine_name(invocation)
    );
    match (&server, failure) {
        (Some(server), _) => {
            page.push_str(&server_page(server));
            crate::out(&page)?;
            for warning in server.get("Warnings").strings() {
                eprintln!("{warning}");
            }
            Ok(())
        }
        (None, failure) => {
            crate::out(&page)?;
            failure.map_or(Ok(()), Err)
        }
    }
}

/// A blank and who answered, which `/info` itself does not say; nothing where nobody said it.
fn engine_name(invocation: &Invocation<'_>) -> String {
    let asked = invocation.client().and_then(|c| Ok(c.get("/version").json::<Json>()?));
    let name = asked.map(|version| version.get("Platform").str("Name").to_owned()).unwrap_or_default();
    if name.is_empty() { name } else { format!(" {name}") }
}

/// docker's document: the engine's members with `ClientInfo` behind them.
fn whole(server: Option<Json>, context: &str) -> Json {
    let mut members = match server {
        Some(Json::Object(members)) => members,
        _ => Vec::new(),
    };
    let text = |s: &str| Json::String(s.to_owned());
    let client = vec![
        ("Debug".to_owned(), Json::Bool(false)),
        ("Version".to_owned(), text(crate::VERSION)),
        ("Context".to_owned(), text(context)),
        ("Plugins".to_owned(), Json::Array(Vec::new())),
        ("Warnings".to_owned(), Json::Null),
    ];
    members.push(("ClientInfo".to_owned(), Json::Object(client)));
    Json::Object(members)
}

fn server_page(s: &Json) -> String {
    let mut out = String::new();
    counts(s, &mut out);
    plugins(s, &mut out);
    runtimes(s, &mut out);
    host(s, &mut out);
    registries(s, &mut out);
    out
}

/// ` Name: value`, unless there is no value. Writing to a String cannot fail.
fn line(out: &mut String, name: &str, value: impl AsRef<str>) {
    if !value.as_ref().is_empty() {
        let _ = writeln!(out, " {name}: {}", value.as_ref());
    }
}

fn counts(s: &Json, out: &mut String) {
    line(out, "Containers", s.int("Containers").to_string());
    line(out, " Running", s.int("ContainersRunning").to_string());
    line(out, " Paused", s.int("ContainersPaused").to_string());
    line(out, " Stopped", s.int("ContainersStopped").to_string());
    line(out, "Images", s.int("Images").to_string());
    line(out, "Server Version", s.str("ServerVersion"));
    line(out, "Storage Driver", s.str("Driver"));
    for pair in s.get("DriverStatus").array() {
        if let [name, value] = pair.strings()[..] {
            let _ = writeln!(out, "  {name}: {value}");
        }
    }
    line(out, "Logging Driver", s.str("LoggingDriver"));
    line(out, "Cgroup Driver", s.str("CgroupDriver"));
    line(out, "Cgroup Version", s.str("CgroupVersion"));
}

fn plugins(s: &Json, out: &mut String) {
    let plugins = s.get("Plugins");
    out.push_str(" Plugins:\n");
    for kind in ["Volume", "Network", "Authorization", "Log"] {
        let names = plugins.get(kind).strings();
        if !names.is_empty() {
            let _ = writeln!(out, "  {kind}: {}", names.join(" "));
        }
    }
    let swarm = s.get("Swarm").str("LocalNodeState");
    line(out, "Swarm", if swarm.is_empty() { "inactive" } else { swarm });
}

fn runtimes(s: &Json, out: &mut String) {
    let names: Vec<&str> = s.get("Runtimes").members().iter().map(|(n, _)| n.as_str()).collect();
    if !names.is_empty() {
        let _ = writeln!(out, " Runtimes: {}", names.join(" "));
        line(out, "Default Runtime", s.str("DefaultRuntime"));
    }
    line(out, "Init Binary", s.str("InitBinary"));
    for (title, key) in [("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")] {
        if !s.get(key).is_null() {
            let _ = writeln!(out, " {title} version: {}", s.get(key).str("ID"));
        }
    }
    let options = s.get("SecurityOptions").strings();
    if !options.is_empty() {
        out.push_str(" Security Options:\n");
    }
    for option in options {
        for part in option.split(',') {
            match part.split_once('=') {
                Some(("name", name)) => {
                    let _ = writeln!(out, "  {name}");
                }
                Some(("profile", profile)) => {
                    let _ = writeln!(out, "   Profile: {profile}");
                }
                Some((key, value)) => {
                    let _ = writeln!(out, "   {key}: {value}");
                }
                None => {
                    let _ = writeln!(out, "  {part}");
                }
            }
        }
    }
}

fn host(s: &Json, out: &mut String) {
    line(out, "Kernel Version", s.str("KernelVersion"));
    line(out, "Operating System", s.str("OperatingSystem"));
    line(out, "OSType", s.str("OSType"));
    line(out, "Architecture", s.str("Architecture"));
    line(out, "CPUs", s.int("NCPU").to_string());
    line(out, "Total Memory", bytes_size(s.int("MemTotal") as f64));
    line(out, "Name", s.str("Name"));
    line(out, "ID", s.str("ID"));
    line(out, "Docker Root Dir", s.str("DockerRootDir"));
    line(out, "Debug Mode", s.bool("Debug").to_string());
    line(out, "HTTP Proxy", s.str("HttpProxy"));
    line(out, "HTTPS Proxy", s.str("HttpsProxy"));
    line(out, "No Proxy", s.str("NoProxy"));
    for label in s.get("Labels").strings() {
        let _ = writeln!(out, "  {label}");
    }
    line(out, "Experimental", s.bool("ExperimentalBuild").to_string());
}

fn registries(s: &Json, out: &mut String) {
    let config = s.get("RegistryConfig");
    let ranges = config.get("InsecureRegistryCIDRs").strings();
    let insecure: Vec<&str> = config
        .get("IndexConfigs")
        .members()
        .iter()
        .filter(|(_, c)| !c.bool("Secure"))
        .map(|(n, _)| n.as_str())
        .chain(ranges)
        .collect();
    if !insecure.is_empty() {
        let _ = writeln!(out, " Insecure Registries:\n  {}", insecure.join("\n  "));
    }
    let mirrors = config.get("Mirrors").strings();
    if !mirrors.is_empty() {
        let _ = writeln!(out, " Registry Mirrors:\n  {}", mirrors.join("\n  "));
    }
    line(out, "Live Restore Enabled", s.bool("LiveRestoreEnabled").to_string());
    line(out, "Product License", s.str("ProductLicense"));
    out.push('\n');
}
