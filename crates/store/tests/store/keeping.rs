//! Volumes, records, the lock.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use seacow_spec::{Classified, ErrorClass};
use seacow_store::{DriverKind, Durability, OpenError, RecordKind, Store};

use crate::common::{Tar, TestStore, image, is_root};
use crate::disks::Disk;

#[test]
fn one_daemon_per_data_root() {
    let mut store = TestStore::new();
    let error = Store::open(store.options()).unwrap_err();
    assert!(matches!(&error, OpenError::InUse { pid: Some(pid), .. } if *pid == std::process::id() as i32));
    let text = error.to_string();
    assert!(text.contains("in use by another seacowd (pid ") && text.contains("data"), "{text}");
    assert_eq!(error.class(), ErrorClass::Conflict);
    store.open();
}

/// CVE-2021-41091: set-id programs in containers' files were within everybody's reach.
#[test]
fn nobody_else_gets_at_containers_files() {
    let store = TestStore::new();
    for dir in ["layers", "drafts", "snapshots", "volumes", "trash"] {
        let mode = std::fs::metadata(store.data().join(dir)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
    assert_eq!(std::fs::metadata(store.data()).unwrap().permissions().mode() & 0o007, 0);
}

#[test]
fn records_are_kept_as_they_are() {
    let mut store = TestStore::new();
    let (container, engine) = (RecordKind::Container, RecordKind::Engine);
    let records = store.records().clone();
    records.put(container, "b", b"\xff\0two".to_vec(), Durability::Durable).unwrap();
    records.put(container, "a", b"one".to_vec(), Durability::Unsynced).unwrap();
    records.put(engine, "schema", b"mine".to_vec(), Durability::Unsynced).unwrap();
    records.put(container, "c", b"gone".to_vec(), Durability::Unsynced).unwrap();
    records.delete(container, "c", Durability::Unsynced).unwrap();
    records.delete(container, "nosuch", Durability::Durable).unwrap();
    drop(records);
    store.open();
    let expected = vec![("a".to_owned(), b"one".to_vec()), ("b".to_owned(), b"\xff\0two".to_vec())];
    assert_eq!(store.records().all(container).unwrap(), expected);
    assert_eq!(store.records().all(engine).unwrap(), [("schema".to_owned(), b"mine".to_vec())]);
    assert_eq!(store.records().get(container, "b").unwrap().unwrap(), b"\xff\0two");
    assert!(store.records().all(RecordKind::Network).unwrap().is_empty());
}

#[test]
fn volumes_come_stay_and_go() {
    let mut store = TestStore::new();
    let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let made = store.volumes().create("data", labels.clone(), false).unwrap();
    assert_eq!(made.path, store.data().join("volumes/data/_data"));
    assert_eq!(
        store.volumes().create("data", BTreeMap::new(), true).unwrap(),
        made,
        "one of that name stays"
    );
    std::fs::write(made.path.join("f"), "f").unwrap();
    store.open();
    assert_eq!(store.volumes().get("data").unwrap(), made);
    assert_eq!(store.volumes().list(), [made]);
    assert!(store.volumes().size("data").unwrap() >= 4096);
    store.volumes().remove("data").unwrap();
    assert!(store.names("volumes").is_empty());
    let error = store.volumes().remove("data").unwrap_err();
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (ErrorClass::NotFound, "get data: no such volume")
    );
    for bad in ["", "a", "../x", "a/b", "-a", &"x".repeat(256)] {
        let error = store.volumes().create(bad, BTreeMap::new(), false).unwrap_err();
        assert_eq!(error.class(), ErrorClass::InvalidArgument, "{bad}");
    }
    assert!(store.names("volumes").is_empty());
}

#[test]
fn a_volume_without_metadata_is_not_thrown_away() {
    let mut store = TestStore::new();
    let volumes = store.data().join("volumes");
    std::fs::create_dir_all(volumes.join("found/_data")).unwrap();
    std::fs::write(volumes.join("found/_data/f"), "precious").unwrap();
    std::fs::create_dir_all(volumes.join("empty/_data")).unwrap();
    store.open();
    assert_eq!(store.names("volumes"), ["found"]);
    let found = store.volumes().get("found").unwrap();
    assert_eq!(std::fs::read_to_string(found.path.join("f")).unwrap(), "precious");
}

#[test]
fn an_empty_volume_gets_what_the_image_has() {
    if !is_root("an_empty_volume_gets_what_the_image_has") {
        return;
    }
    let store = TestStore::new();
    let mut tar = Tar::new().dir("srv/", 0o755).symlink("link", "/srv/data");
    let mut header = Tar::header(tar::EntryType::Directory, 0o2750, 0);
    header.set_uid(70);
    header.set_gid(71);
    tar.0.append_data(&mut header, "srv/data/", std::io::empty()).unwrap();
    let mut header = Tar::header(tar::EntryType::Regular, 0o4711, 1);
    header.set_uid(72);
    tar.0.append_data(&mut header, "srv/data/f", &b"f"[..]).unwrap();
    let tar = tar.hard_link("srv/data/g", "srv/data/f").symlink("srv/data/l", "/etc/passwd");
    let image = image(&store, "bb", &tar.node(tar::EntryType::Fifo, "srv/data/p", 0, 0).bytes());
    let populate = |name: &str, path: &str| {
        let volume = store.volumes().create(name, BTreeMap::new(), false).unwrap();
        let done = store.populate(&volume.path, image.chain.as_ref(), Path::new(path)).unwrap();
        (volume.path, done)
    };
    for (name, path) in [("one", "/srv/data"), ("two", "/link")] {
        let (volume, done) = populate(name, path);
        assert!(done);
        let meta = |path: &str| std::fs::symlink_metadata(volume.join(path)).unwrap();
        assert_eq!(
            (meta("").uid(), meta("").gid(), meta("").permissions().mode() & 0o7777),
            (70, 71, 0o2750)
        );
        assert_eq!((meta("f").uid(), meta("f").mode() & 0o7777), (72, 0o4711));
        assert_eq!(meta("f").ino(), meta("g").ino());
        assert_eq!(meta("f").mtime(), 1_700_000_000);
        assert_eq!(std::fs::read_link(volume.join("l")).unwrap(), Path::new("/etc/passwd"));
        std::fs::write(volume.join("f"), "mine").unwrap();
    }
    let (volume, done) = populate("one", "/srv/data");
    assert!(!done, "what is there stays");
    assert_eq!(std::fs::read_to_string(volume.join("f")).unwrap(), "mine");
    assert!(!populate("three", "/nosuch").1);
    assert!(!populate("four", "/srv/data/f").1);
}

/// Layers lie over each other as a container sees them, and what is copied takes no room.
#[test]
fn what_the_image_has_is_shared_with_the_volume() {
    if !is_root("what_the_image_has_is_shared_with_the_volume") {
        return;
    }
    for (disk, driver) in [
        (Disk::Xfs, DriverKind::Reflink),
        (Disk::Btrfs, DriverKind::Reflink),
        (Disk::Btrfs, DriverKind::Btrfs),
        (Disk::Xfs, DriverKind::Copy),
        (Disk::Ext4, DriverKind::Overlay),
    ] {
        disk.with(|dir| {
            let store = TestStore::at(dir, Some(driver));
            let below = Tar::new().dir("d/", 0o755).file("d/large", vec![7; SIZE]).file("d/gone", "g");
            let below = below.dir("d/opaque/", 0o755).file("d/opaque/old", "o").symlink("in", "d/../d");
            let below = image(&store, "below", &below.bytes());
            let above = Tar::new().dir("d/", 0o700).file("d/.wh.gone", "").file("d/new", "n");
            let above =
                above.dir("d/opaque/", 0o755).file("d/opaque/.wh..wh..opq", "").file("d/opaque/x", "x");
            let draft = store.layers().begin(below.chain.as_ref()).unwrap();
            let layer = draft.apply_tar(&above.bytes()[..]).unwrap().commit(None).unwrap();
            let volume = store.volumes().create("vol", BTreeMap::new(), false).unwrap();
            // What a tree driver makes of the image first is not the volume's.
            let key = "seacow-first".parse().unwrap();
            store.snapshots().prepare(&key, Some(layer.chain_id()), &Default::default()).unwrap();
            let before = free(dir);
            assert!(store.populate(&volume.path, Some(layer.chain_id()), Path::new("/in")).unwrap());
            let taken = before.saturating_sub(free(dir));
            let shares = disk != Disk::Ext4;
            assert_eq!(taken < SIZE as u64 / 4, shares, "{disk:?} {driver:?}: {taken} bytes");
            let mut names: Vec<_> = walk(&volume.path);
            names.sort();
            assert_eq!(names, ["large", "new", "opaque", "opaque/x"], "{disk:?} {driver:?}");
            assert_eq!(std::fs::metadata(&volume.path).unwrap().mode() & 0o7777, 0o700);
            assert_eq!(std::fs::read(volume.path.join("large")).unwrap(), vec![7; SIZE]);
        });
    }
}

const SIZE: usize = 32 << 20;

/// Bytes that the file system has left, when everything is on the disk.
fn free(dir: &Path) -> u64 {
    rustix::fs::syncfs(std::fs::File::open(dir).unwrap()).unwrap();
    let stat = rustix::fs::statvfs(dir).unwrap();
    stat.f_bfree * stat.f_frsize
}

fn walk(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        }
        found.push(name);
    }
    found
}
