//! What takes the disk, who shares it, and what prune commands leave: with every storage driver, against
//! what `du` and the file system say.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use seacow_tests::{Engine, patience};
use serde_json::Value;

/// How far sums may be from what the disk says: a file system's own trees, and directories that come and
/// go with prepared containers.
const SLACK: i64 = 2 << 20;
const MIB: i64 = 1 << 20;
const PARTS: [&str; 8] =
    ["Images", "Snapshots", "Containers", "Volumes", "VolumeSnapshots", "Logs", "Passing", "Store"];

fn engine(flags: &[&str]) -> Option<Engine> {
    let engine = Engine::start_with(flags);
    (!engine.skip_on_docker()).then_some(engine)
}

fn has(program: &str) -> bool {
    let found = ["/sbin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !found {
        println!("SKIPPED: {program} is not installed");
    }
    found
}

fn number(json: &Value, key: &str) -> i64 {
    json[key].as_i64().unwrap_or_else(|| panic!("no {key} in {json}"))
}

fn disk(engine: &Engine) -> Value {
    engine.api("GET", "/system/df", "").json()["Disk"].clone()
}

/// Shared, own, with whom.
fn share(engine: &Engine, name: &str) -> (i64, i64, String) {
    let rows =
        engine.seacow(&["cow", "--format", "{{.SharedBytes}} {{.OwnBytes}} {{.SharedWith}}", name]).ok();
    let mut words = rows.lines().next().unwrap_or_else(|| panic!("no {name}")).splitn(3, ' ');
    let mut bytes = || words.next().unwrap().parse().unwrap();
    (bytes(), bytes(), words.next().unwrap_or_default().to_owned())
}

fn near(bytes: i64, expected: i64) -> bool {
    bytes.abs_diff(expected) < SLACK.unsigned_abs()
}

fn fill(engine: &Engine, container: &str, path: &str, mib: u32) {
    let script = format!("dd if=/dev/urandom of={path} bs=1M count={mib} 2>/dev/null; sync");
    engine.docker(&["exec", container, "sh", "-c", &script]).ok();
}

/// The parts add up to the total, and the total to what `measure` says, at every stage.
fn adds_up(engine: &Engine, measure: &dyn Fn() -> i64) {
    // Without pool: prepared containers come and go.
    let (empty, nothing) = (measure(), number(&disk(engine), "TotalBytes"));
    let agrees = |stage: &str| {
        let began = Instant::now();
        loop {
            let disk = disk(engine);
            let sum: i64 = PARTS.iter().map(|part| number(&disk, &format!("{part}Bytes"))).sum();
            assert_eq!(sum, number(&disk, "TotalBytes"), "{disk}");
            let (ours, theirs) = (sum - nothing, measure() - empty);
            if near(ours, theirs) {
                return;
            }
            // Blocks of what was removed are freed in the background.
            let late = began.elapsed() > patience(40);
            assert!(!late, "{stage}: we say {ours}, the disk {theirs}: {disk}");
        }
    };
    engine.docker(&["run", "-d", "--name", "one", "-v", "data:/data", "bb", "tail", "-f", "/dev/null"]).ok();
    fill(engine, "one", "/big", 8);
    fill(engine, "one", "/data/f", 8);
    agrees("a container and a volume add up");
    engine.docker(&["commit", "one", "grown"]).ok();
    engine.seacow(&["snapshot", "one"]).ok();
    engine.seacow(&["volume", "snapshot", "data"]).ok();
    engine.seacow(&["volume", "clone", "data", "copy"]).ok();
    agrees("an image, snapshots and a clone add up");
    let disk = disk(engine);
    for part in ["Images", "Volumes", "Store"] {
        assert!(number(&disk, &format!("{part}Bytes")) > 0, "{part}: {disk}");
    }
    engine.docker(&["rm", "-f", "one"]).ok();
    engine.docker(&["rmi", "grown"]).ok();
    engine.docker(&["volume", "rm", "data", "copy"]).ok();
    agrees("what is left adds up");
}

