//! `system df`: what takes the disk.

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::units::{human_size, human_size_3};
use crate::format::{Json, ellipsis, short_id, time};

const FLAGS: &[Flag] = &[
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new('v', "verbose", Kind::Bool, "Show detailed information on space usage"),
];

/// `system df`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Show docker disk usage",
    aliases: &[],
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

const SUMMARY: Listing = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    raw: "",
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    go_type: "*formatter.diskUsageImagesContext",
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let usage: Json = invocation.client()?.get("/system/df").json()?;
    let format = invocation.matches.str("format");
    if invocation.matches.bool("verbose") {
        if !format.is_empty() && format != "table" {
            return Err(Failure::refused(
                "NotImplemented: system df --verbose with --format is not supported by seacow",
            ));
        }
        return crate::out(&verbose(&usage)?);
    }
    let mut rows = vec![images(&usage), containers(&usage), volumes(&usage), cache(&usage)];
    rows.extend(snapshots(&usage));
    let shape = SUMMARY.shape(format, false);
    crate::out(&SUMMARY.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)?;
    if format.is_empty() { crate::out(&on_the_disk(&usage)) } else { Ok(()) }
}

/// Docker has none.
fn snapshots(usage: &Json) -> Option<Row> {
    let disk = usage.get("Disk");
    let bytes = disk.int("SnapshotsBytes") + disk.int("VolumeSnapshotsBytes");
    let snapshots = usage.get("Snapshots").array();
    (!snapshots.is_empty()).then(|| {
        let own: i64 = snapshots.iter().map(|snapshot| snapshot.int("OwnBytes")).sum();
        line("Snapshots", snapshots.len(), 0, bytes, share(own, bytes))
    })
}

/// What a seacow says of the disk: above are sizes of files, as Docker counts them.
fn on_the_disk(usage: &Json) -> String {
    let disk = usage.get("Disk");
    let parts = [
        ("images", "ImagesBytes"),
        ("snapshots", "SnapshotsBytes"),
        ("containers", "ContainersBytes"),
        ("volumes", "VolumesBytes"),
        ("volume snapshots", "VolumeSnapshotsBytes"),
        ("logs", "LogsBytes"),
        ("being made or removed", "PassingBytes"),
        ("the store itself", "StoreBytes"),
    ];
    let some = parts.iter().filter(|(_, key)| disk.int(key) > 0);
    let list: Vec<String> =
        some.map(|(name, key)| format!("{name} {}", human_size(disk.int(key) as f64))).collect();
    if list.is_empty() {
        return String::new();
    }
    format!(
        "\nOn the disk, each byte once: {} ({}).\nThe file system has {}, of which {} are in use.\n",
        human_size(disk.int("TotalBytes") as f64),
        list.join(", "),
        human_size(disk.int("FileSystemBytes") as f64),
        human_size(disk.int("FileSystemUsedBytes") as f64)
    )
}

fn line(kind: &str, total: usize, active: usize, size: i64, reclaimable: String) -> Row {
    Row::default()
        .text("Type", kind)
        .text("TotalCount", total.to_string())
        .text("Active", active.to_string())
        .text("Size", human_size(size as f64))
        .text("Reclaimable", reclaimable)
}

/// `1.2MB (34%)`.
fn share(part: i64, whole: i64) -> String {
    let part = part.max(0);
    if whole > 0 {
        format!("{} ({}%)", human_size(part as f64), part * 100 / whole)
    } else {
        human_size(part as f64)
    }
}

fn images(usage: &Json) -> Row {
    let images = usage.get("Images").array();
    let used = |i: &&Json| i.int("Containers") > 0;
    let whole = usage.int("LayersSize");
    let in_use: i64 = images
        .iter()
        .filter(used)
        .filter(|i| i.int("Size") != -1)
        .map(|i| i.int("Size") - i.int("SharedSize").max(0))
        .sum();
    line("Images", images.len(), images.iter().filter(used).count(), whole, share(whole - in_use, whole))
}

fn is_active(container: &Json) -> bool {
    let state = container.str("State").to_lowercase();
    ["running", "paused", "restarting"].iter().any(|s| state.contains(s))
}

fn containers(usage: &Json) -> Row {
    let containers = usage.get("Containers").array();
    let whole: i64 = containers.iter().map(|c| c.int("SizeRw")).sum();
    let idle: i64 = containers.iter().filter(|c| !is_active(c)).map(|c| c.int("SizeRw")).sum();
    let active = containers.iter().filter(|c| is_active(c)).count();
    line("Containers", containers.len(), active, whole, share(idle, whole))
}

fn volumes(usage: &Json) -> Row {
    let volumes = usage.get("Volumes").array();
    let size = |v: &Json| v.get("UsageData").int("Size").max(0);
    let links = |v: &Json| v.get("UsageData").int("RefCount");
    let whole: i64 = volumes.iter().map(size).sum();
    let free: i64 = volumes.iter().filter(|v| links(v) == 0).map(size).sum();
    let active = volumes.iter().filter(|v| links(v) > 0).count();
    line("Local Volumes", volumes.len(), active, whole, share(free, whole))
}

