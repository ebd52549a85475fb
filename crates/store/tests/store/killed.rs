//! kill -9 before every durable step of what changes much at once: merging frozen layers, prune, load, and
//! volumes that go back. The old or the new state is found again, and nothing left over.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seacow_spec::oci::image::ImageConfig;
use seacow_store::image::RemoveOptions;
use seacow_store::volume::CopyFor;
use seacow_store::{Store, StoreOptions, UpperMode};

use crate::common::{Tar, TestStore, image, in_mounted, is_root};
use crate::crash;

const DIR: &str = "SEACOW_STORE_TEST_KILLED_DIR";
const STEP: &str = "SEACOW_STORE_TEST_KILLED_STEP";
const WHAT: &str = "SEACOW_STORE_TEST_KILLED_WHAT";
/// Frozen layers from which on a freeze merges.
const MANY: usize = 64;

/// What is done to a store, and what must hold when it was cut short or not.
struct Scene {
    name: &'static str,
    before: fn(&Store),
    act: fn(&Store),
    after: fn(&Store),
    /// Steps that it has at least.
    steps: usize,
}

const SCENES: [Scene; 5] = [
    Scene {
        name: "merge",
        before: freeze_many,
        act: |store| merge(store, UpperMode::Move),
        after: merged,
        steps: 5,
    },
    Scene {
        name: "merge-copy",
        before: freeze_many,
        act: |store| merge(store, UpperMode::Copy),
        after: merged,
        steps: 4,
    },
    Scene { name: "prune", before: build, act: prune, after: pruned, steps: 4 },
    Scene { name: "load", before: |_| {}, act: load, after: loaded, steps: 5 },
    Scene { name: "volumes", before: fill, act: go_back, after: went_back, steps: 8 },
];

fn options(dir: &Path) -> StoreOptions {
    StoreOptions::new(dir.join("data"), dir.join("exec"))
}

fn key() -> seacow_store::SnapshotKey {
    "seacow-many".parse().unwrap()
}

/// Into the directory that the container would write to.
fn write(store: &Store, name: &str) {
    let upper = store.data_root().join("snapshots/seacow-many/upper");
    std::fs::write(upper.join(name), name).unwrap();
}

fn freeze_many(store: &Store) {
    let chain = store.images().resolve("bb").unwrap().chain;
    store.snapshots().prepare(&key(), chain.as_ref(), &Default::default()).unwrap();
    for n in 0..MANY {
        write(store, &format!("f{n}"));
        let layer = store.snapshots().freeze(&key(), UpperMode::Move).unwrap();
        if n == 9 {
            store.points().create("c", Some("tenth"), &layer, chain.as_ref()).unwrap();
        }
    }
    write(store, "last");
}

fn merge(store: &Store, mode: UpperMode) {
    let layer = store.snapshots().freeze(&key(), mode).unwrap();
    store.points().create("c", Some("merged"), &layer, None).unwrap();
}

fn merged(store: &Store) {
    let names = |root: &Path| {
        let there = |n: &usize| root.join(format!("f{n}")).exists();
        ((0..MANY).filter(there).count(), root.join("last").exists(), root.join("file").exists())
    };
    in_mounted(store, &store.snapshots().get(&key()).unwrap(), &[], &|root| {
        assert_eq!(names(root), (MANY, true, true));
    });
    for (point, expected) in [("tenth", (10, false, true)), ("merged", (MANY, true, true))] {
        let Ok(point) = store.points().find("c", point) else { continue };
        let other = "seacow-other".parse().unwrap();
        let rootfs = store.snapshots().branch(&other, &point.layer, None, &Default::default()).unwrap();
        in_mounted(store, &rootfs, &[], &|root| assert_eq!(names(root), expected));
        store.snapshots().remove(&other).unwrap();
    }
}

fn build(store: &Store) {
    let bb = store.images().resolve("bb").unwrap();
    for n in 0..3 {
        let tar = Tar::new().file(&format!("only{n}"), "x").bytes();
        let layer = store
            .layers()
            .begin(bb.chain.as_ref())
            .unwrap()
            .apply_tar(&tar[..])
            .unwrap()
            .commit(None)
            .unwrap();
        let config = ImageConfig { os: "linux".into(), author: n.to_string(), ..ImageConfig::default() };
        store.images().create_from_config(config, Some(layer.chain_id()), Some(&bb.id)).unwrap();
    }
}

fn prune(store: &Store) {
    for image in store.images().list().iter().filter(|image| image.names.is_empty()) {
        store.images().remove(image.id.as_str(), RemoveOptions::default(), &|_| Vec::new()).unwrap();
    }
    store.layers().remove_unused().unwrap();
}

/// What is left is whole; what no image has is gone.
fn pruned(store: &Store) {
    let images = store.images().list();
    for image in &images {
        assert!(store.layers().stack(image.chain.as_ref().unwrap()).is_ok(), "{image:?}");
    }
    let used = |layer: &Arc<seacow_store::LayerInfo>| {
        images.iter().any(|image| {
            store
                .layers()
                .stack(image.chain.as_ref().unwrap())
                .unwrap()
                .iter()
                .any(|l| l.chain_id == layer.chain_id)
        })
    };
    assert!(store.layers().list().iter().all(used));
    prune(store);
}

