//! The census against what the file system itself says is in use.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use seacow_store::volume::CopyFor;
use seacow_store::{DriverKind, Holder, Store, UpperMode};

use crate::common::{Tar, TestStore, image, in_mounted, is_root};
use crate::disks::Disk;

/// What a file system may need for itself: trees, journal, preallocation.
const SLACK: u64 = 2 << 20;
const BIG: usize = 8 << 20;

#[test]
fn overlays_without_shared_extents_add_up() {
    adds_up(Disk::Ext4, DriverKind::Overlay);
}

#[test]
fn overlays_with_shared_extents_add_up() {
    adds_up(Disk::Xfs, DriverKind::Reflink);
}

#[test]
fn subvolumes_add_up() {
    adds_up(Disk::Btrfs, DriverKind::Btrfs);
}

#[test]
fn whole_copies_add_up() {
    adds_up(Disk::Ext4, DriverKind::Copy);
    adds_up(Disk::Xfs, DriverKind::Copy);
}

fn adds_up(disk: Disk, driver: DriverKind) {
    if is_root("adds_up") {
        disk.with(|dir| counts(dir, driver, disk != Disk::Ext4));
    }
}

/// No two blocks are the same, and none can be packed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..BIG / 8).flat_map(|_| next()).collect()
}

fn synced(store: &Store) -> u64 {
    store.settle();
    let root = std::fs::File::open(store.data_root()).unwrap();
    rustix::fs::syncfs(root.as_fd()).unwrap();
    if store.snapshots().kind() == DriverKind::Btrfs {
        // This has it free removed subvolumes, too.
        let sync = Command::new("btrfs").args(["filesystem", "sync"]).arg(store.data_root()).status();
        assert!(sync.unwrap().success());
    }
    store.file_system().unwrap().used
}

fn counts(dir: &Path, driver: DriverKind, shares: bool) {
    let store = TestStore::at(dir, Some(driver));
    let (empty, nothing) = (synced(&store), store.census().unwrap().total());
    let agree = |what: &str| {
        // Blocks of what was removed are freed in the background, by btrfs with a later transaction.
        let began = Instant::now();
        loop {
            let used = synced(&store) - empty;
            let counted = store.census().unwrap().total() - nothing;
            if used.abs_diff(counted) < SLACK {
                return counted;
            }
            let late = began.elapsed() > Duration::from_secs(60);
            assert!(!late, "{what}, {driver:?}: the disk says {used}, we {counted}");
            std::thread::yield_now();
        }
    };
    image(&store, "bb", &Tar::new().file("big", noise(1)).file("small", "x").bytes());
    let one = agree("an image");
    assert!(one.abs_diff(BIG as u64) < SLACK, "{one}");

    let key = "seacow-census".parse().unwrap();
    let chain = store.images().resolve("bb").unwrap().chain;
    let rootfs = store.snapshots().prepare(&key, chain.as_ref(), &Default::default()).unwrap();
    in_mounted(&store, &rootfs, &[], &|root| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(root.join("big")).unwrap();
        file.write_all_at(&[7; 4096], 1 << 20).unwrap();
        std::fs::write(root.join("new"), noise(2)).unwrap();
        std::fs::hard_link(root.join("new"), root.join("same")).unwrap();
    });
    agree("a container");
    let own = |holder: &Holder| {
        let census = store.census().unwrap();
        let number = census.holders.iter().position(|other| other == holder).unwrap();
        let alone = census.parts.iter().filter(|part| part.holders == [number]).map(|part| part.bytes);
        let all = census.parts.iter().filter(|part| part.holders.contains(&number)).map(|part| part.bytes);
        (alone.sum::<u64>(), all.sum::<u64>())
    };
    let (alone, all) = own(&Holder::Snapshot(key.clone()));
    // The new file, and of the changed one what was written or all of it.
    let changed = if shares { 0 } else { BIG as u64 };
    assert!(alone.abs_diff(BIG as u64 + changed) < SLACK, "{driver:?}: {alone}");
    assert!(all.abs_diff(2 * BIG as u64) < SLACK, "{driver:?}: {all}");

    // Frozen with a copy: the container and the layer have the same extents, or everything twice.
    let frozen = store.snapshots().freeze(&key, UpperMode::Copy).unwrap();
    agree("a frozen layer");
    let (alone, _) = own(&Holder::Layer(frozen.chain_id().clone()));
    assert!(if shares { alone < SLACK } else { alone >= BIG as u64 }, "{driver:?}: {alone}");
    drop(frozen);

    let volume = store.volumes().create("vol", Default::default(), false).unwrap();
    std::fs::write(volume.path.join("f"), noise(3)).unwrap();
    store
        .volumes()
        .save("vol", Some("first"), &store.volumes().copy_of("vol", None, CopyFor::Snapshot).unwrap())
        .unwrap();
    store
        .volumes()
        .adopt("clone", &store.volumes().copy_of("vol", None, CopyFor::Volume).unwrap(), Default::default())
        .unwrap();
    agree("a volume, its snapshot and its clone");
    let saved = Holder::Saved { volume: "vol".into(), name: "first".into() };
    for holder in [Holder::Volume("vol".into()), Holder::Volume("clone".into()), saved] {
        let (alone, all) = own(&holder);
        assert!(all.abs_diff(BIG as u64) < SLACK, "{holder:?}: {all}");
        assert_eq!(alone < SLACK, shares, "{holder:?}: {alone}");
    }
    std::fs::write(volume.path.join("f"), noise(4)).unwrap();
    agree("a volume that went on");

    store.volumes().remove("vol").unwrap();
    store.volumes().remove("clone").unwrap();
    store.snapshots().remove(&key).unwrap();
    store.layers().remove_unused().unwrap();
    agree("what is left");
}
