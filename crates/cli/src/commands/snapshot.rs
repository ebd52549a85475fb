//! `snapshot`, `rollback`, `clone`: moments of a container's files, and what is made of them.

use seacow_spec::docker::snapshot::{Cloned, Snapshot, SnapshotCreate};
use seacow_spec::time::Timestamp;

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::units::human_size;
use crate::format::{short_id, time};

const CREATE_FLAGS: &[Flag] = &[Flag::new(
    NO,
    "name",
    Kind::Str,
    "Name of the snapshot, unique among the container's (default a number)",
)];

/// `snapshot CONTAINER`
pub(crate) const CREATE: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Keep what a container's files are now",
    long: "Keep what a container's files are now, whether it runs or not. Volumes are not part of it.\n\nA \
           container that runs is frozen for as long as its changed files take to be copied; where the store \
           shares extents, no data is. The snapshot goes with its container; containers cloned from it stay.",
    aliases: &["snapshot", "snapshot create"],
    flags: &[CREATE_FLAGS],
    args: Args::Exactly(1),
    run: create,
    ..Command::EMPTY
};

fn create(invocation: &Invocation<'_>) -> Outcome {
    let request = SnapshotCreate { name: invocation.matches.str("name").to_owned() };
    let call = invocation.client()?.post(path(invocation.arg(0)));
    let made: Snapshot = call.exchange_json(&request)?;
    crate::outln(&made.name)
}

const LS_FLAGS: &[Flag] = &[
    Flag::new(NO, "format", Kind::Str, "Format output using a custom template, or 'json'"),
    Flag::new(NO, "no-trunc", Kind::Bool, "Don't truncate output"),
    Flag::new('q', "quiet", Kind::Bool, "Only display names"),
];

/// `snapshot ls`
pub(crate) const LS: Command = Command {
    usage: "[OPTIONS] [CONTAINER]",
    about: "List snapshots of a container, or of all",
    aliases: &["snapshot ls", "snapshot list"],
    flags: &[LS_FLAGS],
    args: Args::AtMost(1),
    run: ls,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Container}}\t{{.Name}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Own}}\t{{.SharedWith}}",
    quiet: "{{.Name}}",
    raw: "",
    headings: &[
        ("Container", "CONTAINER"),
        ("Name", "SNAPSHOT"),
        ("ID", "SNAPSHOT ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Own", "OWN"),
        ("OwnBytes", "OWN BYTES"),
        ("SharedWith", "SHARED WITH"),
    ],
    go_type: "*snapshot.rowContext",
};

fn ls(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let call = match invocation.arg(0) {
        "" => client.get("/system/snapshots"),
        container => client.get(path(container)),
    };
    let snapshots: Vec<Snapshot> = call.json()?;
    let whole = matches.bool("no-trunc");
    let rows = snapshots.iter().map(|snapshot| row(snapshot, whole)).collect();
    let shape = LISTING.shape(matches.str("format"), matches.bool("quiet"));
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)
}

fn row(snapshot: &Snapshot, whole: bool) -> Row {
    let created = snapshot.created.parse::<Timestamp>().ok();
    let id = if whole { snapshot.id.as_str() } else { short_id(&snapshot.id) };
    Row::default()
        .text("Container", &snapshot.container_name)
        .text("Name", &snapshot.name)
        .text("ID", id)
        .text("CreatedSince", created.map_or_else(|| "N/A".to_owned(), |at| time::ago(at.unix_seconds())))
        .text("CreatedAt", &snapshot.created)
        .text("Own", human_size(snapshot.own_bytes as f64))
        .text("OwnBytes", snapshot.own_bytes.to_string())
        .text("SharedWith", snapshot.shared_with.join(", "))
}

/// `snapshot rm`
pub(crate) const RM: Command = Command {
    usage: "CONTAINER SNAPSHOT [SNAPSHOT...]",
    about: "Remove one or more snapshots of a container",
    aliases: &["snapshot rm", "snapshot remove"],
    args: Args::AtLeast(2),
    run: rm,
    ..Command::EMPTY
};

fn rm(invocation: &Invocation<'_>) -> Outcome {
    let client = invocation.client()?;
    let container = invocation.arg(0);
    each::in_turn(invocation.args().get(1..).unwrap_or_default(), |snapshot| {
        Ok(client.delete(path(container)).query("snapshot", snapshot).done()?)
    })
}

const ROLLBACK_FLAGS: &[Flag] =
    &[Flag::new('f', "force", Kind::Bool, "Kill the container first if it runs, and start it again")];

/// `rollback`
pub(crate) const ROLLBACK: Command = Command {
    usage: "[OPTIONS] CONTAINER SNAPSHOT",
    about: "Have a container go back to one of its snapshots",
    long: "Have a container go back to one of its snapshots. What it changed since is lost, unless another \
           snapshot has it; snapshots stay, and so do volumes as they are.",
    flags: &[ROLLBACK_FLAGS],
    args: Args::Exactly(2),
    run: rollback,
    ..Command::EMPTY
};

fn rollback(invocation: &Invocation<'_>) -> Outcome {
    let container = invocation.arg(0);
    let call = invocation.client()?.post(format!("/containers/{}/rollback", escape(container)));
    let call = call.query("snapshot", invocation.arg(1)).flag("force", invocation.matches.bool("force"));
    call.done()?;
    crate::outln(container)
}

const CLONE_FLAGS: &[Flag] = &[
    Flag::new('n', "count", Kind::Int, "How many").default("1"),
    Flag::new(NO, "name", Kind::Str, "Name of the clone; of several, what their names begin with"),
    Flag::new(NO, "snapshot", Kind::Str, "Clone this snapshot (default the present files)"),
];

/// `clone`
pub(crate) const CLONE: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Create containers that go on from the files of another one",
    long: "Create containers that go on from the files of another one, which may run. A clone has the other's \
           configuration, and an id, a name, an address and a log of its own. Named volumes and bind mounts \
           are shared with it, anonymous volumes copied. Clones are created, not started.",
    flags: &[CLONE_FLAGS],
    args: Args::Exactly(1),
    run: clone,
    ..Command::EMPTY
};

fn clone(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let made: Cloned = invocation
        .client()?
        .post(format!("/containers/{}/clone", escape(invocation.arg(0))))
        .query("count", matches.str("count"))
        .query_some("name", matches.str("name"))
        .query_some("snapshot", matches.str("snapshot"))
        .json()?;
    made.ids.iter().try_for_each(|id| crate::outln(id))
}

fn path(container: &str) -> String {
    format!("/containers/{}/snapshots", escape(container))
}