fn cache(usage: &Json) -> Row {
    let records = usage.get("BuildCache").array();
    let whole: i64 = records.iter().filter(|r| !r.bool("Shared")).map(|r| r.int("Size")).sum();
    let in_use: i64 =
        records.iter().filter(|r| r.bool("InUse") && !r.bool("Shared")).map(|r| r.int("Size")).sum();
    let active = records.iter().filter(|r| r.bool("InUse")).count();
    line("Build Cache", records.len(), active, whole, human_size((whole - in_use) as f64))
}

fn verbose(usage: &Json) -> Result<String, Failure> {
    let mut out = "Images space usage:\n\n".to_owned();
    out.push_str(&table(
        &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"],
        usage.get("Images").array().iter().flat_map(image_cells).collect(),
    ));
    out.push_str("\nContainers space usage:\n\n");
    out.push_str(&table(
        &["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"],
        usage.get("Containers").array().iter().map(container_cells).collect(),
    ));
    out.push_str("\nLocal Volumes space usage:\n\n");
    out.push_str(&table(
        &["VOLUME NAME", "LINKS", "SIZE"],
        usage.get("Volumes").array().iter().map(volume_cells).collect(),
    ));
    let records = usage.get("BuildCache").array();
    let whole: i64 = records.iter().filter(|r| !r.bool("Shared")).map(|r| r.int("Size")).sum();
    out.push_str(&format!("\nBuild cache usage: {}\n\n", human_size(whole as f64)));
    out.push_str(&table(
        &["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"],
        records.iter().map(cache_cells).collect(),
    ));
    let snapshots = usage.get("Snapshots").array();
    if !snapshots.is_empty() {
        out.push_str("\nSnapshots space usage:\n\n");
        out.push_str(&table(
            &["SNAPSHOT", "KIND", "OWN SIZE", "SHARED SIZE"],
            snapshots.iter().map(snapshot_cells).collect(),
        ));
    }
    out.push_str(&on_the_disk(usage));
    Ok(out)
}

fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut text = headings.join("\t") + "\n";
    for row in rows {
        text.push_str(&(row.join("\t") + "\n"));
    }
    crate::format::table::align(&text)
}

fn image_cells(image: &Json) -> Vec<Vec<String>> {
    let tags = image.get("RepoTags").strings();
    let names: Vec<(&str, &str)> = if tags.is_empty() {
        vec![("<none>", "<none>")]
    } else {
        tags.iter().filter_map(|t| t.rsplit_once(':')).collect()
    };
    let (size, shared) = (image.int("Size"), image.int("SharedSize").max(0));
    let cells = |(repository, tag): (&str, &str)| {
        vec![
            repository.to_owned(),
            tag.to_owned(),
            short_id(image.str("Id")).to_owned(),
            time::ago(image.int("Created")),
            human_size_3(size as f64),
            human_size(shared as f64),
            human_size((size - shared) as f64),
            image.int("Containers").to_string(),
        ]
    };
    names.into_iter().map(cells).collect()
}

fn container_cells(container: &Json) -> Vec<String> {
    let local = container.get("Mounts").array().iter().filter(|m| m.str("Driver") == "local").count();
    vec![
        short_id(container.str("Id")).to_owned(),
        super::ps::image(container, false),
        super::ps::go_quote(&ellipsis(container.str("Command"), 20)),
        local.to_string(),
        human_size_3(container.int("SizeRw") as f64),
        time::ago(container.int("Created")),
        container.str("Status").to_owned(),
        super::ps::names(container, false),
    ]
}

fn volume_cells(volume: &Json) -> Vec<String> {
    let usage = volume.get("UsageData");
    vec![
        volume.str("Name").to_owned(),
        usage.int("RefCount").to_string(),
        human_size(usage.int("Size").max(0) as f64),
    ]
}

fn snapshot_cells(snapshot: &Json) -> Vec<String> {
    let kind = if snapshot.str("Kind") == "snapshot" { "container" } else { "volume" };
    vec![
        snapshot.str("Name").to_owned(),
        kind.to_owned(),
        human_size(snapshot.int("OwnBytes") as f64),
        human_size(snapshot.int("SharedBytes") as f64),
    ]
}

fn cache_cells(record: &Json) -> Vec<String> {
    let ago = |key: &str| {
        let at: Option<seacow_spec::time::Timestamp> = record.str(key).parse().ok();
        at.map(|t| time::ago(t.unix_seconds())).unwrap_or_default()
    };
    vec![
        ellipsis(record.str("ID"), 13).trim_end_matches('…').to_owned(),
        record.str("Type").to_owned(),
        human_size(record.int("Size") as f64),
        ago("CreatedAt"),
        ago("LastUsedAt"),
        record.int("UsageCount").to_string(),
        record.bool("Shared").to_string(),
    ]
}
