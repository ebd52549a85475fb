//! `cow`: the copy-on-write ledger. What is shared, with whom; what was copied, and what it costs.

use seacow_spec::docker::snapshot::Snapshot;
use seacow_spec::docker::system::{CowContainer, CowImage, CowLedger, CowMemory, CowObject};

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::short_id;
use crate::format::units::human_size;

const FLAGS: &[Flag] = &[
    Flag::new(NO, "format", Kind::Str, "Format output using a custom template, one row per object"),
    Flag::new(NO, "json", Kind::Bool, "Print the whole ledger as JSON"),
    Flag::new(NO, "files", Kind::Bool, "List every copied file (default: the five largest)"),
    Flag::new(NO, "layers", Kind::Bool, "Show layers too"),
];

/// `cow`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [CONTAINER|IMAGE|VOLUME|SNAPSHOT|LAYER...]",
    about: "Show what containers, images and volumes share, and what was copied",
    long: "Show for every container, image, volume and snapshot which bytes of the disk it has alone, which it \
           shares, and with whom; and what containers have copied.\n\nWhere the file system shares extents \
           (xfs, btrfs) these are compared, elsewhere whole files. Of what runs, also the memory that it has alone and \
           that others have too: forks of it, and everybody who has mapped the same files. Snapshots are written CONTAINER@SNAPSHOT and \
           VOLUME@SNAPSHOT, layers as their chain id or its beginning. Every file of the store is looked at.",
    flags: &[FLAGS],
    args: Args::AtLeast(0),
    run,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Kind}}\t{{.Name}}\t{{.Image}}\t{{.Shared}}\t{{.Own}}\t{{.CopiedUp}}\t{{.SharedWith}}",
    quiet: "{{.Name}}",
    raw: "",
    headings: &[
        ("Kind", "KIND"),
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Image", "IMAGE"),
        ("Shared", "SHARED"),
        ("SharedBytes", "SHARED BYTES"),
        ("Own", "OWN"),
        ("OwnBytes", "OWN BYTES"),
        ("CopiedUp", "COPIED"),
        ("Created", "CREATED"),
        ("Deleted", "DELETED"),
        ("SharedWith", "SHARED WITH"),
        ("Files", "FILES"),
        ("Memory", "MEMORY"),
        ("OwnMemory", "OWN MEMORY"),
        ("SharedMemory", "SHARED MEMORY"),
    ],
    go_type: "*cow.rowContext",
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let mut ledger: CowLedger = client.get("/system/cow").json().map_err(|e| match e.status() {
        Some(404 | 501) => Failure::Refused(format!(
            "NotImplemented: the engine at {} keeps no copy-on-write ledger (is it a seacow?)",
            client.endpoint.url
        )),
        _ => e.into(),
    })?;
    select(&mut ledger, invocation.args())?;
    if matches.bool("json") || matches.str("format") == "json" && matches.changed("json") {
        let text = serde_json::to_string_pretty(&ledger);
        return crate::outln(&text.map_err(|e| Failure::Refused(e.to_string()))?);
    }
    let shown = |kind: &[CowObject]| kind.iter().map(object_row).collect::<Vec<_>>();
    let mut rows: Vec<Row> = ledger.containers.iter().map(container_row).collect();
    rows.extend(ledger.snapshots.iter().map(snapshot_row));
    rows.extend(ledger.images.iter().map(image_row));
    rows.extend(shown(&ledger.volumes));
    rows.extend(shown(&ledger.volume_snapshots));
    if matches.bool("layers") || !invocation.args().is_empty() {
        rows.extend(shown(&ledger.layers));
    }
    let shape = LISTING.shape(matches.str("format"), false);
    let text = LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?;
    crate::out(&text)?;
    if matches.str("format").is_empty() {
        crate::out(&details(&ledger, matches.bool("files"), !invocation.args().is_empty()))?;
    }
    Ok(())
}

