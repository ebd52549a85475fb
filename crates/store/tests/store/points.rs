//! Points, and images whose tar nobody has asked for yet.

use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{Classified, ErrorClass};
use seacow_store::image::RemoveOptions;
use seacow_store::{DriverKind, PointError, UpperMode};

use crate::common::{Tar, TestStore, image, is_root};
use crate::disks::Disk;

fn with_container(store: &TestStore) -> (seacow_store::SnapshotKey, Option<seacow_spec::ChainId>) {
    let bb = image(store, "bb", &Tar::new().file("file", "old").bytes());
    let key = "seacow-c".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, bb.chain.as_ref(), &Default::default()).unwrap();
    store.in_mounted(&rootfs, &|root| std::fs::write(root.join("file"), "then").unwrap());
    (key, bb.chain)
}

#[test]
fn points_are_named_found_and_let_go() {
    if !is_root("points_are_named_found_and_let_go") {
        return;
    }
    let mut store = TestStore::new();
    let (key, base) = with_container(&store);
    let layer = store.snapshots().freeze(&key, UpperMode::Move).unwrap();
    let points = store.points();
    let first = points.create("c", None, &layer, base.as_ref()).unwrap();
    assert_eq!(first.name, "1");
    assert_eq!(points.create("c", Some("7"), &layer, None).unwrap().name, "7");
    assert_eq!(points.create("c", None, &layer, None).unwrap().name, "8");
    // Names are a container's own.
    assert_eq!(points.create("other", Some("7"), &layer, None).unwrap().name, "7");
    let taken = points.create("c", Some("7"), &layer, None).unwrap_err();
    assert!(matches!(&taken, PointError::NameTaken { name, .. } if name == "7"));
    assert_eq!(taken.class(), ErrorClass::Conflict);
    for bad in ["", "a/b", "-x", &"n".repeat(200)] {
        let refused = points.create("c", Some(bad), &layer, None).unwrap_err();
        assert!(matches!(refused, PointError::InvalidName(_)), "{bad}");
    }
    assert_eq!(points.find("c", &first.id[..12]).unwrap().id, first.id);
    assert!(matches!(points.find("c", "nosuch"), Err(PointError::NotFound(_))));
    assert!(matches!(points.find("other", "1"), Err(PointError::NotFound(_))));
    drop(layer);
    store.open();
    assert_eq!(store.points().list(Some("c")).len(), 3);
    assert_eq!(*store.points().find("c", "1").unwrap(), first);
    // The layer stays for the last of them.
    store.snapshots().remove(&key).unwrap();
    store.points().retain(|container| container == "other").unwrap();
    assert_eq!(store.layers().list().len(), 2);
    store.points().remove_of("other").unwrap();
    assert_eq!(store.layers().list().len(), 1);
    assert_eq!(store.names("layers").len(), 1);
}

/// The id is the image's for good; the diff ids come when somebody asks for them.
#[test]
fn a_frozen_image_is_sealed_when_it_is_saved() {
    if !is_root("a_frozen_image_is_sealed_when_it_is_saved") {
        return;
    }
    let mut store = TestStore::new();
    let (key, _) = with_container(&store);
    let bb = store.images().resolve("bb").unwrap();
    let layer = store.snapshots().freeze(&key, UpperMode::Move).unwrap();
    assert!(layer.info().is_unsealed() && layer.info().is_unmeasured());
    let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    let made = store.images().create_from_config(config, Some(layer.chain_id()), Some(&bb.id)).unwrap();
    store.images().tag(&made.id, &"frozen".parse().unwrap()).unwrap();
    drop(layer);
    store.measure_frozen().unwrap();
    assert_eq!(store.images().get(&made.id).unwrap().size, 7);

    let mut archive = Vec::new();
    store.images().save(&["frozen"], &mut archive).unwrap();
    let sealed = store.images().get(&made.id).unwrap();
    assert_ne!(sealed.config.rootfs.diff_ids, made.config.rootfs.diff_ids);
    assert_eq!(sealed.config.rootfs.diff_ids[0], bb.config.rootfs.diff_ids[0]);
    store.open();
    assert_eq!(store.images().get(&made.id).unwrap().config.rootfs.diff_ids, sealed.config.rootfs.diff_ids);
    let mut again = Vec::new();
    store.images().save(&["frozen"], &mut again).unwrap();
    assert!(archive == again, "the same image is the same archive");
    // Loaded where it came from, it is the image that is there.
    store.images().untag(&"frozen".parse().unwrap()).unwrap();
    let loaded = store.images().load(&archive[..], |_| {}).unwrap();
    assert_eq!((loaded.len(), &loaded[0].id), (1, &made.id));
    assert_eq!(store.images().resolve("frozen").unwrap().id, made.id);

    // Elsewhere it is an image like any other, with the same layers.
    let other = TestStore::new();
    let loaded = other.images().load(&archive[..], |_| {}).unwrap();
    let there = other.images().get(&loaded[0].id).unwrap();
    assert_eq!(there.config.rootfs.diff_ids, sealed.config.rootfs.diff_ids);

    store.snapshots().remove(&key).unwrap();
    store.images().remove("frozen", RemoveOptions::default(), &|_| Vec::new()).unwrap();
    assert_eq!(store.layers().list().len(), 1);
}

