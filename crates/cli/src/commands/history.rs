//! `history`: the steps an image was made by.

use crate::client::escape_path;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row, Shape};
use crate::format::units::human_size_3;
use crate::format::{Json, ellipsis, short_id, time};

const FLAGS: &[Flag] = &[
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('H', "human", Kind::Bool, "Print sizes and dates in human readable format (default true)")
        .default("true"),
    Flag::new(NO, "no-trunc", Kind::Bool, "Don't truncate output"),
    Flag::new(
        NO,
        "platform",
        Kind::Str,
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::new('q', "quiet", Kind::Bool, "Only show image IDs"),
];

/// `history`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE",
    about: "Show the history of an image",
    aliases: &["image history", "history"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    raw: "",
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    go_type: "*image.historyContext",
};

/// The columns of `--human=false`.
const EXACT: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let path = format!("/images/{}/history", escape_path(invocation.arg(0)));
    let steps: Json =
        invocation.client()?.get(path).query_some("platform", matches.str("platform")).json()?;
    let (human, full) = (matches.bool("human"), matches.bool("no-trunc"));
    let rows = steps.array().iter().map(|step| row(step, human, full)).collect();
    let shape = match LISTING.shape(matches.str("format"), matches.bool("quiet")) {
        Shape::Table(columns) if !human && columns == LISTING.table => Shape::Table(EXACT.to_owned()),
        shape => shape,
    };
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)
}

fn row(step: &Json, human: bool, full: bool) -> Row {
    let (id, created, size) = (step.str("Id"), step.int("Created"), step.int("Size"));
    let by = step.str("CreatedBy").replace('\t', " ");
    let never = created <= seacow_spec::time::Timestamp::GO_ZERO.unix_seconds();
    let at = time::rfc3339_local(created, None);
    let since = match (human, never) {
        (_, true) => "N/A".to_owned(),
        (true, false) => time::ago(created),
        (false, false) => at.clone(),
    };
    Row::default()
        .text("ID", if full { id } else { short_id(id) })
        .text("CreatedSince", since)
        .text("CreatedAt", if never { String::new() } else { at })
        .text("CreatedBy", if full { by } else { ellipsis(&by, 45) })
        .text("Size", if human { human_size_3(size as f64) } else { size.to_string() })
        .text("Comment", step.str("Comment"))
}