fn du(path: PathBuf) -> impl Fn() -> i64 {
    move || {
        let out = Command::new("du").args(["-sx", "-B1"]).arg(&path).output().unwrap();
        String::from_utf8_lossy(&out.stdout).split('\t').next().unwrap().parse().unwrap()
    }
}

/// As the file system itself counts, of a mount that only this process's namespace has.
fn used(of: u32, path: PathBuf) -> impl Fn() -> i64 {
    move || {
        let within = format!("/proc/{of}/root{}", path.display());
        let synced = Command::new("sync").args(["-f", &within]).status().unwrap();
        assert!(synced.success());
        let out = Command::new("nsenter")
            .args(["-m", "-t", &of.to_string(), "df", "-B1", "--output=used"])
            .arg(&path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).lines().last().unwrap().trim().parse().unwrap()
    }
}

#[test]
fn overlays_add_up_to_du() {
    let Some(engine) = engine(&["--storage-driver=overlay", "--pool-size=0"]) else { return };
    adds_up(&engine, &du(engine.data_root()));
}

#[test]
fn copies_add_up_to_du() {
    let Some(engine) = engine(&["--storage-driver=copy", "--pool-size=0"]) else { return };
    adds_up(&engine, &du(engine.data_root()));
}

#[test]
fn a_store_file_adds_up_to_its_file_system() {
    if !has("mkfs.xfs") {
        return;
    }
    let Some(engine) = engine(&["--storage-init=4g", "--pool-size=0"]) else { return };
    let store = engine.data_root().join("store");
    if !store.exists() {
        println!("SKIPPED: /var/lib shares extents by itself");
        return;
    }
    adds_up(&engine, &used(engine.daemon_pid(), store));
    // What extents tell: a page of a large file is a page, and a clone is nothing until it is written.
    engine.docker(&["run", "-d", "--name", "two", "-v", "data:/data", "bb", "tail", "-f", "/dev/null"]).ok();
    fill(&engine, "two", "/big", 16);
    fill(&engine, "two", "/data/f", 16);
    engine.docker(&["commit", "two", "grown"]).ok();
    engine.docker(&["run", "-d", "--name", "three", "grown", "tail", "-f", "/dev/null"]).ok();
    let page = "dd if=/dev/urandom of=/big bs=4k count=1 seek=100 conv=notrunc 2>/dev/null; sync";
    engine.docker(&["exec", "three", "sh", "-c", page]).ok();
    let (shared, own, with) = share(&engine, "three");
    assert!(shared > 16 * MIB && own < MIB, "{shared} {own}");
    assert!(with.contains("grown:latest") && with.contains("bb:latest") && with.contains("two"), "{with}");
    engine.seacow(&["volume", "snapshot", "--name", "before", "data"]).ok();
    engine.seacow(&["volume", "clone", "data", "copy"]).ok();
    for (name, others) in [
        ("data", "volume copy, volume data@before"),
        ("copy", "volume data, volume data@before"),
        ("data@before", "volume copy, volume data"),
    ] {
        let (shared, own, with) = share(&engine, name);
        assert!(near(shared, 16 * MIB) && own < MIB && with == others, "{name}: {shared} {own} {with}");
    }
    fill(&engine, "two", "/data/f", 4);
    let (shared, own, _) = share(&engine, "data");
    assert!(shared < MIB && near(own, 4 * MIB), "{shared} {own}");
    let df = engine.seacow(&["system", "df", "-v"]).ok();
    assert!(df.contains("data@before") && df.contains("On the disk, each byte once"), "{df}");
}