/// With drivers of trees as well: freezing compares nothing, and the files are collected for who wants them,
/// this driver or another.
#[test]
fn a_frozen_tree_gets_its_files_when_somebody_asks() {
    if !is_root("a_frozen_tree_gets_its_files_when_somebody_asks") {
        return;
    }
    Disk::Btrfs.with(|dir| {
        for driver in [DriverKind::Btrfs, DriverKind::Copy] {
            let mut store = TestStore::at(dir, Some(driver));
            let (key, _) = with_container(&store);
            let bb = store.images().resolve("bb").unwrap();
            let layer = store.snapshots().freeze(&key, UpperMode::Copy).unwrap();
            let eager = store.snapshots().commit(&key, UpperMode::Copy).unwrap();
            let files = store.data().join("layers").join(layer.chain_id().hex()).join("fs");
            assert!(!files.exists(), "{driver}: nothing was collected");
            let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
            let made =
                store.images().create_from_config(config, Some(layer.chain_id()), Some(&bb.id)).unwrap();
            store.images().tag(&made.id, &"frozen".parse().unwrap()).unwrap();
            let chain = layer.chain_id().clone();
            drop(layer);
            // A container of it needs the tree only.
            let other = "seacow-d".parse().unwrap();
            let rootfs = store.snapshots().prepare(&other, Some(&chain), &Default::default()).unwrap();
            store.in_mounted(&rootfs, &|root| {
                assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "then");
            });
            assert!(!files.exists());
            let sealed = store.images().sealed(&made.id).unwrap();
            assert!(files.exists() && sealed.id == made.id);
            // The same tar as if it had been made at once.
            let diff_ids = store.layers().diff_ids(Some(&chain)).unwrap();
            assert_eq!(diff_ids.last(), Some(&eager.info().diff_id), "{driver}");
            drop(eager);

            // One that nobody has asked about until an overlay is to show it.
            let again = store.snapshots().freeze(&other, UpperMode::Copy).unwrap();
            let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
            let second =
                store.images().create_from_config(config, Some(again.chain_id()), Some(&made.id)).unwrap();
            store.images().tag(&second.id, &"second".parse().unwrap()).unwrap();
            let chain = again.chain_id().clone();
            drop(again);
            store.snapshots().retain(&Default::default()).unwrap();
            store.driver = Some(DriverKind::Overlay);
            store.open();
            let rootfs = store.snapshots().prepare(&other, Some(&chain), &Default::default()).unwrap();
            store.in_mounted(&rootfs, &|root| {
                assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "then");
            });
        }
    });
}

/// Somebody looks at a layer while its last user lets go of it: it goes when that is over.
#[test]
fn a_layer_that_was_looked_at_is_let_go_afterwards() {
    if !is_root("a_layer_that_was_looked_at_is_let_go_afterwards") {
        return;
    }
    /// Removes the container as soon as anything is read of its layer.
    struct LetGo<'a>(&'a TestStore, seacow_store::SnapshotKey);

    impl std::io::Write for LetGo<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.snapshots().remove(&self.1).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let store = TestStore::new();
    let (key, _) = with_container(&store);
    let layer = store.snapshots().freeze(&key, UpperMode::Move).unwrap();
    let chain = layer.chain_id().clone();
    store.layers().release(layer).unwrap();
    store.layers().seal(&chain).unwrap();
    assert_eq!(store.names("layers").len(), 2);
    store.layers().export(&chain, &mut LetGo(&store, key)).unwrap();
    assert_eq!(store.names("layers").len(), 1);
}
