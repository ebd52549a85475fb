//! `ps`: list containers.

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{self, Row};
use crate::format::units::human_size_3;
use crate::format::{Json, ellipsis, short_id, time};
use crate::opts::filter;

const FLAGS: &[Flag] = &[
    Flag::new('a', "all", Kind::Bool, "Show all containers (default shows just running)"),
    Flag::new('f', "filter", Kind::Filter, "Filter output based on conditions provided"),
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('n', "last", Kind::Int, "Show n last created containers (includes all states) (default -1)")
        .default("-1"),
    Flag::new('l', "latest", Kind::Bool, "Show the latest created container (includes all states)"),
    Flag::new(NO, "no-trunc", Kind::Bool, "Don't truncate output"),
    Flag::new('q', "quiet", Kind::Bool, "Only display container IDs"),
    Flag::new('s', "size", Kind::Bool, "Display total file sizes"),
];

/// `ps`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "List containers",
    aliases: &["container ls", "container list", "container ps", "ps"],
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

const LISTING: listing::Kind = listing::Kind {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
    go_type: "*formatter.ContainerContext",
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let format = match matches.given("format") {
        Some(format) => format.to_owned(),
        None if matches.bool("quiet") => String::new(),
        None => invocation.globals.config.string("psFormat").unwrap_or_default(),
    };
    let size = matches.bool("size");
    let mut last = matches.int("last");
    if matches.bool("latest") && !matches.changed("last") {
        last = 1;
    }
    // Sizes cost the engine a walk through the file system.
    let wants_size = size || listing::uses(&format, "Size");
    let mut call = invocation.client()?.get("/containers/json");
    call = call.flag("all", matches.bool("all")).flag("size", wants_size);
    if last > 0 {
        call = call.query("limit", last.to_string());
    }
    let containers: Json = call.query_some("filters", &filter::query(&matches.list("filter"))).json()?;
    let full = matches.bool("no-trunc");
    let rows = containers.array().iter().map(|c| row(c, full)).collect();
    let shape = match LISTING.shape(&format, matches.bool("quiet")) {
        listing::Shape::Table(columns) if size && columns == LISTING.table => {
            listing::Shape::Table(columns + "\t{{.Size}}")
        }
        shape => shape,
    };
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)
}

fn row(container: &Json, full: bool) -> Row {
    let id = container.str("Id");
    let created = container.int("Created");
    Row::default()
        .text("ID", if full { id } else { short_id(id) })
        .text("Names", names(container, full))
        .text("Image", image(container, full))
        .text("Command", command(container.str("Command"), full))
        .text("CreatedAt", time::go_string(created))
        .text("RunningFor", time::ago(created))
        .text("Ports", ports(container.get("Ports").array()))
        .text("State", container.str("State"))
        .text("Status", container.str("Status"))
        .text("Size", size(container))
        .text("Mounts", mounts(container, full))
        .text("LocalVolumes", local_volumes(container))
        .text("Networks", networks(container))
        .value("Platform", platform(container))
        .labels(container.get("Labels"))
}

fn platform(container: &Json) -> gotmpl::Value {
    let platform = container.at(&["ImageManifestDescriptor", "platform"]);
    if platform.is_null() {
        return gotmpl::Value::Nil;
    }
    crate::format::template::string(&format!("{}/{}", platform.str("os"), platform.str("architecture")))
}

/// Names without their slash; links (`/a/b`) only when nothing is cut.
pub(super) fn names(container: &Json, full: bool) -> String {
    let names = container.get("Names").strings();
    let names = names.iter().map(|n| n.strip_prefix('/').unwrap_or(n));
    names.filter(|n| full || !n.contains('/')).collect::<Vec<_>>().join(",")
}

pub(super) fn image(container: &Json, full: bool) -> String {
    let image = container.str("Image");
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if full {
        return image.to_owned();
    }
    if image == container.str("ImageID") {
        return short_id(image).to_owned();
    }
    // A digest is no help to the eye.
    match image.parse::<seacow_spec::reference::Reference>() {
        Ok(r) if r.digest().is_some() => match r.tag() {
            Some(tag) => format!("{}:{tag}", r.familiar_name()),
            None => r.familiar_name(),
        },
        _ => image.to_owned(),
    }
}

