//! `search`: images of Docker Hub, as far as the engine can reach it.

use super::auth;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::{Json, ellipsis};
use crate::opts::filter;

const FLAGS: &[Flag] = &[
    Flag::new('f', "filter", Kind::Filter, "Filter output based on conditions provided"),
    Flag::new(NO, "format", Kind::Str, "Pretty-print search using a Go template"),
    Flag::new(NO, "limit", Kind::Int, "Max number of search results"),
    Flag::new(NO, "no-trunc", Kind::Bool, "Don't truncate output"),
];

/// `search`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub for images",
    aliases: &[],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "{{.Name}}",
    raw: "",
    headings: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
    go_type: "*registry.searchContext",
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let mut call = invocation.client()?.get("/images/search").query("term", invocation.arg(0));
    call = call.query_some("filters", &filter::query(&matches.list("filter")));
    if let Some(limit) = matches.int_given("limit") {
        call = call.query("limit", limit.to_string());
    }
    let header = auth::header(invocation.globals, seacow_spec::reference::DEFAULT_DOMAIN);
    let found: Json = call.field("X-Registry-Auth", header).json()?;
    let full = matches.bool("no-trunc");
    let rows = found.array().iter().map(|image| row(image, full)).collect();
    let shape = LISTING.shape(matches.str("format"), false);
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)
}

fn row(image: &Json, full: bool) -> Row {
    let description = image.str("description").replace(['\n', '\r'], " ");
    let ok = |yes: bool| if yes { "[OK]" } else { "" };
    Row::default()
        .text("Name", image.str("name"))
        .text("Description", if full { description } else { ellipsis(&description, 45) })
        .text("StarCount", image.int("star_count").to_string())
        .text("IsOfficial", ok(image.bool("is_official")))
        .text("IsAutomated", ok(image.bool("is_automated")))
}
