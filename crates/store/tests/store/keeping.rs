//! Volumes, records, the lock.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use seacow_spec::{Classified, ErrorClass};
use seacow_store::{Durability, OpenError, RecordKind, Store};

use crate::common::{Tar, TestStore, image, is_root};

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
    let view = store.snapshots().view(image.chain.as_ref()).unwrap();
    let populate = |name: &str, path: &str| {
        let volume = store.volumes().create(name, BTreeMap::new(), false).unwrap();
        let done = store
            .with_mounted(&view, &[], |root| {
                store
                    .volumes()
                    .populate(&store.volumes().get(name).unwrap().path, root.root(), Path::new(path))
                    .unwrap()
            })
            .unwrap();
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
