//! `context`: names for engines; and one for docker's client, so that it reaches seacow.

use std::path::Path;

use crate::command::{Args, Command, Invocation};
use crate::config::docker_dir;
use crate::connect::context::{self as store, DEFAULT, Meta};
use crate::connect::{self, Endpoint, Source};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::format::json::indent;
use crate::format::listing::{Kind as Listing, Row};
use crate::format::template::{Format, value};
use crate::globals::Globals;

const LS_FLAGS: &[Flag] = &[
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('q', "quiet", Kind::Bool, "Only show context names"),
];

/// `context ls`
pub(crate) const LS: Command = Command {
    usage: "[OPTIONS]",
    about: "List contexts",
    aliases: &["context ls", "context list"],
    flags: &[LS_FLAGS],
    args: Args::Exactly(0),
    run: ls,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
    raw: "",
    headings: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Current", ""),
        ("Error", "ERROR"),
    ],
    go_type: "*formatter.clientContextContext",
};

/// The context that commands use now.
pub(super) fn current(globals: &Globals) -> String {
    let environment = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    if globals.host.is_some() || (globals.context.is_none() && environment("SEACOW_HOST").is_some()) {
        return DEFAULT.to_owned();
    }
    let chosen = globals.context.clone().or_else(|| environment("SEACOW_CONTEXT"));
    chosen.or_else(|| globals.config.current_context()).unwrap_or_else(|| DEFAULT.to_owned())
}

/// The address that the default context stands for.
fn default_host() -> String {
    std::env::var("SEACOW_HOST").unwrap_or_else(|_| format!("unix://{}", connect::DEFAULT_SOCKET))
}

fn all(globals: &Globals) -> Vec<Meta> {
    let default = Meta::new(DEFAULT, &default_host(), "seacow's own daemon");
    let mut all = vec![default];
    all.extend(store::list(&globals.config));
    all
}

fn ls(invocation: &Invocation<'_>) -> Outcome {
    let now = current(invocation.globals);
    let rows = all(invocation.globals).into_iter().map(|meta| {
        Row::default()
            .text("Name", &meta.name)
            .text("Description", &meta.metadata.description)
            .text("DockerEndpoint", &meta.endpoints.docker.host)
            .value("Current", gotmpl::Value::Bool(meta.name == now))
            .text("Error", "")
    });
    let shape = LISTING.shape(invocation.matches.str("format"), invocation.matches.bool("quiet"));
    crate::out(&LISTING.render(&shape, rows.collect()).map_err(|e| Failure::Refused(e.to_string()))?)
}

/// `context show`
pub(crate) const SHOW: Command = Command {
    usage: "",
    about: "Print the name of the current context",
    aliases: &[],
    args: Args::Exactly(0),
    run: show,
    ..Command::EMPTY
};

fn show(invocation: &Invocation<'_>) -> Outcome {
    crate::outln(&current(invocation.globals))
}

/// `context use`
pub(crate) const USE: Command = Command {
    usage: "CONTEXT",
    about: "Set the current docker context",
    aliases: &[],
    args: Args::Exactly(1),
    run: choose,
    ..Command::EMPTY
};

fn choose(invocation: &Invocation<'_>) -> Outcome {
    let name = invocation.arg(0);
    let config = &invocation.globals.config;
    let mut values = config.read();
    if name == DEFAULT {
        values.remove("currentContext");
    } else {
        store::read(config, name)?;
        values.insert("currentContext".to_owned(), name.into());
    }
    config.write(&values)?;
    crate::outln(name)?;
    eprintln!("Current context is now {name:?}");
    if std::env::var("SEACOW_HOST").is_ok_and(|v| !v.is_empty()) {
        eprintln!(
            "Warning: SEACOW_HOST environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset SEACOW_HOST environment variable."
        );
    }
    Ok(())
}

const CREATE_FLAGS: &[Flag] = &[
    Flag::new(NO, "description", Kind::Str, "Description of the context"),
    Flag::new(
        NO,
        "docker",
        Kind::Named("stringToString"),
        "set the engine's endpoint (host=unix:///path) (default [])",
    ),
    Flag::new(NO, "from", Kind::Str, "create context from a named context"),
];

/// `context create`
pub(crate) const CREATE: Command = Command {
    usage: "[OPTIONS] CONTEXT",
    about: "Create a context",
    flags: &[CREATE_FLAGS],
    args: Args::Exactly(1),
    run: create,
    ..Command::EMPTY
};

fn create(invocation: &Invocation<'_>) -> Outcome {
    let (matches, name) = (invocation.matches, invocation.arg(0));
    let config = &invocation.globals.config;
    if name == DEFAULT {
        return Err(Failure::refused("\"default\" is a reserved context name"));
    }
    if !store::is_valid_name(name) {
        return Err(Failure::Refused(format!(
            "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
        )));
    }
    if store::read(config, name).is_ok() {
        return Err(Failure::Refused(format!("context {name:?} already exists")));
    }
    let mut host = match matches.str("from") {
        "" => String::new(),
        DEFAULT => default_host(),
        from => store::read(config, from)?.endpoints.docker.host,
    };
    for setting in matches.strings("docker") {
        match setting.split_once('=') {
            Some(("host", url)) => {
                Endpoint::parse(url, Source::Flag)?;
                url.clone_into(&mut host);
            }
            Some((key, _)) => {
                return Err(Failure::Refused(format!(
                    "unable to create context {name:?}: unrecognized config key: {key}"
                )));
            }
            None => {
                return Err(Failure::Refused(format!(
                    "invalid argument {setting:?}: must be formatted as key=value"
                )));
            }
        }
    }
    if host.is_empty() {
        host = default_host();
    }
    store::write(&config.path, &Meta::new(name, &host, matches.str("description")))?;
    crate::outln(name)?;
    eprintln!("Successfully created context {name:?}");
    Ok(())
}

