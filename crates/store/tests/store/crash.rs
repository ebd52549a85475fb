//! kill -9 and failing steps: the old or the new state, nothing in between, nothing left over.
#![allow(unreachable_pub, reason = "a module of the test program")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seacow_spec::oci::image::ImageConfig;
use seacow_store::image::RemoveOptions;
use seacow_store::volume::CopyFor;
use seacow_store::{DriverKind, Durability, OpenError, RecordKind, Store, StoreOptions, UpperMode};

use crate::common::{Tar, TestStore, image, is_root};
use crate::disks::Disk;

/// In a child process: where its store is, and before which durable step it dies.
const CHILD_DIR: &str = "SEACOW_STORE_TEST_DIR";
const CHILD_STEP: &str = "SEACOW_STORE_TEST_STEP";

/// With the driver that the store had before.
fn options(dir: &Path) -> StoreOptions {
    StoreOptions::new(dir.join("data"), dir.join("exec"))
}

pub fn base() -> Vec<u8> {
    Tar::new().file("file", "old").dir("d/", 0o755).file("d/x", "x").bytes()
}

/// Everything that changes the store, one after the other.
pub fn work(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let images = store.images();
    let bb = images.resolve("bb")?;
    let key = "seacow-crash".parse()?;
    let rootfs = store.snapshots().prepare(&key, bb.chain.as_ref(), &Default::default())?;
    crate::common::in_mounted(store, &rootfs, &[], &|root| {
        std::fs::write(root.join("file"), "new").unwrap();
        std::fs::create_dir(root.join("more")).unwrap();
        for n in 0..40 {
            std::fs::write(root.join(format!("more/{n}")), n.to_string()).unwrap();
        }
        // With metacopy neither has its content here.
        std::fs::set_permissions(root.join("d/x"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let _ = std::fs::rename(root.join("d"), root.join("e"));
    });
    let frozen = store.snapshots().freeze(&key, UpperMode::Move)?;
    store.points().create("c", None, &frozen, bb.chain.as_ref())?;
    let branch = "seacow-branch".parse()?;
    store.snapshots().branch(&branch, frozen.chain_id(), bb.chain.as_ref(), &Default::default())?;
    store.snapshots().reset(&branch, bb.chain.as_ref().unwrap())?;
    store.snapshots().reset(&branch, frozen.chain_id())?;
    drop(frozen);
    store.snapshots().remove(&branch)?;
    store.points().remove_of("c")?;
    let layer = store.snapshots().commit(&key, UpperMode::Copy)?;
    let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    let built = images.create_from_config(config.clone(), Some(layer.chain_id()), Some(&bb.id))?;
    images.tag(&built.id, &"built".parse()?)?;
    drop(layer);
    store.records().put(RecordKind::Container, "c", b"record".to_vec(), Durability::Durable)?;
    // A clone that was cut off is the user's data, and stays as a volume.
    for volume in store.volumes().list() {
        store.volumes().remove(&volume.name)?;
    }
    let volume = store.volumes().create("vol", Default::default(), false)?;
    std::fs::write(volume.path.join("f"), "1")?;
    store.volumes().save("vol", None, &store.volumes().copy_of("vol", None, CopyFor::Snapshot)?)?;
    std::fs::write(volume.path.join("f"), "2")?;
    store.volumes().roll_back("vol", "1")?;
    assert_eq!(std::fs::read_to_string(volume.path.join("f"))?, "1");
    let clone = store.volumes().adopt(
        "clone",
        &store.volumes().copy_of("vol", Some("1"), CopyFor::Volume)?,
        Default::default(),
    )?;
    assert_eq!(std::fs::read_to_string(clone.path.join("f"))?, "1");
    store.volumes().forget("vol", "1")?;
    store.volumes().remove("clone")?;
    let imported = images.import(&Tar::new().file("i", "i").file("i", "j").bytes()[..], config)?;
    images.tag(&imported.id, &"imported".parse()?)?;
    let mut archive = Vec::new();
    images.save(&["imported"], &mut archive)?;
    images.remove("imported", RemoveOptions::default(), &|_| Vec::new())?;
    images.load(&archive[..], |_| {})?;
    store.records().delete(RecordKind::Container, "c", Durability::Durable)?;
    store.snapshots().commit(&key, UpperMode::Move)?;
    images.remove("built", RemoveOptions::default(), &|_| Vec::new())?;
    store.volumes().remove("vol")?;
    store.snapshots().remove(&key)?;
    Ok(())
}

/// What the metadata tells of is there: a container's files, what a point holds, what a volume held.
fn referenced(store: &Store) {
    let key = "seacow-crash".parse().unwrap();
    if store.records().get(RecordKind::Container, "c").unwrap().is_some() {
        // One that had done nothing yet is prepared anew by the engine.
        if let Ok(rootfs) = store.snapshots().get(&key) {
            crate::common::in_mounted(store, &rootfs, &[], &|root| {
                assert!(std::fs::read_to_string(root.join("file")).is_ok());
            });
        }
    }
    for point in store.points().list(None) {
        assert!(store.layers().stack(&point.layer).is_ok(), "{point:?}");
    }
    let content = |path: PathBuf| std::fs::read_to_string(path.join("f")).unwrap();
    for volume in store.volumes().list() {
        for saved in &volume.saved {
            let home = volume.path.parent().unwrap();
            assert_eq!(content(home.join("saved").join(&saved.name)), "1", "{volume:?}");
        }
        if volume.name == "clone" {
            assert_eq!(content(volume.path), "1");
        }
    }
}

/// What must hold whenever the store is opened: every image has its layers, whole, with the digest
/// they say; nothing is on the disk that the metadata does not name.
pub fn check(dir: &Path) {
    let store = check_clean(dir);
    whole(&store);
    // And it goes on from there.
    work(&store).unwrap();
}

/// As far as it can be seen without changing anything.
pub fn check_clean(dir: &Path) -> Store {
    let store = open(&options(dir));
    referenced(&store);
    store.snapshots().retain(&Default::default()).unwrap();
    store.points().retain(|_| false).unwrap();
    store.layers().remove_unused().unwrap();
    store.settle();
    let names = |dir: PathBuf| {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let data = dir.join("data");
    for empty in ["drafts", "trash", "snapshots"] {
        assert_eq!(names(data.join(empty)), Vec::<String>::new(), "{empty}");
    }
    let mut known: Vec<_> =
        store.layers().list().iter().map(|layer| layer.chain_id.hex().to_owned()).collect();
    known.sort();
    assert_eq!(names(data.join("layers")), known);
    for layer in store.layers().list() {
        store.layers().seal(&layer.chain_id).unwrap();
        store.layers().export(&layer.chain_id, &mut std::io::sink()).unwrap();
    }
    for image in store.images().list() {
        let ids = store.layers().diff_ids(image.chain.as_ref()).unwrap();
        let image = store.images().sealed(&image.id).unwrap();
        assert_eq!(ids, image.config.rootfs.diff_ids);
    }
    assert_eq!(store.images().resolve("bb").unwrap().size, 4);
    let volumes: Vec<_> = store.volumes().list().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names(data.join("volumes")), volumes);
    store
}

/// The image, as a container sees it.
fn whole(store: &Store) {
    // Whatever the driver made of the image is whole.
    let key = "seacow-whole".parse().unwrap();
    let bb = store.images().resolve("bb").unwrap();
    let rootfs = store.snapshots().prepare(&key, bb.chain.as_ref(), &Default::default()).unwrap();
    crate::common::in_mounted(store, &rootfs, &[], &|root| {
        assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(root.join("d/x")).unwrap(), "x");
    });
    assert!(store.snapshots().changes(&key).unwrap().is_empty());
    store.snapshots().remove(&key).unwrap();
}

/// Run by [`killed_before_any_step`] in a process of its own.
#[test]
fn child_that_is_killed() {
    let (Ok(dir), Ok(step)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_STEP)) else { return };
    let step: usize = step.parse().unwrap();
    let count = AtomicUsize::new(0);
    let mut options = options(Path::new(&dir));
    options.faults = Some(Arc::new(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == step {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
        Ok(())
    }));
    work(&open(&options)).unwrap();
}

