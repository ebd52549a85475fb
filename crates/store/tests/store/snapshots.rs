//! Every driver on real file systems: the conformance suite, and what only one has.

use crate::common::{Tar, TestStore, image, is_root};
use crate::disks::Disk;
use seacow_spec::shim::{Lower, Rootfs};
use seacow_store::snapshot::{PrepareOptions, SnapshotError, conformance};
use seacow_store::{DriverError, DriverKind, OpenError, Store};

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

fn conforms(driver: DriverKind, disk: Disk) {
    if !is_root("conforms") {
        return;
    }
    disk.with(|dir| {
        let store = TestStore::at(dir, Some(driver));
        let image = image(&store, "seacow-base", &base());
        assert_eq!(store.snapshots().kind(), driver);
        conformance::all(&conformance::Subject {
            driver: store.snapshots(),
            parent: image.chain.as_ref().unwrap(),
            shares_extents: disk != Disk::Own,
            in_mounted: &|rootfs, work| store.in_mounted(rootfs, work),
        });
        store.layers().remove_unused().unwrap();
        for dir in ["snapshots", "drafts", "trash"] {
            assert_eq!(store.names(dir), Vec::<String>::new(), "{dir}");
        }
        assert_eq!(store.names("layers").len(), 1);
    });
}

/// Every driver with a file system that it can be used on, each a test of its own.
macro_rules! conformance {
    ($($name:ident: $driver:ident, $disk:ident;)*) => {
        $(#[test]
        fn $name() {
            conforms(DriverKind::$driver, Disk::$disk);
        })*
    };
}

conformance! {
    overlay_conforms_on_any_file_system: Overlay, Own;
    overlay_conforms_on_btrfs: Overlay, Btrfs;
    reflink_conforms_on_xfs: Reflink, Xfs;
    reflink_conforms_on_btrfs: Reflink, Btrfs;
    btrfs_conforms: Btrfs, Btrfs;
    copy_conforms_on_any_file_system: Copy, Own;
    copy_conforms_on_xfs: Copy, Xfs;
    zfs_conforms: Zfs, Zfs;
}

/// What is chosen without being asked, and that it stays.
#[test]
fn the_best_driver_of_a_file_system_is_chosen_and_kept() {
    if !is_root("the_best_driver_of_a_file_system_is_chosen_and_kept") {
        return;
    }
    let best = [
        (Disk::Own, DriverKind::Overlay),
        (Disk::Xfs, DriverKind::Reflink),
        (Disk::Btrfs, DriverKind::Reflink),
    ];
    for (disk, best) in best {
        disk.with(|dir| {
            // A machine's temporary directory may share extents itself.
            let found = TestStore::at(dir, None).snapshots().kind();
            assert!(found == best || (disk == Disk::Own && found == DriverKind::Reflink), "{found}");
            let mut store = TestStore::at(dir, Some(DriverKind::Copy));
            store.driver = None;
            store.open();
            assert_eq!(store.snapshots().kind(), DriverKind::Copy);
        });
    }
}

/// Drivers whose snapshots the others can use.
fn same_form(one: DriverKind, other: DriverKind) -> bool {
    let upper = |kind| matches!(kind, DriverKind::Overlay | DriverKind::Reflink);
    one == other || upper(one) && upper(other)
}

/// Containers' files are nothing that another driver could read: said, and nothing touched. Every pair that
/// can be; zfs is asked for only, and refused before it is looked for.
#[test]
fn another_driver_over_existing_containers_is_refused() {
    if !is_root("another_driver_over_existing_containers_is_refused") {
        return;
    }
    Disk::Btrfs.with(|dir| {
        let drivers = DriverKind::ALL.into_iter().filter(|kind| *kind != DriverKind::Zfs);
        drivers.for_each(|was| others_are_refused(dir, was));
    });
}