fn command(command: &str, full: bool) -> String {
    let command = if full { command.to_owned() } else { ellipsis(command, 20) };
    go_quote(&command)
}

/// Go's `strconv.Quote`.
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn size(container: &Json) -> String {
    let own = human_size_3(container.int("SizeRw") as f64);
    match container.int("SizeRootFs") {
        0 => own,
        whole => format!("{own} (virtual {})", human_size_3(whole as f64)),
    }
}

fn mounts(container: &Json, full: bool) -> String {
    let mounts = container.get("Mounts").array().iter().map(|m| {
        let name = if m.str("Name").is_empty() { m.str("Source") } else { m.str("Name") };
        if full { name.to_owned() } else { ellipsis(name, 15) }
    });
    mounts.collect::<Vec<_>>().join(",")
}

fn local_volumes(container: &Json) -> String {
    container.get("Mounts").array().iter().filter(|m| m.str("Driver") == "local").count().to_string()
}

fn networks(container: &Json) -> String {
    let mut names: Vec<&str> =
        container.at(&["NetworkSettings", "Networks"]).members().iter().map(|(n, _)| n.as_str()).collect();
    names.sort_unstable();
    names.join(",")
}

/// One published or exposed port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port<'a> {
    private: i64,
    public: i64,
    kind: &'a str,
    address: &'a str,
}

/// docker's compact port list: runs of ports that are published alike become ranges.
fn ports(ports: &[Json]) -> String {
    let mut all: Vec<Port<'_>> = ports
        .iter()
        .map(|p| Port {
            private: p.int("PrivatePort"),
            public: p.int("PublicPort"),
            kind: p.str("Type"),
            address: p.str("IP"),
        })
        .collect();
    all.sort_by(|a, b| {
        (a.private, a.address, a.public, a.kind).cmp(&(b.private, b.address, b.public, b.kind))
    });
    let mut groups: Vec<(String, &str, i64, i64)> = Vec::new();
    let mut singles: Vec<String> = Vec::new();
    for port in &all {
        if !port.address.is_empty() && port.private != port.public {
            singles.push(format!(
                "{}->{}/{}",
                join_address(port.address, port.public),
                port.private,
                port.kind
            ));
            continue;
        }
        let key = if port.address.is_empty() { String::new() } else { port.address.to_owned() };
        let run = groups.iter_mut().find(|(address, kind, _, last)| {
            *address == key && *kind == port.kind && *last + 1 == port.private
        });
        match run {
            Some(group) => group.3 = port.private,
            None => groups.push((key, port.kind, port.private, port.private)),
        }
    }
    groups.sort_by(|a, b| (a.2, a.1, &a.0).cmp(&(b.2, b.1, &b.0)));
    let ranges = groups.iter().map(|(address, kind, first, last)| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if address.is_empty() {
            format!("{range}/{kind}")
        } else {
            let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            format!("{host}:{range}->{range}/{kind}")
        }
    });
    singles.iter().cloned().chain(ranges).collect::<Vec<_>>().join(", ")
}

fn join_address(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        ports(Json::parse(json.as_bytes()).unwrap().array())
    }

    #[test]
    fn port_lists() {
        assert_eq!(
            shown(
                r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}]"#
            ),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            shown(
                r#"[{"PrivatePort":81,"Type":"tcp"},{"PrivatePort":80,"Type":"tcp"},{"PrivatePort":90,"Type":"udp"}]"#
            ),
            "80-81/tcp, 90/udp"
        );
        assert_eq!(
            shown(
                r#"[{"IP":"127.0.0.1","PrivatePort":1000,"PublicPort":1000,"Type":"tcp"},{"IP":"127.0.0.1","PrivatePort":1001,"PublicPort":1001,"Type":"tcp"}]"#
            ),
            "127.0.0.1:1000-1001->1000-1001/tcp"
        );
    }

    #[test]
    fn commands_are_cut_and_quoted() {
        assert_eq!(command("sh -c 'i=0; while :; do echo", false), "\"sh -c 'i=0; while :…\"");
        assert_eq!(command("a \"b\"\n", true), "\"a \\\"b\\\"\\n\"");
    }
}
