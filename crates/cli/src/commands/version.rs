//! `version`: this client's, and the engine's that answered.

use std::fmt::Write as _;

use serde::Serialize;

use crate::client::{ApiVersion, ClientError};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::format::template::{Format, value};
use crate::format::{Json, time};

const FLAGS: &[Flag] = &[Flag::new(
    'f',
    "format",
    Kind::Str,
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
)];

/// `version`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Show the Docker version information",
    aliases: &[],
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Client {
    version: String,
    api_version: String,
    #[serde(rename = "DefaultAPIVersion")]
    default_api_version: String,
    os: &'static str,
    arch: &'static str,
    context: String,
}

fn run(invocation: &Invocation<'_>) -> Outcome {
    let (server, failure) = match fetch(invocation) {
        Ok(server) => (Some(server), None),
        Err(failure) => (None, Some(failure)),
    };
    let api_version = match &failure {
        None => invocation.client()?.version(),
        Some(_) => ApiVersion::newest(),
    };
    let client = Client {
        version: crate::VERSION.to_owned(),
        api_version: api_version.to_string(),
        default_api_version: ApiVersion::newest().to_string(),
        os: std::env::consts::OS,
        arch: go_arch(std::env::consts::ARCH),
        context: super::context::current(invocation.globals),
    };
    let format = invocation.matches.str("format");
    if format.is_empty() {
        crate::out(&page(&client, server.as_ref()))?;
    } else {
        crate::outln(&formatted(format, &client, server)?)?;
    }
    failure.map_or(Ok(()), Err)
}

fn fetch(invocation: &Invocation<'_>) -> Result<Json, Failure> {
    let client = invocation.client()?;
    Ok(client.get("/version").json::<Json>().map_err(|e: ClientError| e)?)
}

/// docker's document: both halves, times of building in words.
fn formatted(format: &str, client: &Client, server: Option<Json>) -> Result<String, Failure> {
    let text = serde_json::to_string(client).map_err(|e| Failure::Refused(e.to_string()))?;
    let client = Json::parse(text.as_bytes()).map_err(|e| Failure::Refused(e.to_string()))?;
    let mut members = vec![("Client".to_owned(), client)];
    if let Some(server) = server {
        members.push(("Server".to_owned(), with_times(server)));
    }
    let json = Json::Object(members);
    if format == "json" {
        return Ok(json.compact());
    }
    let named = |text: String| {
        let text = text.replace("failed to execute template: ", "").replace("failed to parse template: ", "");
        Failure::Refused(
            text.replace("template: :", "template: version:")
                .replace("executing \"\"", "executing \"version\""),
        )
    };
    let template = Format::parse(format).map_err(|e| named(e.to_string()))?;
    template.render(&value(&json), "system.versionInfo").map_err(|e| named(e.to_string()))
}

/// The engine's answer with the components' build times as `version` words them.
fn with_times(server: Json) -> Json {
    let Json::Object(members) = server else { return server };
    let reworded = members.into_iter().map(|(key, value)| match value {
        Json::Array(components) if key == "Components" => {
            (key, Json::Array(components.into_iter().map(component_with_time).collect()))
        }
        other => (key, other),
    });
    Json::Object(reworded.collect())
}

fn component_with_time(component: Json) -> Json {
    let Json::Object(members) = component else { return component };
    let reworded = members.into_iter().map(|(key, value)| match value {
        Json::Object(details) if key == "Details" => {
            let details = details.into_iter().map(|(key, value)| match value {
                Json::String(text) if key == "BuildTime" => (key, Json::String(built(&text))),
                other => (key, other),
            });
            (key, Json::Object(details.collect()))
        }
        other => (key, other),
    });
    Json::Object(reworded.collect())
}

/// Go's names of architectures, which the API uses.
fn go_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn page(client: &Client, server: Option<&Json>) -> String {
    let mut out = String::new();
    let api = if client.api_version == client.default_api_version {
        client.api_version.clone()
    } else {
        format!("{} (downgraded from {})", client.api_version, client.default_api_version)
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "Client: seacow\n Version:           {}\n API version:       {api}\n OS/Arch:           {}/{}\n Context:           {}",
        client.version, client.os, client.arch, client.context
    );
    if let Some(server) = server {
        out.push_str(&server_page(server));
    }
    out
}

fn server_page(server: &Json) -> String {
    let name = server.get("Platform").str("Name");
    let mut out = if name.is_empty() { "\nServer:\n".to_owned() } else { format!("\nServer: {name}\n") };
    for component in server.get("Components").array() {
        let details = component.get("Details");
        let _ = writeln!(out, " {}:", component.str("Name"));
        let _ = writeln!(out, "  Version:          {}", component.str("Version"));
        if component.str("Name") != "Engine" && details.get("ApiVersion").is_null() {
            let mut members: Vec<_> = details.members().iter().collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            for (key, value) in members {
                let _ = writeln!(out, "  {:<17} {}", format!("{key}:"), value.as_str());
            }
            continue;
        }
        let _ = writeln!(
            out,
            "  API version:      {} (minimum version {})",
            details.str("ApiVersion"),
            details.str("MinAPIVersion")
        );
        if !details.str("GoVersion").is_empty() {
            let _ = writeln!(out, "  Go version:       {}", details.str("GoVersion"));
        }
        let _ = writeln!(out, "  Git commit:       {}", details.str("GitCommit"));
        let _ = writeln!(out, "  Built:            {}", built(details.str("BuildTime")));
        let _ = writeln!(out, "  OS/Arch:          {}/{}", details.str("Os"), details.str("Arch"));
        let _ = writeln!(out, "  Experimental:     {}", details.str("Experimental"));
    }
    out
}

fn built(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), time::ansic)
}
