//! `volume create`, `volume ls`, `volume rm`.

use seacow_spec::docker::volume::VolumeCreate;

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::format::listing::{Kind as Listing, Row};
use crate::format::units::human_size;
use crate::opts::{env, filter, validate};

const CREATE_FLAGS: &[Flag] = &[
    Flag::new('d', "driver", Kind::Str, "Specify volume driver name (default \"local\")").default("local"),
    Flag::new(NO, "label", Kind::List, "Set metadata for a volume").check(validate::label),
    Flag::new('o', "opt", Kind::Map, "Set driver specific options (default map[])"),
    Flag::new(NO, "name", Kind::Str, "Specify volume name").hidden(),
];

/// `volume create`
pub(crate) const CREATE: Command = Command {
    usage: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    flags: &[CREATE_FLAGS],
    args: Args::AtMost(1),
    run: create,
    ..Command::EMPTY
};

fn create(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let flag = matches.str("name");
    if !flag.is_empty() && !invocation.arg(0).is_empty() {
        return Err(Failure::refused(
            "conflicting options: either specify --name or provide positional arg, not both",
        ));
    }
    let request = VolumeCreate {
        name: if flag.is_empty() { invocation.arg(0).to_owned() } else { flag.to_owned() },
        driver: matches.str("driver").to_owned(),
        driver_opts: env::map(&matches.list("opt")),
        labels: env::map(&matches.list("label")),
        ..VolumeCreate::default()
    };
    let volume: Json = invocation.client()?.post("/volumes/create").exchange_json(&request)?;
    crate::outln(volume.str("Name"))
}

const LS_FLAGS: &[Flag] = &[
    Flag::new(
        NO,
        "cluster",
        Kind::Bool,
        "Display only cluster volumes, and use cluster volume list formatting",
    ),
    Flag::new('f', "filter", Kind::Filter, "Provide filter values (e.g. \"dangling=true\")"),
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('q', "quiet", Kind::Bool, "Only display volume names"),
];

/// `volume ls`
pub(crate) const LS: Command = Command {
    usage: "[OPTIONS]",
    about: "List volumes",
    aliases: &["volume ls", "volume list"],
    flags: &[LS_FLAGS],
    args: Args::Exactly(0),
    run: ls,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: "",
    headings: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Availability", "AVAILABILITY"),
        ("Status", "STATUS"),
    ],
    go_type: "*formatter.volumeContext",
};

fn ls(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let call = invocation.client()?.get("/volumes");
    let answer: Json = call.query_some("filters", &filter::query(&matches.list("filter"))).json()?;
    let mut volumes: Vec<&Json> = answer.get("Volumes").array().iter().collect();
    volumes.sort_by(|a, b| super::network_ls::natural(a.str("Name"), b.str("Name")));
    let shape = LISTING.shape(matches.str("format"), matches.bool("quiet"));
    let rows = volumes.into_iter().map(row).collect();
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)
}

fn row(volume: &Json) -> Row {
    let usage = volume.get("UsageData");
    let known = |text: String| if usage.is_null() { "N/A".to_owned() } else { text };
    Row::default()
        .text("Name", volume.str("Name"))
        .text("Driver", volume.str("Driver"))
        .text("Scope", volume.str("Scope"))
        .text("Mountpoint", volume.str("Mountpoint"))
        .text("Links", known(usage.int("RefCount").to_string()))
        .text("Size", known(human_size(usage.int("Size") as f64)))
        .text("Group", "N/A")
        .text("Availability", "N/A")
        .text("Status", "N/A")
        .labels(volume.get("Labels"))
}

const RM_FLAGS: &[Flag] = &[Flag::new('f', "force", Kind::Bool, "Force the removal of one or more volumes")];

/// `volume rm`
pub(crate) const RM: Command = Command {
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove one or more volumes",
    long: "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    aliases: &["volume rm", "volume remove"],
    flags: &[RM_FLAGS],
    args: Args::AtLeast(1),
    run: rm,
    ..Command::EMPTY
};

fn rm(invocation: &Invocation<'_>) -> Outcome {
    let client = invocation.client()?;
    each::in_turn(invocation.args(), |name| {
        let call = client.delete(format!("/volumes/{}", escape(name)));
        Ok(call.flag("force", invocation.matches.bool("force")).done()?)
    })
}