/// Keeps what the user asked for, by name, tag or the beginning of an id.
fn select(ledger: &mut CowLedger, wanted: &[String]) -> Outcome {
    if wanted.is_empty() {
        return Ok(());
    }
    let begins = |id: &str, w: &str| short_of(id).starts_with(w) || id.starts_with(w);
    let is_container = |c: &CowContainer, w: &str| c.name == w || begins(&c.id, w);
    let is_image = |i: &CowImage, w: &str| {
        begins(&i.id, w) || i.tags.iter().any(|t| t == w || t.strip_suffix(":latest") == Some(w))
    };
    let is_snapshot =
        |s: &Snapshot, w: &str| format!("{}@{}", s.container_name, s.name) == w || begins(&s.id, w);
    let is_object = |o: &CowObject, w: &str| o.name == w || (o.kind == "layer" && begins(&o.id, w));
    let objects = |ledger: &CowLedger, w: &str| {
        [&ledger.layers, &ledger.volumes, &ledger.volume_snapshots]
            .into_iter()
            .flatten()
            .any(|o| is_object(o, w))
    };
    for name in wanted {
        let known = ledger.containers.iter().any(|c| is_container(c, name))
            || ledger.images.iter().any(|i| is_image(i, name))
            || ledger.snapshots.iter().any(|s| is_snapshot(s, name))
            || objects(ledger, name);
        if !known {
            return Err(Failure::Refused(format!(
                "Error: No such container, image, volume, snapshot or layer: {name}"
            )));
        }
    }
    let any = |fits: &dyn Fn(&str) -> bool| wanted.iter().any(|w| fits(w));
    ledger.containers.retain(|c| any(&|w| is_container(c, w)));
    // A container and a volume bring their snapshots.
    let kept: Vec<&String> = ledger.containers.iter().map(|c| &c.id).collect();
    ledger.snapshots.retain(|s| kept.contains(&&s.container) || any(&|w| is_snapshot(s, w)));
    ledger.images.retain(|i| any(&|w| is_image(i, w)));
    ledger.layers.retain(|l| any(&|w| is_object(l, w)));
    ledger.volumes.retain(|v| any(&|w| is_object(v, w)));
    let kept = |name: &str| {
        ledger
            .volumes
            .iter()
            .any(|v| name.strip_prefix(v.name.as_str()).is_some_and(|rest| rest.starts_with('@')))
    };
    ledger.volume_snapshots.retain(|s| kept(&s.name) || any(&|w| is_object(s, w)));
    Ok(())
}