/// Another test's child that has not executed its program yet may have a copy of the lock.
pub fn open(options: &StoreOptions) -> Store {
    let began = std::time::Instant::now();
    loop {
        match Store::open(options.clone()) {
            Err(OpenError::InUse { .. }) if began.elapsed().as_secs() < 10 => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn killed_before_any_step(driver: DriverKind, disk: Disk) {
    if !is_root("killed_before_any_step") {
        return;
    }
    disk.with(|dir| killed_before_any_step_in(&mut TestStore::at(dir, Some(driver))));
}

#[test]
fn killed_before_any_step_with_overlay() {
    killed_before_any_step(DriverKind::Overlay, Disk::Own);
}

#[test]
fn killed_before_any_step_with_reflink() {
    killed_before_any_step(DriverKind::Reflink, Disk::Xfs);
}

#[test]
fn killed_before_any_step_with_btrfs() {
    killed_before_any_step(DriverKind::Btrfs, Disk::Btrfs);
}

#[test]
fn killed_before_any_step_with_copy() {
    killed_before_any_step(DriverKind::Copy, Disk::Own);
}

fn killed_before_any_step_in(store: &mut TestStore) {
    image(store, "bb", &base());
    let dir = store.dir.path().to_owned();
    store.store = None;
    for step in 0.. {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
            .env(CHILD_DIR, &dir)
            .env(CHILD_STEP, step.to_string())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        check(&dir);
        if status.success() {
            assert!(step > 20, "only {step} steps");
            break;
        }
        assert!(status.code().is_none(), "step {step}: {status}");
    }
}

#[test]
fn killed_at_any_time() {
    if !is_root("killed_at_any_time") {
        return;
    }
    let mut store = TestStore::new();
    image(&store, "bb", &base());
    let dir = store.dir.path().to_owned();
    store.store = None;
    for round in 0..15u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
            .env(CHILD_DIR, &dir)
            .env(CHILD_STEP, usize::MAX.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2 + round * 7 % 60));
        child.kill().unwrap();
        child.wait().unwrap();
        check(&dir);
    }
}

/// The same steps fail instead: the call reports it, and the store goes on.
#[test]
fn any_step_may_fail() {
    if !is_root("any_step_may_fail") {
        return;
    }
    let mut store = TestStore::new();
    image(&store, "bb", &base());
    let dir = store.dir.path().to_owned();
    store.store = None;
    for step in 0.. {
        let count = Arc::new(AtomicUsize::new(0));
        let mut options = options(&dir);
        let counted = count.clone();
        options.faults = Some(Arc::new(move |name| {
            if counted.fetch_add(1, Ordering::SeqCst) == step {
                return Err(std::io::Error::other(format!("made to fail: {name}")));
            }
            Ok(())
        }));
        let outcome = match Store::open(options) {
            Ok(store) => work(&store).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let reached = count.load(Ordering::SeqCst) > step;
        check(&dir);
        match outcome {
            Ok(()) if !reached => break,
            Ok(()) => panic!("step {step} failed and nobody said so"),
            Err(error) => assert!(error.contains("made to fail"), "step {step}: {error}"),
        }
    }
}

/// A failed commit by move leaves the container as it was.
#[test]
fn a_failed_commit_gives_the_upper_directory_back() {
    if !is_root("a_failed_commit_gives_the_upper_directory_back") {
        return;
    }
    let mut store = TestStore::new();
    image(&store, "bb", &base());
    let key = "seacow-back".parse().unwrap();
    let chain = store.images().resolve("bb").unwrap().chain;
    store.snapshots().prepare(&key, chain.as_ref(), &Default::default()).unwrap();
    let upper = store.data().join("snapshots/seacow-back/upper/file");
    std::fs::write(&upper, "precious").unwrap();
    let dir = store.dir.path().to_owned();
    store.store = None;
    let mut failures = 0;
    for step in 0.. {
        let count = AtomicUsize::new(0);
        let armed = Arc::new(AtomicUsize::new(0));
        let mut options = options(&dir);
        let trigger = armed.clone();
        options.faults = Some(Arc::new(move |_| {
            if trigger.load(Ordering::SeqCst) == 1 && count.fetch_add(1, Ordering::SeqCst) == step {
                return Err(std::io::Error::other("made to fail"));
            }
            Ok(())
        }));
        let store = Store::open(options).unwrap();
        armed.store(1, Ordering::SeqCst);
        match store.snapshots().commit(&key, UpperMode::Move) {
            Err(_) => {
                failures += 1;
                assert_eq!(std::fs::read_to_string(&upper).unwrap(), "precious", "step {step}");
            }
            Ok(_) => break,
        }
    }
    assert!(failures >= 5, "{failures}");
    assert!(!upper.exists());
}

/// Run by [`a_freeze_that_is_killed_loses_nothing`] in a process of its own.
#[test]
fn child_that_freezes() {
    let (Ok(dir), Ok(step)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_STEP)) else { return };
    let step: usize = step.parse().unwrap();
    let (count, armed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let trigger = armed.clone();
    let mut options = options(Path::new(&dir));
    options.faults = Some(Arc::new(move |_| {
        if trigger.load(Ordering::SeqCst) == 1 && count.fetch_add(1, Ordering::SeqCst) == step {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
        Ok(())
    }));
    let store = open(&options);
    let key = "seacow-precious".parse().unwrap();
    let point = store.points().find("c", "first").unwrap();
    armed.store(1, Ordering::SeqCst);
    // Twice, so that a layer that no transaction has made durable lies below another one.
    drop(store.snapshots().freeze(&key, UpperMode::Move).unwrap());
    crate::common::in_mounted(&store, &store.snapshots().get(&key).unwrap(), &[], &|root| {
        std::fs::write(root.join("second"), "2").unwrap();
    });
    let layer = store.snapshots().freeze(&key, UpperMode::Move).unwrap();
    store.points().create("c", None, &layer, None).unwrap();
    store.snapshots().reset(&key, &point.layer).unwrap();
    store.snapshots().reset(&key, layer.chain_id()).unwrap();
}

/// A container's files are what they were, or what they are to be.
#[test]
fn a_freeze_that_is_killed_loses_nothing() {
    if !is_root("a_freeze_that_is_killed_loses_nothing") {
        return;
    }
    for (disk, driver) in [(Disk::Own, DriverKind::Overlay), (Disk::Own, DriverKind::Copy)] {
        disk.with(|dir| freezes_are_killed(dir, driver));
    }
}

fn freezes_are_killed(dir: &Path, driver: DriverKind) {
    let mut store = TestStore::at(dir, Some(driver));
    image(&store, "bb", &base());
    let dir = store.dir.path().to_owned();
    store.store = None;
    let key = "seacow-precious".parse().unwrap();
    for step in 0.. {
        let store = Store::open(options(&dir)).unwrap();
        let chain = store.images().resolve("bb").unwrap().chain;
        let rootfs = store.snapshots().prepare(&key, chain.as_ref(), &Default::default()).unwrap();
        let first = store.snapshots().freeze(&key, UpperMode::Move).unwrap();
        store.points().create("c", Some("first"), &first, chain.as_ref()).unwrap();
        drop(first);
        crate::common::in_mounted(&store, &rootfs, &[], &|root| {
            std::fs::write(root.join("file"), "precious").unwrap();
        });
        drop(store);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_freezes", "--nocapture"])
            .env(CHILD_DIR, &dir)
            .env(CHILD_STEP, step.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let store = Store::open(options(&dir)).unwrap();
        let points = store.points().list(Some("c")).len();
        let content = |root: &Path| std::fs::read_to_string(root.join("file")).unwrap();
        crate::common::in_mounted(&store, &store.snapshots().get(&key).unwrap(), &[], &|root| {
            // With the second point it may be on its way through the first one.
            let back = points == 2 && content(root) == "old";
            assert!(back || content(root) == "precious", "step {step}: {}", content(root));
        });
        for point in store.points().list(Some("c")).iter().filter(|point| point.name != "first") {
            store.snapshots().reset(&key, &point.layer).unwrap();
            crate::common::in_mounted(&store, &store.snapshots().get(&key).unwrap(), &[], &|root| {
                assert_eq!((content(root).as_str(), root.join("second").exists()), ("precious", true));
            });
        }
        store.snapshots().remove(&key).unwrap();
        store.points().remove_of("c").unwrap();
        store.settle();
        assert_eq!(store.layers().list().len(), 1, "step {step}");
        if status.success() {
            assert!(step > 10, "only {step} steps");
            return;
        }
        assert!(status.code().is_none(), "step {step}: {status}");
    }
}
