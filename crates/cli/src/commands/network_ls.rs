//! `network ls`: list networks.

use std::cmp::Ordering;

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::{Json, short_id, time};
use crate::opts::filter;

const FLAGS: &[Flag] = &[
    Flag::new('f', "filter", Kind::Filter, "Provide filter values (e.g. \"driver=bridge\")"),
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new(NO, "no-trunc", Kind::Bool, "Do not truncate the output"),
    Flag::new('q', "quiet", Kind::Bool, "Only display network IDs"),
];

/// `network ls`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "List networks",
    aliases: &["network ls", "network list"],
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: "",
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    go_type: "*network.networkContext",
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let call = invocation.client()?.get("/networks");
    let answer: Json = call.query_some("filters", &filter::query(&matches.list("filter"))).json()?;
    let mut networks: Vec<&Json> = answer.array().iter().collect();
    networks.sort_by(|a, b| natural(a.str("Name"), b.str("Name")));
    let full = matches.bool("no-trunc");
    let rows = networks.into_iter().map(|n| row(n, full)).collect();
    let shape = LISTING.shape(matches.str("format"), matches.bool("quiet"));
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)
}

fn row(network: &Json, full: bool) -> Row {
    let id = network.str("Id");
    let created: Option<seacow_spec::time::Timestamp> = network.str("Created").parse().ok();
    Row::default()
        .text("ID", if full { id } else { short_id(id) })
        .text("Name", network.str("Name"))
        .text("Driver", network.str("Driver"))
        .text("Scope", network.str("Scope"))
        .text("IPv4", network.bool("EnableIPv4").to_string())
        .text("IPv6", network.bool("EnableIPv6").to_string())
        .text("Internal", network.bool("Internal").to_string())
        .text("CreatedAt", created.map(time::go_string_nanos).unwrap_or_default())
        .labels(network.get("Labels"))
}

/// Names in the order people expect: digits compare by value (`net2` before `net10`).
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(ca), Some(cb)) = (a.chars().next(), b.chars().next()) else { return a.len().cmp(&b.len()) };
        if ca.is_ascii_digit() && cb.is_ascii_digit() {
            let (na, rest_a) = number(a);
            let (nb, rest_b) = number(b);
            let order = (na.len(), na).cmp(&(nb.len(), nb));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
            continue;
        }
        if ca != cb {
            return ca.cmp(&cb);
        }
        (a, b) = (&a[ca.len_utf8()..], &b[cb.len_utf8()..]);
    }
}

/// The leading digits without their zeros, and what follows.
fn number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        let mut names = ["net10", "net2", "a", "net02b", "net2a"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "net2", "net2a", "net02b", "net10"]);
    }
}
