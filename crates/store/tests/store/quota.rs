//! Limits of containers and volumes: kept by the file system, through everything that happens to them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use seacow_spec::{Classified, ErrorClass};
use seacow_store::snapshot::{PrepareOptions, SnapshotKey};
use seacow_store::volume::CopyFor;
use seacow_store::{DriverKind, NewVolume, UpperMode};

use crate::common::{Tar, TestStore, image, is_root};
use crate::disks::{Disk, mount_with};

const MIB: usize = 1 << 20;
const LIMIT: u64 = 16 << 20;

/// Writes so many MiB that nothing can compress or share; the errno if it does not fit.
fn fill(path: &Path, mib: usize) -> Result<(), i32> {
    let errno = |error: std::io::Error| error.raw_os_error().unwrap();
    let mut file = std::fs::File::create(path).map_err(errno)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..mib {
        let piece: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(MIB / 8)
        .flatten()
        .collect();
        file.write_all(&piece).map_err(errno)?;
    }
    file.sync_all().map_err(errno)
}

const EDQUOT: i32 = 122;
/// An overlay tells it so where the upper file system has projects of xfs.
const ENOSPC: i32 = 28;

/// What is over the limit is refused, and what is removed may be written again.
fn is_limited(dir: &Path) {
    assert_eq!(fill(&dir.join("fits"), 8), Ok(()));
    let over = fill(&dir.join("over"), 32).unwrap_err();
    assert!(over == EDQUOT || over == ENOSPC, "errno {over}");
    std::fs::remove_file(dir.join("over")).unwrap();
    std::fs::remove_file(dir.join("fits")).unwrap();
    std::fs::File::open(dir).unwrap().sync_all().unwrap();
}

fn key(text: &str) -> SnapshotKey {
    text.parse().unwrap()
}

/// Larger than the limit: what the image has is not the container's.
fn large() -> Vec<u8> {
    let mut state = 1_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(24 * MIB)
    .collect();
    Tar::new().file("small", "s").file("large", &bytes).bytes()
}

fn containers_are_limited(store: &mut TestStore) {
    let image = image(store, "seacow-base", &large());
    let options = PrepareOptions { volatile: false, size: Some(LIMIT) };
    let one = key("one");
    // One that was made ahead, as a prepared container's is.
    store.snapshots().reserve(&one).unwrap();
    let rootfs = store.snapshots().prepare(&one, image.chain.as_ref(), &options).unwrap();
    store.in_mounted(&rootfs, &|root| {
        assert_eq!(std::fs::metadata(root.join("large")).unwrap().len(), 24 << 20);
        is_limited(root);
        std::fs::write(root.join("before"), "kept").unwrap();
    });
    let frozen = store.snapshots().freeze(&one, UpperMode::Move).unwrap();
    let rootfs = store.snapshots().get(&one).unwrap();
    store.in_mounted(&rootfs, &|root| {
        is_limited(root);
        std::fs::write(root.join("before"), "lost").unwrap();
    });
    store.snapshots().reset(&one, frozen.chain_id()).unwrap();
    let rootfs = store.snapshots().get(&one).unwrap();
    store.in_mounted(&rootfs, &|root| {
        assert_eq!(std::fs::read_to_string(root.join("before")).unwrap(), "kept");
        is_limited(root);
    });
    let two = key("two");
    let branch = store.snapshots().branch(&two, frozen.chain_id(), image.chain.as_ref(), &options).unwrap();
    store.in_mounted(&branch, &is_limited);
    // And one without a limit beside them.
    let three = store.snapshots().prepare(&key("three"), image.chain.as_ref(), &PrepareOptions::default());
    store.in_mounted(&three.unwrap(), &|root| assert_eq!(fill(&root.join("over"), 32), Ok(())));
    drop(frozen);
    store.open();
    assert_eq!(live(store), ["snapshot/one", "snapshot/two"]);
    let rootfs = store.snapshots().get(&one).unwrap();
    store.in_mounted(&rootfs, &is_limited);
    for key in [one, two, key("three")] {
        store.snapshots().remove(&key).unwrap();
    }
    assert_eq!(live(store), [""; 0]);
}

fn live(store: &TestStore) -> Vec<String> {
    let limits = store.limits().into_iter().filter(|(owner, _)| !owner.starts_with("gone/"));
    limits.map(|(owner, _)| owner).collect()
}

