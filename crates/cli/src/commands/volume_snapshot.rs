//! `volume snapshot`, `volume rollback`, `volume clone`: moments of a volume, and what is made of them.

use seacow_spec::docker::snapshot::{SnapshotCreate, VolumeSnapshot};
use seacow_spec::docker::volume::Volume;
use seacow_spec::time::Timestamp;

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::time;

const CREATE_FLAGS: &[Flag] =
    &[Flag::new(NO, "name", Kind::Str, "Name of the snapshot, unique among the volume's (default a number)")];

/// `volume snapshot`
pub(crate) const CREATE: Command = Command {
    usage: "[OPTIONS] VOLUME",
    about: "Keep what a volume holds now",
    long: "Keep what a volume holds now. Containers that use it are frozen for as long as its files take to be \
           copied; where the store shares extents, no data is. The snapshot goes with its volume.",
    flags: &[CREATE_FLAGS],
    args: Args::Exactly(1),
    run: create,
    ..Command::EMPTY
};

fn create(invocation: &Invocation<'_>) -> Outcome {
    let request = SnapshotCreate { name: invocation.matches.str("name").to_owned() };
    let made: VolumeSnapshot =
        invocation.client()?.post(path(invocation.arg(0), "snapshots")).exchange_json(&request)?;
    crate::outln(&made.name)
}

const LS_FLAGS: &[Flag] = &[
    Flag::new(NO, "format", Kind::Str, "Format output using a custom template, or 'json'"),
    Flag::new('q', "quiet", Kind::Bool, "Only display names"),
];

/// `volume snapshots`
pub(crate) const LS: Command = Command {
    usage: "[OPTIONS] VOLUME",
    about: "List snapshots of a volume",
    flags: &[LS_FLAGS],
    args: Args::Exactly(1),
    run: ls,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Volume}}\t{{.Name}}\t{{.CreatedSince}}",
    quiet: "{{.Name}}",
    raw: "",
    headings: &[
        ("Volume", "VOLUME NAME"),
        ("Name", "SNAPSHOT"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
    ],
    go_type: "*snapshot.volumeContext",
};

fn ls(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let snapshots: Vec<VolumeSnapshot> =
        invocation.client()?.get(path(invocation.arg(0), "snapshots")).json()?;
    let rows = snapshots.iter().map(|snapshot| {
        let created = snapshot.created.parse::<Timestamp>().ok();
        Row::default()
            .text("Volume", &snapshot.volume)
            .text("Name", &snapshot.name)
            .text("CreatedSince", created.map_or_else(|| "N/A".to_owned(), |at| time::ago(at.unix_seconds())))
            .text("CreatedAt", &snapshot.created)
    });
    let shape = LISTING.shape(matches.str("format"), matches.bool("quiet"));
    crate::out(&LISTING.render(&shape, rows.collect()).map_err(|e| Failure::Refused(e.to_string()))?)
}

/// `volume snapshot-rm`
pub(crate) const RM: Command = Command {
    usage: "VOLUME SNAPSHOT [SNAPSHOT...]",
    about: "Remove one or more snapshots of a volume",
    args: Args::AtLeast(2),
    run: rm,
    ..Command::EMPTY
};

fn rm(invocation: &Invocation<'_>) -> Outcome {
    let client = invocation.client()?;
    let volume = invocation.arg(0);
    each::in_turn(invocation.args().get(1..).unwrap_or_default(), |snapshot| {
        Ok(client.delete(path(volume, "snapshots")).query("snapshot", snapshot).done()?)
    })
}

/// `volume rollback`
pub(crate) const ROLLBACK: Command = Command {
    usage: "VOLUME SNAPSHOT",
    about: "Have a volume hold again what it held at a snapshot",
    long: "Have a volume hold again what it held at a snapshot. What was written since is lost, unless another \
           snapshot has it. No container that uses the volume may run.",
    args: Args::Exactly(2),
    run: rollback,
    ..Command::EMPTY
};

fn rollback(invocation: &Invocation<'_>) -> Outcome {
    let volume = invocation.arg(0);
    invocation.client()?.post(path(volume, "rollback")).query("snapshot", invocation.arg(1)).done()?;
    crate::outln(volume)
}

const CLONE_FLAGS: &[Flag] =
    &[Flag::new(NO, "snapshot", Kind::Str, "Clone this snapshot (default what the volume holds now)")];

/// `volume clone`
pub(crate) const CLONE: Command = Command {
    usage: "[OPTIONS] VOLUME NEW",
    about: "Create a volume that holds what another one holds",
    flags: &[CLONE_FLAGS],
    args: Args::Exactly(2),
    run: clone,
    ..Command::EMPTY
};

fn clone(invocation: &Invocation<'_>) -> Outcome {
    let made: Volume = invocation
        .client()?
        .post(path(invocation.arg(0), "clone"))
        .query("name", invocation.arg(1))
        .query_some("snapshot", invocation.matches.str("snapshot"))
        .json()?;
    crate::outln(&made.name)
}

fn path(volume: &str, verb: &str) -> String {
    format!("/volumes/{}/{verb}", escape(volume))
}