fn archive() -> Vec<u8> {
    let layers = [Tar::new().file("one", "1").bytes(), Tar::new().file("two", "2").bytes()];
    let ids: Vec<String> = layers.iter().map(|layer| seacow_store::digest(layer).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids },
    });
    let item = serde_json::json!([{ "Config": "config", "RepoTags": ["two"], "Layers": ["0", "1"] }]);
    Tar::new()
        .file("0", &layers[0])
        .file("1", &layers[1])
        .file("config", serde_json::to_vec(&config).unwrap())
        .file("manifest.json", serde_json::to_vec(&item).unwrap())
        .bytes()
}

fn load(store: &Store) {
    store.images().load(&archive()[..], |_| {}).unwrap();
}

fn loaded(store: &Store) {
    if let Ok(image) = store.images().resolve("two") {
        assert_eq!(store.layers().stack(image.chain.as_ref().unwrap()).unwrap().len(), 2);
        store.images().remove("two", RemoveOptions::default(), &|_| Vec::new()).unwrap();
    }
    assert_eq!(store.layers().list().len(), 1);
}

fn fill(store: &Store) {
    let volume = store.volumes().create("vol", Default::default(), false).unwrap();
    std::fs::write(volume.path.join("f"), "1").unwrap();
    store
        .volumes()
        .save("vol", Some("1"), &store.volumes().copy_of("vol", None, CopyFor::Snapshot).unwrap())
        .unwrap();
    std::fs::write(volume.path.join("f"), "2").unwrap();
}

fn go_back(store: &Store) {
    let volumes = store.volumes();
    volumes.roll_back("vol", "1").unwrap();
    volumes.save("vol", Some("again"), &volumes.copy_of("vol", None, CopyFor::Snapshot).unwrap()).unwrap();
    volumes
        .adopt("twin", &volumes.copy_of("vol", Some("again"), CopyFor::Volume).unwrap(), Default::default())
        .unwrap();
    volumes.forget("vol", "1").unwrap();
    volumes.remove("twin").unwrap();
    volumes.remove("vol").unwrap();
}

fn went_back(store: &Store) {
    let content = |path: &Path| std::fs::read_to_string(path.join("f")).unwrap();
    for volume in store.volumes().list() {
        let saved = volume.path.parent().unwrap().join("saved");
        for name in volume.saved.iter().map(|saved| &saved.name) {
            assert_eq!(content(&saved.join(name)), "1");
        }
        let there = std::fs::read_dir(&saved).map_or(0, Iterator::count);
        assert_eq!(there, volume.saved.len(), "{volume:?}");
        let now = content(&volume.path);
        let gone_back = volume.name == "twin" || volume.saved.iter().all(|saved| saved.name != "1");
        assert!(now == "1" || (now == "2" && !gone_back), "{volume:?}: {now}");
    }
}

/// Run by [`everything_may_be_killed`] in a process of its own.
#[test]
fn child() {
    let (Ok(dir), Ok(step), Ok(what)) = (std::env::var(DIR), std::env::var(STEP), std::env::var(WHAT)) else {
        return;
    };
    let scene = SCENES.iter().find(|scene| scene.name == what).unwrap();
    let (step, count, armed): (usize, _, _) =
        (step.parse().unwrap(), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let trigger = armed.clone();
    let mut options = options(Path::new(&dir));
    options.faults = Some(Arc::new(move |_| {
        if trigger.load(Ordering::SeqCst) == 1 && count.fetch_add(1, Ordering::SeqCst) == step {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
        Ok(())
    }));
    let store = crash::open(&options);
    armed.store(1, Ordering::SeqCst);
    (scene.act)(&store);
}

#[test]
fn everything_may_be_killed() {
    if !is_root("everything_may_be_killed") {
        return;
    }
    let mut store = TestStore::new();
    image(&store, "bb", &crash::base());
    let dir = store.dir.path().to_owned();
    store.store = None;
    for scene in SCENES {
        for step in 0.. {
            let store = crash::open(&options(&dir));
            (scene.before)(&store);
            drop(store);
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "killed::child", "--nocapture"])
                .env(DIR, &dir)
                .env(STEP, step.to_string())
                .env(WHAT, scene.name)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            let store = crash::open(&options(&dir));
            (scene.after)(&store);
            clear(&store);
            drop(store);
            crash::check_clean(&dir);
            if status.success() {
                assert!(step >= scene.steps, "{}: only {step} steps", scene.name);
                break;
            }
            assert!(status.code().is_none(), "{}, step {step}: {status}", scene.name);
        }
    }
}

fn clear(store: &Store) {
    store.snapshots().remove(&key()).unwrap();
    store.points().remove_of("c").unwrap();
    for volume in store.volumes().list() {
        store.volumes().remove(&volume.name).unwrap();
    }
}