fn volumes_are_limited(store: &mut TestStore) {
    let wanted = || NewVolume {
        options: [("size".to_owned(), LIMIT.to_string())].into(),
        size: Some(LIMIT),
        ..NewVolume::default()
    };
    let volume = store.volumes().make("vol", wanted()).unwrap();
    assert_eq!(volume.size, Some(LIMIT));
    is_limited(&volume.path);
    std::fs::write(volume.path.join("f"), "first").unwrap();
    let volumes = store.volumes();
    volumes.save("vol", Some("s"), &volumes.copy_of("vol", None, CopyFor::Snapshot).unwrap()).unwrap();
    std::fs::write(volume.path.join("f"), "second").unwrap();
    volumes.roll_back("vol", "s").unwrap();
    assert_eq!(std::fs::read_to_string(volume.path.join("f")).unwrap(), "first");
    is_limited(&volume.path);
    let copy = volumes.copy_of("vol", None, CopyFor::Volume).unwrap();
    let clone = volumes.adopt("clone", &copy, BTreeMap::new()).unwrap();
    drop(copy);
    assert_eq!((clone.size, clone.options.len()), (Some(LIMIT), 1));
    is_limited(&clone.path);
    // What is given up leaves nothing.
    drop(volumes.copy_of("vol", Some("s"), CopyFor::Volume).unwrap());
    assert_eq!(live(store), ["volume/clone", "volume/vol"]);
    store.open();
    is_limited(&volume.path);
    is_limited(&clone.path);
    for name in ["vol", "clone"] {
        store.volumes().remove(name).unwrap();
    }
    assert_eq!(live(store), [""; 0]);
    assert_eq!(store.names("volumes"), Vec::<String>::new());
}

/// Numbers are given back once nothing is counted by them.
fn numbers_come_back(store: &mut TestStore) {
    // btrfs frees a subvolume's blocks in its own time: its cleaner is woken every thirty seconds.
    let deadline = Instant::now() + Duration::from_secs(100);
    while Instant::now() < deadline {
        store.settle();
        store.open();
        if store.limits().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("still known: {:?}", store.limits());
}

fn all(driver: DriverKind, dir: &Path) {
    let mut store = TestStore::at(dir, Some(driver));
    containers_are_limited(&mut store);
    volumes_are_limited(&mut store);
    numbers_come_back(&mut store);
}

#[test]
fn subvolumes_are_limited() {
    if is_root("subvolumes_are_limited") {
        Disk::Btrfs.with(|dir| all(DriverKind::Btrfs, dir));
    }
}

#[test]
fn directories_on_btrfs_are_limited() {
    if is_root("directories_on_btrfs_are_limited") {
        Disk::Btrfs.with(|dir| all(DriverKind::Reflink, dir));
    }
}

/// Where the kernel's xfs has quota; where it has not, that is what the refusal says.
#[test]
fn projects_of_xfs_are_limited() {
    if !is_root("projects_of_xfs_are_limited") {
        return;
    }
    let home = tempfile::Builder::new().prefix("seacow-store-quota-").tempdir().unwrap();
    let (disk, at) = (home.path().join("image"), home.path().join("mnt"));
    Disk::Xfs.make_file(&disk, 3 << 30);
    std::fs::create_dir(&at).unwrap();
    let done = std::thread::scope(|scope| {
        let work = || {
            let quota = Path::new("/proc/fs/xfs/xqmstat").exists();
            mount_with("xfs", &disk, &at, if quota { "prjquota" } else { "" });
            if quota {
                all(DriverKind::Reflink, &at);
                return all(DriverKind::Overlay, &at);
            }
            println!("SKIPPED: this kernel's xfs has no quota; what is said of that is tested");
            let store = TestStore::at(&at, Some(DriverKind::Reflink));
            refused(&store, "this kernel's xfs has no quota (it is built without CONFIG_XFS_QUOTA)");
        };
        scope.spawn(work).join()
    });
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// Neither container nor volume, and nothing left of them.
fn refused(store: &TestStore, why: &str) {
    let image = image(store, "seacow-base", &Tar::new().file("f", "x").bytes());
    let options = PrepareOptions { volatile: false, size: Some(LIMIT) };
    let error = store.snapshots().prepare(&key("one"), image.chain.as_ref(), &options).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotImplemented, "{error}");
    assert!(error.to_string().contains(why), "{error}");
    let wanted = NewVolume { size: Some(LIMIT), ..NewVolume::default() };
    let error = store.volumes().make("vol", wanted).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotImplemented, "{error}");
    assert_eq!(store.limits(), []);
    for dir in ["snapshots", "volumes", "drafts"] {
        assert_eq!(store.names(dir), Vec::<String>::new(), "{dir}");
    }
}

#[test]
fn what_cannot_be_limited_is_refused() {
    if !is_root("what_cannot_be_limited_is_refused") {
        return;
    }
    Disk::Ext4.with(|dir| {
        let store = TestStore::at(dir, Some(DriverKind::Overlay));
        refused(&store, "is neither on an xfs with project quota nor on btrfs");
    });
    Disk::Btrfs.with(|dir| {
        let store = TestStore::at(dir, Some(DriverKind::Copy));
        let image = image(&store, "seacow-base", &Tar::new().file("f", "x").bytes());
        let options = PrepareOptions { volatile: false, size: Some(LIMIT) };
        let error = store.snapshots().prepare(&key("one"), image.chain.as_ref(), &options).unwrap_err();
        assert!(error.to_string().contains("the storage driver copy cannot limit"), "{error}");
        assert_eq!(store.names("snapshots"), Vec::<String>::new());
    });
}