fn others_are_refused(dir: &std::path::Path, was: DriverKind) {
    let mut store = TestStore::at(dir, Some(was));
    let image = image(&store, "seacow-base", &base());
    let key = "seacow-old".parse().unwrap();
    let options = PrepareOptions::default();
    let rootfs = store.snapshots().prepare(&key, image.chain.as_ref(), &options).unwrap();
    store.in_mounted(&rootfs, &|root| std::fs::write(root.join("precious"), "p").unwrap());
    // Of a slot that nobody took.
    store.snapshots().reserve(&"seacow-slot".parse().unwrap()).unwrap();
    for other in DriverKind::ALL {
        if same_form(was, other) {
            // Not even a change.
            store.driver = Some(other);
            store.open();
            continue;
        }
        store.store = None;
        let mut options = store.options();
        options.driver = Some(other);
        let error = Store::open(options).unwrap_err();
        let OpenError::Driver(DriverError::Changed { count, was: said, asked, .. }) = &error else {
            panic!("{was} to {other}: {error}");
        };
        assert!(*count == 1 && same_form(*said, was) && *asked == other, "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("--storage-driver {said}")) && text.contains("--data-root"), "{text}");
        // And nothing was lost.
        store.driver = None;
        store.open();
        assert!(same_form(store.snapshots().kind(), was));
        store.in_mounted(&store.snapshots().get(&key).unwrap(), &|root| {
            assert_eq!(std::fs::read_to_string(root.join("precious")).unwrap(), "p", "{was}");
        });
    }
    // Without containers the images stay, and serve any other driver.
    store.snapshots().retain(&Default::default()).unwrap();
    for other in DriverKind::ALL.into_iter().filter(|kind| *kind != DriverKind::Zfs) {
        store.driver = Some(other);
        store.open();
        let rootfs = store.snapshots().prepare(&key, image.chain.as_ref(), &options).unwrap();
        store.in_mounted(&rootfs, &|root| {
            assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "old", "{was} to {other}");
        });
        store.snapshots().remove(&key).unwrap();
    }
}

#[test]
fn a_driver_that_the_file_system_cannot_is_refused() {
    if !is_root("a_driver_that_the_file_system_cannot_is_refused") {
        return;
    }
    Disk::Xfs.with(|dir| {
        let store = TestStore::at(dir, None);
        let mut options = store.options();
        drop(store);
        options.driver = Some(DriverKind::Btrfs);
        let error = Store::open(options.clone()).unwrap_err().to_string();
        assert!(error.contains("btrfs") && error.contains("is not btrfs"), "{error}");
        options.driver = Some(DriverKind::Zfs);
        let error = Store::open(options).unwrap_err().to_string();
        assert!(error.contains("driver zfs cannot be used") && error.contains("is not zfs"), "{error}");
    });
}

/// Containers may make subvolumes of their own; they go with the container.
#[test]
fn subvolumes_made_by_a_container_are_removed_with_it() {
    if !is_root("subvolumes_made_by_a_container_are_removed_with_it") {
        return;
    }
    Disk::Btrfs.with(|dir| {
        let store = TestStore::at(dir, Some(DriverKind::Btrfs));
        let image = image(&store, "seacow-base", &base());
        let key = "seacow-nested".parse().unwrap();
        let options = PrepareOptions::default();
        let rootfs = store.snapshots().prepare(&key, image.chain.as_ref(), &options).unwrap();
        store.in_mounted(&rootfs, &|root| {
            let at = std::fs::File::open(root).unwrap();
            seacow_sys::btrfs::create(std::os::fd::AsFd::as_fd(&at), "nested".as_ref()).unwrap();
            std::fs::write(root.join("nested/file"), "n").unwrap();
        });
        store.snapshots().remove(&key).unwrap();
        assert_eq!(store.names("trash"), Vec::<String>::new());
    });
}

/// A whole-tree driver would have to copy the machine.
#[test]
fn the_host_image_needs_overlayfs() {
    if !is_root("the_host_image_needs_overlayfs") {
        return;
    }
    let store = TestStore::at(&std::env::temp_dir(), Some(DriverKind::Copy));
    let host = store.images().resolve("host").unwrap();
    let key = "seacow-host".parse().unwrap();
    let error = store.snapshots().prepare(&key, host.chain.as_ref(), &PrepareOptions::default()).unwrap_err();
    assert!(matches!(error, SnapshotError::HostNeedsOverlay("copy")), "{error}");
    assert!(store.names("snapshots").is_empty() && store.names("drafts").is_empty());
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