fn short_of(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

fn container_row(c: &CowContainer) -> Row {
    let files: Vec<&str> = c.copied_up.iter().map(|f| f.path.as_str()).collect();
    let memory =
        |part: fn(&CowMemory) -> u64| c.memory.map_or_else(String::new, |m| human_size(part(&m) as f64));
    Row::default()
        .text("Kind", "container")
        .text("ID", short_id(&c.id))
        .text("Name", &c.name)
        .text("Image", &c.image)
        .text("Shared", if c.on_host { "host".to_owned() } else { human_size(c.shared_bytes as f64) })
        .text("SharedBytes", c.shared_bytes.to_string())
        .text("Own", human_size(c.own_bytes as f64))
        .text("OwnBytes", c.own_bytes.to_string())
        .text("CopiedUp", plural(c.copied_up.len() as u64, "file"))
        .text("Created", c.created.to_string())
        .text("Deleted", c.deleted.to_string())
        .text("SharedWith", c.shared_with.join(", "))
        .text("Files", files.join(","))
        .text("Memory", memory(|memory| memory.resident_bytes))
        .text("OwnMemory", memory(|memory| memory.own_bytes))
        .text("SharedMemory", memory(|memory| memory.shared_bytes))
}

fn snapshot_row(s: &Snapshot) -> Row {
    Row::default()
        .text("Kind", "snapshot")
        .text("ID", short_id(&s.id))
        .text("Name", format!("{}@{}", s.container_name, s.name))
        .text("Image", "")
        .text("Shared", s.shared_bytes.map_or_else(String::new, |bytes| human_size(bytes as f64)))
        .text("SharedBytes", s.shared_bytes.map_or_else(String::new, |bytes| bytes.to_string()))
        .text("Own", human_size(s.own_bytes as f64))
        .text("OwnBytes", s.own_bytes.to_string())
        .text("CopiedUp", "")
        .text("Created", "")
        .text("Deleted", "")
        .text("SharedWith", s.shared_with.join(", "))
        .text("Files", "")
        .text("Memory", "")
        .text("OwnMemory", "")
        .text("SharedMemory", "")
}

fn image_row(i: &CowImage) -> Row {
    let name = i.tags.first().map_or("<none>", String::as_str);
    Row::default()
        .text("Kind", "image")
        .text("ID", short_id(&i.id))
        .text("Name", name)
        .text("Image", short_id(&i.id))
        .text("Shared", human_size(i.shared_bytes as f64))
        .text("SharedBytes", i.shared_bytes.to_string())
        .text("Own", human_size(i.own_bytes as f64))
        .text("OwnBytes", i.own_bytes.to_string())
        .text("CopiedUp", "")
        .text("Created", "")
        .text("Deleted", "")
        .text("SharedWith", i.shared_with.join(", "))
        .text("Files", "")
        .text("Memory", "")
        .text("OwnMemory", "")
        .text("SharedMemory", "")
}

fn object_row(o: &CowObject) -> Row {
    Row::default()
        .text("Kind", &o.kind)
        .text("ID", short_id(&o.id))
        .text("Name", &o.name)
        .text("Image", "")
        .text("Shared", human_size(o.shared_bytes as f64))
        .text("SharedBytes", o.shared_bytes.to_string())
        .text("Own", human_size(o.own_bytes as f64))
        .text("OwnBytes", o.own_bytes.to_string())
        .text("CopiedUp", "")
        .text("Created", "")
        .text("Deleted", "")
        .text("SharedWith", o.shared_with.join(", "))
        .text("Files", "")
        .text("Memory", "")
        .text("OwnMemory", "")
        .text("SharedMemory", "")
}

fn plural(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Copied files that are listed without `--files`.
const FILES_SHOWN: usize = 5;

/// What changed in each container, and the sums.
fn details(ledger: &CowLedger, all_files: bool, selected: bool) -> String {
    let mut out = String::new();
    for c in ledger.containers.iter().filter(|c| !c.copied_up.is_empty() || c.created + c.deleted > 0) {
        out.push_str(&format!(
            "\n{}: {} copied, {} made, {} deleted\n",
            c.name,
            plural(c.copied_up.len() as u64, "file"),
            c.created,
            c.deleted
        ));
        let mut files: Vec<_> = c.copied_up.iter().collect();
        files.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
        let shown = if all_files { files.len() } else { FILES_SHOWN };
        for file in files.iter().take(shown) {
            out.push_str(&format!("  {}  {}\n", file.path, human_size(file.bytes as f64)));
        }
        if files.len() > shown {
            out.push_str(&format!("  … and {} more (--files lists them)\n", files.len() - shown));
        }
    }
    let running: Vec<_> = ledger.containers.iter().filter_map(|c| Some((&c.name, c.memory?))).collect();
    if !running.is_empty() {
        out.push_str("\nMemory of what runs:\n");
    }
    for (name, memory) in running {
        out.push_str(&format!(
            "  {name}  {}, of which {} shared, {} its own\n",
            human_size(memory.resident_bytes as f64),
            human_size(memory.shared_bytes as f64),
            human_size(memory.own_bytes as f64)
        ));
    }
    if !selected {
        out.push_str(&format!(
            "\nLayers, each counted once: {}. Written by containers: {}. In volumes: {}.\n",
            human_size(ledger.layers_bytes as f64),
            human_size(ledger.containers_bytes as f64),
            human_size((ledger.disk.volumes_bytes + ledger.disk.volume_snapshots_bytes) as f64)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use seacow_spec::docker::system::CowFile;

    use super::*;

    fn ledger() -> CowLedger {
        CowLedger {
            containers: vec![CowContainer {
                id: "abcdef012345".into(),
                name: "container1".into(),
                shared_bytes: 2_000_000,
                own_bytes: 4096,
                copied_up: vec![CowFile { path: "/base_file.txt".into(), bytes: 4096 }],
                ..CowContainer::default()
            }],
            images: vec![CowImage {
                id: "sha256:123456".into(),
                tags: vec!["bb:latest".into()],
                ..CowImage::default()
            }],
            ..CowLedger::default()
        }
    }

    #[test]
    fn selecting() {
        let mut l = ledger();
        select(&mut l, &["bb".to_owned()]).unwrap();
        assert!(l.containers.is_empty() && l.images.len() == 1);
        let mut l = ledger();
        select(&mut l, &["abc".to_owned(), "1234".to_owned()]).unwrap();
        assert!(l.containers.len() == 1 && l.images.len() == 1);
        assert!(select(&mut ledger(), &["nope".to_owned()]).is_err());
        let object = |kind: &str, name: &str| CowObject {
            kind: kind.into(),
            id: name.into(),
            name: name.into(),
            ..CowObject::default()
        };
        let mut l = ledger();
        l.volumes = vec![object("volume", "data"), object("volume", "data2")];
        l.volume_snapshots = vec![object("volume snapshot", "data@1"), object("volume snapshot", "data2@1")];
        l.layers = vec![object("layer", "fedcba")];
        let mut both = l.clone();
        select(&mut both, &["data".to_owned(), "fed".to_owned()]).unwrap();
        assert_eq!((both.volumes.len(), both.volume_snapshots.len(), both.layers.len()), (1, 1, 1));
        select(&mut l, &["data2@1".to_owned()]).unwrap();
        assert_eq!((l.volumes.len(), l.volume_snapshots.len(), l.layers.len()), (0, 1, 0));
    }

    #[test]
    fn what_was_copied_is_said() {
        let text = details(&ledger(), false, true);
        assert_eq!(text, "\ncontainer1: 1 file copied, 0 made, 0 deleted\n  /base_file.txt  4.096kB\n");
    }
}