const RM_FLAGS: &[Flag] = &[Flag::new('f', "force", Kind::Bool, "Force the removal of a context in use")];

/// `context rm`
pub(crate) const RM: Command = Command {
    usage: "CONTEXT [CONTEXT...]",
    about: "Remove one or more contexts",
    aliases: &["context rm", "context remove"],
    flags: &[RM_FLAGS],
    args: Args::AtLeast(1),
    run: rm,
    ..Command::EMPTY
};

fn rm(invocation: &Invocation<'_>) -> Outcome {
    let globals = invocation.globals;
    let now = current(globals);
    let mut failures = Vec::new();
    for name in invocation.args() {
        match remove(globals, name, &now, invocation.matches.bool("force")) {
            Ok(()) => crate::outln(name)?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

fn remove(globals: &Globals, name: &str, now: &str, force: bool) -> Result<(), Failure> {
    if name == DEFAULT {
        return Err(Failure::refused("context \"default\" cannot be removed"));
    }
    if let Err(e) = store::read(&globals.config, name) {
        return if force { Ok(()) } else { Err(e.into()) };
    }
    if name == now {
        if !force {
            return Err(Failure::Refused(format!("context {name:?} is in use, set -f flag to force remove")));
        }
        let mut values = globals.config.read();
        values.remove("currentContext");
        globals.config.write(&values)?;
    }
    Ok(std::fs::remove_dir_all(store::dir(&globals.config.path, name))?)
}

const INSPECT_FLAGS: &[Flag] = &[Flag::new(
    'f',
    "format",
    Kind::Str,
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
)];

/// `context inspect`
pub(crate) const INSPECT: Command = Command {
    usage: "[OPTIONS] [CONTEXT] [CONTEXT...]",
    about: "Display detailed information on one or more contexts",
    aliases: &[],
    flags: &[INSPECT_FLAGS],
    args: Args::AtLeast(0),
    run: inspect,
    ..Command::EMPTY
};

fn inspect(invocation: &Invocation<'_>) -> Outcome {
    let globals = invocation.globals;
    let names = match invocation.args() {
        [] => vec![current(globals)],
        names => names.to_vec(),
    };
    let mut documents = Vec::new();
    for name in &names {
        let found = if name == DEFAULT {
            Meta::new(DEFAULT, &default_host(), "seacow's own daemon")
        } else {
            store::read(&globals.config, name)?
        };
        documents.push(document(globals, &found)?);
    }
    let format = invocation.matches.str("format");
    if format.is_empty() || format == "json" {
        return crate::outln(&indent(&format!("[{}]", documents.join(","))));
    }
    let template = Format::parse(format).map_err(|e| Failure::Refused(e.to_string()))?;
    for text in &documents {
        let json = Json::parse(text.as_bytes()).map_err(|e| Failure::Refused(e.to_string()))?;
        let line = template.render_document(&value(&json));
        crate::outln(&line.map_err(|e| Failure::Refused(format!("template parsing error: {e}")))?)?;
    }
    Ok(())
}

fn document(globals: &Globals, meta: &Meta) -> Result<String, Failure> {
    let path = if meta.name == DEFAULT {
        "<IN MEMORY>".to_owned()
    } else {
        store::dir(&globals.config.path, &meta.name).display().to_string()
    };
    let mut json = serde_json::to_string(meta).map_err(|e| Failure::Refused(e.to_string()))?;
    json.pop();
    let storage = serde_json::json!({"MetadataPath": path, "TLSPath": "<IN MEMORY>"});
    let storage = storage.to_string().replace('<', "\\u003c").replace('>', "\\u003e");
    Ok(format!("{json},\"TLSMaterial\":{{}},\"Storage\":{storage}}}"))
}

const DOCKER_FLAGS: &[Flag] = &[
    Flag::new(NO, "name", Kind::Str, "Name of the context in docker's configuration (default \"seacow\")")
        .default("seacow"),
    Flag::new(NO, "use", Kind::Bool, "Make it docker's current context"),
];

/// `context docker`
pub(crate) const DOCKER: Command = Command {
    usage: "[OPTIONS]",
    about: "Write a context for docker's client, so that `docker --context seacow` reaches seacow",
    flags: &[DOCKER_FLAGS],
    args: Args::Exactly(0),
    run: docker,
    ..Command::EMPTY
};

fn docker(invocation: &Invocation<'_>) -> Outcome {
    let name = invocation.matches.str("name");
    if name == DEFAULT || !store::is_valid_name(name) {
        return Err(Failure::Refused(format!("{name:?} cannot be the name of a docker context")));
    }
    let endpoint = connect::resolve(invocation.globals)?;
    let dir = docker_dir();
    let meta = Meta::new(name, &endpoint.url, "seacow, the container engine that copies on write");
    let path = store::write(&dir, &meta)?;
    if invocation.matches.bool("use") {
        use_in_docker(&dir, name)?;
    }
    crate::outln(name)?;
    eprintln!("Wrote {}. Now `docker --context {name} ps` asks seacow at {}.", path.display(), endpoint.url);
    Ok(())
}

fn use_in_docker(dir: &Path, name: &str) -> Result<(), Failure> {
    let config = crate::config::ConfigDir { path: dir.to_owned() };
    let mut values = config.read();
    values.insert("currentContext".to_owned(), name.into());
    Ok(config.write(&values)?)
}