#[test]
fn subvolumes_add_up_to_their_file_system() {
    if !has("mkfs.btrfs") {
        return;
    }
    let dir = std::env::temp_dir().join(format!("seacow-accounting-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("disk").display().to_string();
    let script = "truncate -s 4G $0 && mkfs.btrfs -q $0 && for root; do case $root in --data-root=*) \
                  root=${root#*=}; mkdir -p $root && mount -o loop,noatime $0 $root;; esac; done && exec \"$@\"";
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, &file];
    let engine = Engine::start_through(&words, &["--storage-driver=btrfs", "--pool-size=0"]);
    if !engine.skip_on_docker() {
        adds_up(&engine, &used(engine.daemon_pid(), engine.data_root()));
    }
    drop(engine);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Layers by what stands on them, and every kind of object by its name.
#[test]
fn anything_can_be_asked_for() {
    let Some(engine) = engine(&["--storage-driver=overlay"]) else { return };
    engine.docker(&["run", "-d", "--name", "one", "-v", "data:/data", "bb", "tail", "-f", "/dev/null"]).ok();
    fill(&engine, "one", "/big", 4);
    engine.docker(&["commit", "one", "grown"]).ok();
    engine.seacow(&["snapshot", "one"]).ok();
    engine.seacow(&["volume", "snapshot", "data"]).ok();
    for name in ["one", "bb", "grown", "data", "one@1", "data@1"] {
        share(&engine, name);
    }
    engine.seacow(&["cow", "nosuch"]).fails(1, "No such container, image, volume, snapshot or layer: nosuch");
    let (shared, own, with) = share(&engine, "bb");
    assert!(shared > MIB && own == 0 && with.contains("grown:latest"), "{shared} {own} {with}");
    let (_, own, _) = share(&engine, "grown");
    assert!(near(own, 4 * MIB), "{own}");

    let ledger = engine.api("GET", "/system/cow", "").json();
    let layers = ledger["Layers"].as_array().unwrap();
    let base = layers.iter().find(|layer| number(layer, "SharedBytes") > 0).unwrap();
    assert_eq!(number(base, "OwnBytes"), 0, "{base}");
    let (shared, own, with) = share(&engine, base["Name"].as_str().unwrap());
    assert!(
        shared > MIB && own == 0 && with.contains("bb:latest") && with.contains("grown"),
        "{shared} {with}"
    );
    let text = engine.seacow(&["cow", "--layers"]).ok();
    assert_eq!(text.lines().filter(|line| line.starts_with("layer ")).count(), layers.len(), "{text}");
    // One image with its containers: its layers are its own.
    engine.docker(&["rmi", "-f", "grown"]).ok();
    engine.docker(&["rm", "-f", "one"]).ok();
    let (shared, own, _) = share(&engine, "bb");
    assert!(own > MIB && shared == 0, "{shared} {own}");
}

/// `until`, `label`, `label!`, `dangling`, `all`: what each leaves.
#[test]
fn prune_takes_what_the_filters_allow() {
    let Some(engine) = engine(&[]) else { return };
    engine.docker(&["create", "--name", "keep", "--label", "keep=yes", "bb", "true"]).ok();
    engine.docker(&["create", "--name", "go", "--label", "team=a", "bb", "true"]).ok();
    for kind in ["container", "image", "network", "volume"] {
        let ask = |query: &str| engine.api("POST", &format!("/{kind}s/prune?filters={query}"), "");
        ask("%7B%22nope%22%3A%5B%22x%22%5D%7D").refuses(400, "invalid filter 'nope'");
        if kind != "volume" {
            ask("%7B%22until%22%3A%5B%22yesterday%22%5D%7D").refuses(400, "yesterday");
            ask("%7B%22until%22%3A%5B%221h%22%2C%222h%22%5D%7D").refuses(400, "more than one until");
        }
    }
    let names = || engine.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    engine.docker(&["container", "prune", "-f", "--filter", "until=1h"]).ok();
    engine.docker(&["container", "prune", "-f", "--filter", "label=team=b"]).ok();
    assert_eq!(names().lines().count(), 2);
    engine.seacow(&["snapshot", "go"]).ok();
    engine.docker(&["container", "prune", "-f", "--filter", "label!=keep"]).ok();
    assert_eq!(names(), "keep");
    assert_eq!(engine.seacow(&["snapshot", "ls", "-q"]).ok(), "");

    engine.docker(&["volume", "create", "--label", "keep", "named"]).ok();
    engine.docker(&["volume", "create", "other"]).ok();
    engine.docker(&["create", "--name", "anonymous", "-v", "/anonymous", "bb", "true"]).ok();
    engine.docker(&["rm", "anonymous"]).ok();
    let volumes = || engine.docker(&["volume", "ls", "-q"]).ok();
    assert_eq!(volumes().lines().count(), 3);
    engine.seacow(&["volume", "prune", "-f"]).ok();
    assert_eq!(volumes(), "named\nother");
    engine.seacow(&["volume", "prune", "-f", "--all", "--filter", "label!=keep"]).ok();
    assert_eq!(volumes(), "named");

    engine.docker(&["commit", "keep", "labelled"]).ok();
    engine.docker(&["commit", "--change", "LABEL stay=1", "keep"]).ok();
    engine.docker(&["commit", "keep"]).ok();
    let dangling = || engine.docker(&["images", "-q", "--filter", "dangling=true"]).ok().lines().count();
    assert_eq!(dangling(), 2);
    engine.docker(&["image", "prune", "-f", "--filter", "label!=stay"]).ok();
    assert_eq!(dangling(), 1);
    engine.docker(&["image", "prune", "-f", "--filter", "until=1h"]).ok();
    assert_eq!(dangling(), 1);
    engine.docker(&["image", "prune", "-f"]).ok();
    assert_eq!(dangling(), 0);
    engine.docker(&["image", "prune", "-af"]).ok();
    let images = engine.docker(&["images", "--format", "{{.Repository}}"]).ok();
    assert!(images.contains("bb") && !images.contains("labelled"), "{images}");
}

/// Snapshots are removed when they are meant, and what others stand on stays.
#[test]
fn snapshots_are_pruned_by_name_label_and_age() {
    let Some(engine) = engine(&["--storage-driver=overlay"]) else { return };
    for (name, label) in [("one", "team=a"), ("two", "team=b")] {
        engine
            .docker(&[
                "run",
                "-d",
                "--name",
                name,
                "--label",
                label,
                "-v",
                "data:/data",
                "bb",
                "tail",
                "-f",
                "/dev/null",
            ])
            .ok();
        fill(&engine, name, "/big", 4);
        engine.seacow(&["snapshot", name]).ok();
        engine.seacow(&["snapshot", name]).ok();
    }
    engine.seacow(&["volume", "snapshot", "data"]).ok();
    engine.seacow(&["clone", "--snapshot", "1", "--name", "three", "two"]).ok();
    let left = || {
        let rows = engine.seacow(&["snapshot", "ls", "--format", "{{.Container}}@{{.Name}}"]).ok();
        let mut rows: Vec<_> = rows.lines().map(str::to_owned).collect();
        rows.sort();
        rows.join(" ")
    };
    let prune = |filters: &[&str]| {
        let mut args = vec!["snapshot", "prune", "-f"];
        args.extend(filters.iter().flat_map(|filter| ["--filter", *filter]));
        engine.seacow(&args).ok()
    };
    prune(&["until=1h"]);
    assert_eq!(left(), "one@1 one@2 two@1 two@2");
    let said = prune(&["label=team=a"]);
    assert!(said.contains("one@1\none@2"), "{said}");
    let reclaimed = said.split("reclaimed space: ").nth(1).unwrap();
    assert!(reclaimed.starts_with('4') || reclaimed.starts_with('8'), "{said}");
    assert_eq!(left(), "two@1 two@2");
    engine.seacow(&["snapshot", "prune", "-f", "--filter", "container=nosuch"]).fails(1, "No such container");
    engine.seacow(&["snapshot", "prune", "-f", "--filter", "nope=1"]).fails(1, "invalid filter 'nope'");
    prune(&["container=two"]);
    assert_eq!(left(), "");
    let saved = || engine.seacow(&["volume", "snapshots", "-q", "data"]).ok();
    assert_eq!(saved(), "1");
    engine.docker(&["start", "three"]).ok();
    assert_eq!(engine.docker(&["exec", "three", "stat", "-c", "%s", "/big"]).ok(), "4194304");
    engine.seacow(&["snapshot", "prune", "-f", "--volumes"]).ok();
    assert_eq!(saved(), "");
}
