//! `inspect`: everything the engine knows of an object.

use std::io::Write;

use crate::client::{Client, ClientError, escape, escape_path};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::format::json::indent;
use crate::format::template::{Format, FormatError, value};

const FLAGS: &[Flag] = &[
    Flag::new(
        'f',
        "format",
        Kind::Str,
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('s', "size", Kind::Bool, "Display total file sizes if the type is container"),
    Flag::new(NO, "type", Kind::Str, "Only inspect objects of the given type"),
];

/// `inspect`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Return low-level information on Docker objects",
    aliases: &[],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run: any,
    ..Command::EMPTY
};

const CONTAINER_FLAGS: &[Flag] = &[
    Flag::new(
        'f',
        "format",
        Kind::Str,
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('s', "size", Kind::Bool, "Display total file sizes"),
];

/// `container inspect`
pub(crate) const CONTAINER: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    aliases: &[],
    flags: &[CONTAINER_FLAGS],
    args: Args::AtLeast(1),
    run: |i| only(i, Object::Container),
    ..Command::EMPTY
};

const IMAGE_FLAGS: &[Flag] = &[
    Flag::new(
        'f',
        "format",
        Kind::Str,
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new(
        NO,
        "platform",
        Kind::Str,
        "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
];

/// `image inspect`
pub(crate) const IMAGE: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    aliases: &[],
    flags: &[IMAGE_FLAGS],
    args: Args::AtLeast(1),
    run: |i| only(i, Object::Image),
    ..Command::EMPTY
};

const NETWORK_FLAGS: &[Flag] = &[
    Flag::new(
        'f',
        "format",
        Kind::Str,
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('v', "verbose", Kind::Bool, "Verbose output for diagnostics"),
];

/// `network inspect`
pub(crate) const NETWORK: Command = Command {
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Display detailed information on one or more networks",
    aliases: &[],
    flags: &[NETWORK_FLAGS],
    args: Args::AtLeast(1),
    run: |i| only(i, Object::Network),
    ..Command::EMPTY
};

const VOLUME_FLAGS: &[Flag] = &[Flag::new(
    'f',
    "format",
    Kind::Str,
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
)];

/// `volume inspect`
pub(crate) const VOLUME: Command = Command {
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Display detailed information on one or more volumes",
    aliases: &[],
    flags: &[VOLUME_FLAGS],
    args: Args::AtLeast(1),
    run: |i| only(i, Object::Volume),
    ..Command::EMPTY
};

/// Kinds of objects, in the order in which a bare name is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    Container,
    Image,
    Network,
    Volume,
}

const ALL: [Object; 4] = [Object::Container, Object::Image, Object::Network, Object::Volume];

/// Types that docker knows and no engine of ours has.
const FOREIGN: [&str; 6] = ["config", "node", "plugin", "secret", "service", "task"];

impl Object {
    fn named(name: &str) -> Option<Self> {
        match name {
            "container" => Some(Object::Container),
            "image" => Some(Object::Image),
            "network" => Some(Object::Network),
            "volume" => Some(Object::Volume),
            _ => None,
        }
    }

    fn fetch(self, invocation: &Invocation<'_>, client: &Client, name: &str) -> Result<Vec<u8>, ClientError> {
        let matches = invocation.matches;
        let given = |flag: &str| matches.changed(flag) && matches.bool(flag);
        match self {
            Object::Container => {
                client.get(format!("/containers/{}/json", escape(name))).flag("size", given("size")).bytes()
            }
            Object::Image => client.get(format!("/images/{}/json", escape_path(name))).bytes(),
            Object::Network => {
                client.get(format!("/networks/{}", escape(name))).flag("verbose", given("verbose")).bytes()
            }
            Object::Volume => client.get(format!("/volumes/{}", escape(name))).bytes(),
        }
    }
}

fn any(invocation: &Invocation<'_>) -> Outcome {
    let wanted = invocation.matches.str("type");
    if wanted.is_empty() {
        return show(invocation, &ALL);
    }
    match Object::named(wanted) {
        Some(object) => {
            if invocation.matches.bool("size") && object != Object::Container {
                eprintln!("WARNING: --size ignored for {wanted}s");
            }
            show(invocation, &[object])
        }
        None if FOREIGN.contains(&wanted) => {
            Err(Failure::Refused(format!("NotImplemented: seacow has no objects of type {wanted}")))
        }
        None => Err(Failure::Refused(format!(
            "unknown type: {wanted:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
        ))),
    }
}

fn only(invocation: &Invocation<'_>, object: Object) -> Outcome {
    show(invocation, &[object])
}

/// Prints what was found, then says what was not.
fn show(invocation: &Invocation<'_>, objects: &[Object]) -> Outcome {
    let client = invocation.client()?;
    let format = invocation.matches.str("format");
    let template = match format {
        "" | "json" => None,
        format => Some(Format::parse(format).map_err(template_error)?),
    };
    let mut raw: Vec<Vec<u8>> = Vec::new();
    let mut rendered = String::new();
    let mut failures = Vec::new();
    for name in invocation.args() {
        match find(invocation, client, name, objects) {
            Ok(document) => match &template {
                None => raw.push(document),
                Some(template) => match render(template, &document) {
                    Ok(text) => rendered.push_str(&(text + "\n")),
                    Err(failure) => {
                        failures.push(failure);
                        break;
                    }
                },
            },
            Err(failure) => failures.push(failure),
        }
    }
    let text = if template.is_some() { rendered } else { documents(&raw, format) };
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes())?;
    // docker ends its answer with an empty line when a template had nothing to show.
    if template.is_some() && text.is_empty() {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Failure::all(failures)
}

/// A JSON array of the documents as the engine sent them.
fn documents(raw: &[Vec<u8>], format: &str) -> String {
    let joined: Vec<String> = raw.iter().map(|d| String::from_utf8_lossy(d).trim().to_owned()).collect();
    let array = format!("[{}]", joined.join(","));
    if format == "json" { array + "\n" } else { indent(&array) + "\n" }
}

fn render(template: &Format, document: &[u8]) -> Result<String, Failure> {
    let json =
        Json::parse(document).map_err(|e| Failure::Refused(format!("unable to read inspect data: {e}")))?;
    template.render_document(&value(&json)).map_err(template_error)
}

/// docker prefixes what Go's template package says.
fn template_error(error: FormatError) -> Failure {
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to parse template: ")
        .or_else(|| text.strip_prefix("failed to execute template: "))
        .unwrap_or(&text);
    Failure::Refused(format!("template parsing error: {text}"))
}

fn find(
    invocation: &Invocation<'_>,
    client: &Client,
    name: &str,
    objects: &[Object],
) -> Result<Vec<u8>, Failure> {
    let mut last = None;
    for object in objects {
        match object.fetch(invocation, client, name) {
            Ok(document) => return Ok(document),
            // A name that is no valid reference is no image's; some engines say so with 400.
            Err(e) if e.is_not_found() || (objects.len() > 1 && e.status() == Some(400)) => last = Some(e),
            // An engine without such objects has no such object.
            Err(e) if objects.len() > 1 && e.status() == Some(501) => {}
            Err(e) => return Err(e.into()),
        }
    }
    match last {
        Some(error) if objects.len() == 1 => Err(error.into()),
        _ => Err(Failure::Refused(format!("Error: No such object: {name}"))),
    }
}
