//! `container prune`, `image prune`, `volume prune`, `network prune`, `builder prune`,
//! `snapshot prune`, `system prune`.

use std::io::{BufRead, Write};

use seacow_spec::docker::snapshot::SnapshotsPruned;

use crate::client::Client;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::Json;
use crate::format::units::human_size;
use crate::opts::filter;

const CONTAINER_FLAGS: &[Flag] = &[
    Flag::new(NO, "filter", Kind::Filter, "Provide filter values (e.g. \"until=<timestamp>\")"),
    Flag::new('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

/// `container prune`
pub(crate) const CONTAINERS: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    aliases: &[],
    flags: &[CONTAINER_FLAGS],
    args: Args::Exactly(0),
    run: |i| one(i, Pile::Containers),
    ..Command::EMPTY
};

const IMAGE_FLAGS: &[Flag] = &[
    Flag::new('a', "all", Kind::Bool, "Remove all unused images, not just dangling ones"),
    Flag::new(NO, "filter", Kind::Filter, "Provide filter values (e.g. \"until=<timestamp>\")"),
    Flag::new('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

/// `image prune`
pub(crate) const IMAGES: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove unused images",
    aliases: &[],
    flags: &[IMAGE_FLAGS],
    args: Args::Exactly(0),
    run: |i| one(i, Pile::Images),
    ..Command::EMPTY
};

const NETWORK_FLAGS: &[Flag] = &[
    Flag::new(NO, "filter", Kind::Filter, "Provide filter values (e.g. \"until=<timestamp>\")"),
    Flag::new('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

/// `network prune`
pub(crate) const NETWORKS: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove all unused networks",
    aliases: &[],
    flags: &[NETWORK_FLAGS],
    args: Args::Exactly(0),
    run: |i| one(i, Pile::Networks),
    ..Command::EMPTY
};

const VOLUME_FLAGS: &[Flag] = &[
    Flag::new('a', "all", Kind::Bool, "Remove all unused volumes, not just anonymous ones"),
    Flag::new(NO, "filter", Kind::Filter, "Provide filter values (e.g. \"label=<label>\")"),
    Flag::new('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

/// `volume prune`
pub(crate) const VOLUMES: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove unused local volumes",
    aliases: &[],
    flags: &[VOLUME_FLAGS],
    args: Args::Exactly(0),
    run: |i| one(i, Pile::Volumes),
    ..Command::EMPTY
};

const BUILDER_FLAGS: &[Flag] = &[
    Flag::new('a', "all", Kind::Bool, "Remove all unused build cache, not just dangling ones"),
    Flag::new(NO, "filter", Kind::Filter, "Provide filter values (e.g. \"until=24h\")"),
    Flag::new('f', "force", Kind::Bool, "Do not prompt for confirmation"),
    Flag::new(NO, "keep-storage", Kind::Bytes, "Amount of disk space to keep for cache"),
];

/// `builder prune`
pub(crate) const BUILDER: Command = Command {
    usage: "",
    about: "Remove build cache",
    aliases: &[],
    flags: &[BUILDER_FLAGS],
    args: Args::Exactly(0),
    run: |i| one(i, Pile::BuildCache),
    ..Command::EMPTY
};

const SYSTEM_FLAGS: &[Flag] = &[
    Flag::new('a', "all", Kind::Bool, "Remove all unused images not just dangling ones"),
    Flag::new(NO, "filter", Kind::Filter, "Provide filter values (e.g. \"label=<key>=<value>\")"),
    Flag::new('f', "force", Kind::Bool, "Do not prompt for confirmation"),
    Flag::new(NO, "volumes", Kind::Bool, "Prune anonymous volumes"),
];

/// `system prune`
pub(crate) const SYSTEM: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove unused data",
    aliases: &[],
    flags: &[SYSTEM_FLAGS],
    args: Args::Exactly(0),
    run: system,
    ..Command::EMPTY
};

const SNAPSHOT_FLAGS: &[Flag] = &[
    Flag::new(NO, "filter", Kind::Filter, "Provide filter values (e.g. \"until=24h\", \"container=NAME\")"),
    Flag::new('f', "force", Kind::Bool, "Do not prompt for confirmation"),
    Flag::new(NO, "volumes", Kind::Bool, "Remove snapshots of volumes too"),
];

/// `snapshot prune`
pub(crate) const SNAPSHOTS: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove snapshots of containers and volumes",
    long: "Remove snapshots of all containers, and with --volumes of all volumes; containers, volumes and \
           clones stay as they are.\n\nFilters: until=<time>, container=<name>, volume=<name>, and \
           label=<key>[=<value>] and label!=… of the container or volume.",
    flags: &[SNAPSHOT_FLAGS],
    args: Args::Exactly(0),
    run: snapshots,
    ..Command::EMPTY
};

fn snapshots(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let volumes = matches.bool("volumes");
    let of = if volumes { "containers and volumes" } else { "containers" };
    let question = format!(
        "WARNING! This will remove all snapshots of {of} that the filters allow.\nAre you sure you want to continue?"
    );
    if !matches.bool("force") && !confirm(&question)? {
        return Ok(());
    }
    let filters = filter::query(&matches.list("filter"));
    let call = invocation.client()?.post("/snapshots/prune").flag("volumes", volumes);
    let pruned: SnapshotsPruned = call.query_some("filters", &filters).json()?;
    if let Some(names) = &pruned.snapshots_deleted {
        crate::outln(&format!("Deleted Snapshots:\n{}\n", names.join("\n")))?;
    }
    crate::outln(&format!("Total reclaimed space: {}", human_size(pruned.space_reclaimed as f64)))
}

/// What can be cleared away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pile {
    Containers,
    Networks,
    Volumes,
    Images,
    BuildCache,
}

/// What was cleared away, in words, and the bytes it freed.
struct Cleared {
    text: String,
    bytes: i64,
}

fn one(invocation: &Invocation<'_>, pile: Pile) -> Outcome {
    let matches = invocation.matches;
    let has_all = pile != Pile::Containers && pile != Pile::Networks;
    let all = has_all && matches.bool("all");
    let warning = match (pile, all) {
        (Pile::Containers, _) => "This will remove all stopped containers.",
        (Pile::Networks, _) => "This will remove all custom networks not used by at least one container.",
        (Pile::Volumes, true) => "This will remove all local volumes not used by at least one container.",
        (Pile::Volumes, false) => {
            "This will remove anonymous local volumes not used by at least one container."
        }
        (Pile::Images, true) => {
            "This will remove all images without at least one container associated to them."
        }
        (Pile::Images, false) => "This will remove all dangling images.",
        (Pile::BuildCache, true) => "This will remove all build cache.",
        (Pile::BuildCache, false) => "This will remove all dangling build cache.",
    };
    if !matches.bool("force") && !confirm(&format!("WARNING! {warning}\nAre you sure you want to continue?"))?
    {
        return Ok(());
    }
    let cleared = clear(invocation.client()?, pile, all, &matches.list("filter"))?;
    if !cleared.text.is_empty() {
        crate::outln(&cleared.text)?;
    }
    if pile == Pile::Networks {
        return Ok(());
    }
    if pile == Pile::BuildCache {
        return crate::outln(&format!("Total:\t{}", human_size(cleared.bytes as f64)));
    }
    crate::outln(&format!("Total reclaimed space: {}", human_size(cleared.bytes as f64)))
}

fn clear(client: &Client, pile: Pile, all: bool, filters: &[String]) -> Result<Cleared, Failure> {
    let mut filters = filters.to_vec();
    let path = match pile {
        Pile::Containers => "/containers/prune",
        Pile::Networks => "/networks/prune",
        Pile::Volumes => {
            if all {
                filters.push("all=true".to_owned());
            }
            "/volumes/prune"
        }
        Pile::Images => {
            filters.push(format!("dangling={}", !all));
            "/images/prune"
        }
        Pile::BuildCache => "/build/prune",
    };
    let mut call = client.post(path);
    if pile == Pile::BuildCache {
        call = call.flag("all", all);
    }
    let answer: Json = call.query_some("filters", &filter::query(&filters)).json()?;
    let list = |title: &str, key: &str| {
        let names = answer.get(key).strings();
        if names.is_empty() { String::new() } else { format!("{title}\n{}\n", names.join("\n")) }
    };
    let text = match pile {
        Pile::Containers => list("Deleted Containers:", "ContainersDeleted"),
        Pile::Networks => list("Deleted Networks:", "NetworksDeleted"),
        Pile::Volumes => list("Deleted Volumes:", "VolumesDeleted"),
        Pile::Images => images(answer.get("ImagesDeleted").array()),
        Pile::BuildCache => list("Deleted build cache objects:", "CachesDeleted"),
    };
    Ok(Cleared { text, bytes: answer.int("SpaceReclaimed") })
}

fn images(deleted: &[Json]) -> String {
    if deleted.is_empty() {
        return String::new();
    }
    let mut text = "Deleted Images:\n".to_owned();
    for item in deleted {
        let untagged = item.str("Untagged");
        let line = if untagged.is_empty() {
            format!("deleted: {}\n", item.str("Deleted"))
        } else {
            format!("untagged: {untagged}\n")
        };
        text.push_str(&line);
    }
    text
}

fn system(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let (all, filters) = (matches.bool("all"), matches.list("filter"));
    let volumes = matches.bool("volumes");
    if volumes && filters.iter().any(|f| f.starts_with("until")) {
        return Err(Failure::refused("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let list: String = lines.iter().map(|l| format!("  - {l}\n")).collect();
    let mut question = format!("WARNING! This will remove:\n{list}\n");
    if !filters.is_empty() {
        let items: String = filters.iter().map(|f| format!("  - {f}\n")).collect();
        question.push_str(&format!("  Items to be pruned will be filtered with:\n{items}\n"));
    }
    if !matches.bool("force") && !confirm(&(question + "Are you sure you want to continue?"))? {
        return Ok(());
    }
    let client = invocation.client()?;
    let mut bytes = 0;
    for pile in [Pile::Containers, Pile::Networks, Pile::Volumes, Pile::Images, Pile::BuildCache] {
        if pile == Pile::Volumes && !volumes {
            continue;
        }
        match clear(client, pile, all && pile != Pile::Volumes, &filters) {
            Ok(cleared) => {
                bytes += cleared.bytes;
                if !cleared.text.is_empty() {
                    crate::outln(&cleared.text)?;
                }
            }
            // An engine without such things has none of them lying about.
            Err(Failure::Client(e)) if e.status() == Some(501) || e.is_not_found() => {}
            Err(failure) => return Err(failure),
        }
    }
    crate::outln(&format!("Total reclaimed space: {}", human_size(bytes as f64)))
}

/// Asks on the terminal; anything but `y` is a no.
fn confirm(question: &str) -> Result<bool, Failure> {
    crate::out(&format!("{question} [y/N] "))?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.is_empty() {
        crate::outln("")?;
    }
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
