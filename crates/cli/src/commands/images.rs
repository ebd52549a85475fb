//! `images`: list images.

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{self, Row, Shape};
use crate::format::units::{human_size, human_size_3};
use crate::format::{Json, short_id, time};
use crate::opts::filter;

const FLAGS: &[Flag] = &[
    Flag::new('a', "all", Kind::Bool, "Show all images (default hides intermediate images)"),
    Flag::new(NO, "digests", Kind::Bool, "Show digests"),
    Flag::new('f', "filter", Kind::Filter, "Filter output based on conditions provided"),
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new(NO, "no-trunc", Kind::Bool, "Don't truncate output"),
    Flag::new('q', "quiet", Kind::Bool, "Only show image IDs"),
    Flag::new(NO, "tree", Kind::Bool, "List multi-platform images as a tree (EXPERIMENTAL)"),
];

/// `images`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    aliases: &["image ls", "image list", "images"],
    flags: &[FLAGS],
    args: Args::AtMost(1),
    run,
    ..Command::EMPTY
};

const LISTING: listing::Kind = listing::Kind {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
    raw: "",
    headings: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    go_type: "*formatter.imageContext",
};

const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

const NONE: &str = "<none>";

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    if matches.bool("tree") {
        return Err(Failure::refused("NotImplemented: images --tree is not supported by seacow"));
    }
    let mut filters = matches.list("filter");
    if !invocation.arg(0).is_empty() {
        filters.push(format!("reference={}", invocation.arg(0)));
    }
    let mut format = matches.str("format").to_owned();
    if format.is_empty() && !matches.bool("quiet") {
        format = invocation.globals.config.string("imagesFormat").unwrap_or_default();
    }
    let images: Json = invocation
        .client()?
        .get("/images/json")
        .flag("all", matches.bool("all"))
        .query_some("filters", &filter::query(&filters))
        .json()?;
    let shape = match LISTING.shape(&format, matches.bool("quiet")) {
        Shape::Table(columns) if matches.bool("digests") && columns == LISTING.table => {
            Shape::Table(WITH_DIGESTS.to_owned())
        }
        shape => shape,
    };
    let digests = matches.bool("digests") || listing::uses(&format, "Digest");
    let full = matches.bool("no-trunc");
    let rows = images.array().iter().flat_map(|i| rows(i, digests, full)).collect();
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)
}

/// One row per tag (and per digest, if digests are shown); an image without either has one row.
fn rows(image: &Json, digests: bool, full: bool) -> Vec<Row> {
    let tags: Vec<(&str, &str)> = image
        .get("RepoTags")
        .strings()
        .into_iter()
        .filter_map(|t| t.rsplit_once(':'))
        .filter(|(repository, _)| *repository != NONE)
        .collect();
    let named: Vec<(&str, &str)> = image
        .get("RepoDigests")
        .strings()
        .into_iter()
        .filter_map(|d| d.split_once('@'))
        .filter(|(repository, _)| *repository != NONE)
        .collect();
    let mut names: Vec<(&str, &str, &str)> = Vec::new();
    for (repository, tag) in &tags {
        let of = named.iter().filter(|(r, _)| r == repository).map(|(_, d)| *d).collect::<Vec<_>>();
        if !digests || of.is_empty() {
            names.push((repository, tag, NONE));
        } else {
            names.extend(of.into_iter().map(|digest| (*repository, *tag, digest)));
        }
    }
    for (repository, digest) in &named {
        if !tags.iter().any(|(r, _)| r == repository) {
            names.push((repository, NONE, digest));
        }
    }
    if names.is_empty() {
        names.push((NONE, NONE, NONE));
    }
    names.into_iter().map(|(repository, tag, digest)| row(image, repository, tag, digest, full)).collect()
}

fn row(image: &Json, repository: &str, tag: &str, digest: &str, full: bool) -> Row {
    let id = image.str("Id");
    let (created, size, shared) = (image.int("Created"), image.int("Size"), image.int("SharedSize"));
    let or_unknown = |n: i64, text: String| if n == -1 { "N/A".to_owned() } else { text };
    let containers = image.int("Containers");
    Row::default()
        .text("ID", if full { id } else { short_id(id) })
        .text("Repository", repository)
        .text("Tag", tag)
        .text("Digest", digest)
        .text("CreatedSince", if created < 0 { "N/A".to_owned() } else { time::ago(created) })
        .text("CreatedAt", time::go_string(created))
        .text("Size", human_size_3(size as f64))
        .text("Containers", or_unknown(containers, containers.to_string()))
        .text("VirtualSize", human_size(image.get("VirtualSize").as_int().max(size) as f64))
        .text("SharedSize", or_unknown(shared, human_size(shared as f64)))
        .text("UniqueSize", or_unknown(shared, human_size((size - shared) as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_name() {
        let image = Json::parse(
            br#"{"Id":"sha256:0123456789abcdef","RepoTags":["a:1","localhost:5000/a:2"],"RepoDigests":["a@sha256:d"],"Size":1,"SharedSize":-1,"Containers":-1,"Created":0}"#,
        )
        .unwrap();
        assert_eq!(rows(&image, false, false).len(), 2);
        let nameless =
            Json::parse(br#"{"Id":"sha256:0","RepoTags":null,"RepoDigests":["<none>@<none>"]}"#).unwrap();
        assert_eq!(rows(&nameless, true, false).len(), 1);
    }
}
