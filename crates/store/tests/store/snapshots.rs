//! The overlay driver on real overlays: the conformance suite, and what only it has.

use crate::common::{Tar, TestStore, image, is_root};
use seacow_spec::shim::{Lower, Rootfs};
use seacow_store::snapshot::{PrepareOptions, conformance};

fn base() -> Vec<u8> {
    Tar::new()
        .file("file", "old")
        .dir("dir/", 0o750)
        .file("dir/kept", "kept")
        .file("dir/gone", "gone")
        .dir("other/", 0o755)
        .file("other/one", "1")
        .bytes()
}

#[test]
fn overlay_passes_the_conformance_suite() {
    if !is_root("overlay_passes_the_conformance_suite") {
        return;
    }
    let store = TestStore::new();
    let image = image(&store, "seacow-base", &base());
    conformance::all(&conformance::Subject {
        driver: store.snapshots(),
        parent: image.chain.as_ref().unwrap(),
        in_mounted: &|rootfs, work| store.in_mounted(rootfs, work),
    });
    assert_eq!(store.names("snapshots"), Vec::<String>::new());
    assert_eq!(store.names("drafts"), Vec::<String>::new());
    assert_eq!(store.names("trash"), Vec::<String>::new());
}

#[test]
fn the_roots_own_mode_is_the_images() {
    if !is_root("the_roots_own_mode_is_the_images") {
        return;
    }
    let store = TestStore::new();
    let image = image(&store, "seacow-root", &Tar::new().dir("./", 0o1711).file("f", "").bytes());
    let key = "seacow-root".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, image.chain.as_ref(), &PrepareOptions::default()).unwrap();
    store.in_mounted(&rootfs, &|root| {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(root).unwrap().mode() & 0o7777, 0o1711);
    });
}

#[test]
fn from_scratch_there_are_only_mount_points() {
    if !is_root("from_scratch_there_are_only_mount_points") {
        return;
    }
    let store = TestStore::new();
    let key = "seacow-scratch".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, None, &PrepareOptions::default()).unwrap();
    assert!(
        matches!(&rootfs, Rootfs::Overlay { lowers, .. } if matches!(lowers.as_slice(), [Lower::Dir(_)]))
    );
    store.in_mounted(&rootfs, &|root| std::fs::write(root.join("etc/x"), "x").unwrap());
    let lines: Vec<_> = store.snapshots().changes(&key).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["C /etc", "A /etc/x"]);
    let layer = store.snapshots().commit(&key, seacow_store::UpperMode::Move).unwrap();
    assert!(layer.info().parent.is_none());
    assert_eq!(layer.info().size, 1);
}
