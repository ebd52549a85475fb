//! The store in a file: made, filled, found again, grown, trimmed, and what a full or broken disk does.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use seacow_spec::{Classified, ErrorClass};
use seacow_store::snapshot::PrepareOptions;
use seacow_store::storefile::Progress;
use seacow_store::{DriverKind, Store, StoreFile, StoreFileError, StoreOptions};

use crate::common::{Tar, TestStore, image, in_mounted, is_root};
use crate::disks::Disk;

const MIB: u64 = 1 << 20;

/// A data root on ext4, in a mount namespace that is gone with the test.
fn on_ext4(test: &str, size: u64, work: impl FnOnce(&Path) + Send) {
    if is_root(test) {
        Disk::Ext4.with_size(size, work);
    }
}

fn create(data: &Path, size: u64) -> Result<Vec<Progress>, StoreFileError> {
    let mut steps = Vec::new();
    StoreFile::create(data, Some(size), &mut |step| steps.push(step.clone()))?;
    Ok(steps)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn allocated(data: &Path) -> u64 {
    std::fs::metadata(data.join("store.xfs")).unwrap().blocks() * 512
}

/// Looks again until it is so, for ten seconds.
fn until(mut so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed().as_secs() < 10, "not within ten seconds");
        std::thread::yield_now();
    }
}

/// Not all the same, or the file system might not write it.
fn fill(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let block: Vec<u8> = (0..MIB).map(|n| (n * 31 % 251) as u8).collect();
    for _ in 0..bytes / MIB {
        file.write_all(&block)?;
    }
    file.sync_all()
}

#[test]
fn what_was_there_moves_into_it_and_is_found_again() {
    on_ext4("what_was_there_moves_into_it_and_is_found_again", 3 << 30, |dir| {
        let mut store = TestStore::at(dir, None);
        assert_eq!(store.snapshots().kind(), DriverKind::Overlay);
        let tar = Tar::new().file("file", "old").dir("d/", 0o755).hard_link("link", "file").bytes();
        let made = image(&store, "bb", &tar);
        let key = "seacow-moved".parse().unwrap();
        let options = PrepareOptions::default();
        let rootfs = store.snapshots().prepare(&key, made.chain.as_ref(), &options).unwrap();
        store.in_mounted(&rootfs, &|root| {
            std::fs::write(root.join("precious"), "p").unwrap();
            std::fs::remove_file(root.join("file")).unwrap();
            // Its content is not in the container's own directory.
            std::fs::set_permissions(root.join("link"), std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::remove_dir(root.join("d")).unwrap();
            std::fs::create_dir(root.join("d")).unwrap();
        });
        let volume = store.volumes().create("vol", Default::default(), false).unwrap();
        std::fs::write(volume.path.join("data"), vec![7; 300_000]).unwrap();
        let before: Vec<_> = store.snapshots().changes(&key).unwrap();
        let data = store.data();
        // A daemon works with it.
        let error = create(&data, 1 << 30).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
        store.store = None;

        let steps = create(&data, 1 << 30).unwrap();
        let last = steps.last().unwrap();
        assert!(last.done >= 300_000 && last.total >= 300_000, "{steps:?}");
        assert!(steps.iter().any(|step| step.what == "volumes/vol"), "{steps:?}");
        assert_eq!(names(&data), ["lock", "store", "store.xfs"]);
        assert!(matches!(create(&data, 1 << 30), Err(StoreFileError::Exists(_))));

        for round in 0..3 {
            let file = StoreFile::attach(&data).unwrap();
            assert!(matches!(StoreFile::attach(&data), Err(StoreFileError::InUse(_))));
            let store = Store::open(StoreOptions::new(file.root(), dir.join("exec"))).unwrap();
            assert_eq!(store.snapshots().kind(), DriverKind::Reflink);
            assert_eq!(store.images().resolve("bb").unwrap().id, made.id);
            assert_eq!(store.snapshots().changes(&key).unwrap(), before);
            let rootfs = store.snapshots().get(&key).unwrap();
            in_mounted(&store, &rootfs, &[], &|root| {
                assert_eq!(std::fs::read_to_string(root.join("precious")).unwrap(), "p");
                assert!(!root.join("file").exists());
                assert_eq!(std::fs::read_to_string(root.join("link")).unwrap(), "old");
            });
            assert_eq!(std::fs::read(file.root().join("volumes/vol/_data/data")).unwrap(), vec![7; 300_000]);
            store.layers().export(made.chain.as_ref().unwrap(), &mut std::io::sink()).unwrap();
            let status = StoreFile::status(&data).unwrap().unwrap();
            assert_eq!(status.mounted, Some(file.root()));
            assert_eq!(status.size, 1 << 30);
            assert!(status.direct && status.allocated < status.size / 4, "{status:?}");
            drop(store);
            // Every second daemon is killed: the mount is found again.
            if round % 2 == 0 {
                file.detach().unwrap();
                assert_eq!(StoreFile::status(&data).unwrap().unwrap().mounted, None);
                assert!(names(&file.root()).is_empty());
            }
        }
    });
}

/// Both sides of the one step that counts.
#[test]
fn what_a_crash_left_of_a_creation_is_cleared_away() {
    on_ext4("what_a_crash_left_of_a_creation_is_cleared_away", 2 << 30, |dir| {
        let data = dir.join("data");
        std::fs::create_dir_all(data.join("volumes/old/_data")).unwrap();
        std::fs::write(data.join("volumes/old/_data/f"), "f").unwrap();
        std::fs::write(data.join("store.xfs.part"), "half a file").unwrap();
        create(&data, 600 * MIB).unwrap();
        assert_eq!(names(&data), ["lock", "store", "store.xfs"]);
        // Killed before the old files were gone.
        std::fs::create_dir_all(data.join("volumes/old/_data")).unwrap();
        std::fs::create_dir_all(data.join("layers/x/fs")).unwrap();
        let file = StoreFile::attach(&data).unwrap();
        assert_eq!(names(&data), ["lock", "store", "store.xfs"]);
        assert_eq!(std::fs::read_to_string(file.root().join("volumes/old/_data/f")).unwrap(), "f");
        file.detach().unwrap();
    });
}

#[test]
fn a_file_that_was_cut_short_is_refused_untouched() {
    on_ext4("a_file_that_was_cut_short_is_refused_untouched", 2 << 30, |dir| {
        let data = dir.join("data");
        create(&data, 600 * MIB).unwrap();
        let file = StoreFile::attach(&data).unwrap();
        std::fs::write(file.root().join("precious"), "p").unwrap();
        file.detach().unwrap();
        drop(file);
        let path = data.join("store.xfs");
        let whole = File::options().write(true).open(&path).unwrap();
        whole.set_len(599 * MIB).unwrap();
        let error = StoreFile::attach(&data).unwrap_err();
        assert!(matches!(error, StoreFileError::Short { .. }), "{error}");
        assert!(
            error.to_string().contains("cut short") && error.to_string().contains("nothing was"),
            "{error}"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 599 * MIB);
        whole.set_len(600 * MIB).unwrap();
        let file = StoreFile::attach(&data).unwrap();
        assert_eq!(std::fs::read_to_string(file.root().join("precious")).unwrap(), "p");
        file.detach().unwrap();
        drop(file);
        let foreign = data.join("store.xfs");
        std::fs::remove_file(&foreign).unwrap();
        std::fs::write(&foreign, vec![0; 4096]).unwrap();
        let error = StoreFile::attach(&data).unwrap_err();
        assert!(matches!(error, StoreFileError::Foreign { .. }), "{error}");
    });
}

#[test]
fn it_grows_before_it_is_full() {
    on_ext4("it_grows_before_it_is_full", 3 << 30, |dir| {
        let data = dir.join("data");
        create(&data, 600 * MIB).unwrap();
        let file = StoreFile::attach(&data).unwrap();
        assert_eq!(file.tend().unwrap().grown, 0);
        let held: PathBuf = file.root().join("held");
        fill(&held, 500 * MIB).unwrap();
        let done = file.tend().unwrap();
        assert!(done.grown >= 200 * MIB && done.held_back == 0, "{done:?}");
        fill(&file.root().join("more"), 150 * MIB).unwrap();
        let status = StoreFile::status(&data).unwrap().unwrap();
        assert!(status.size >= 800 * MIB && status.used >= 650 * MIB, "{status:?}");
        file.detach().unwrap();
        drop(file);
        // Killed between two steps of a growth: the next one takes it up.
        File::options()
            .write(true)
            .open(data.join("store.xfs"))
            .unwrap()
            .set_len(status.size + (64 << 20))
            .unwrap();
        let file = StoreFile::attach(&data).unwrap();
        assert_eq!(StoreFile::status(&data).unwrap().unwrap().size, status.size + (64 << 20));
        assert_eq!(std::fs::metadata(&held).unwrap().len(), 500 * MIB);
        file.detach().unwrap();
    });
}

#[test]
fn what_is_removed_goes_back_to_the_host() {
    on_ext4("what_is_removed_goes_back_to_the_host", 2 << 30, |dir| {
        let data = dir.join("data");
        create(&data, 1 << 30).unwrap();
        let file = StoreFile::attach(&data).unwrap();
        let empty = allocated(&data);
        let big = file.root().join("big");
        fill(&big, 200 * MIB).unwrap();
        let full = allocated(&data);
        assert!(full >= empty + 190 * MIB, "{empty} {full}");
        assert_eq!(file.tend().unwrap().trimmed, None);
        std::fs::remove_file(&big).unwrap();
        // The file system frees a large file behind everybody's back.
        until(|| StoreFile::status(&data).unwrap().unwrap().used < 100 * MIB);
        // Not while somebody writes.
        for n in 0..20 {
            let busy = std::fs::File::create(file.root().join(format!("busy{n}"))).unwrap();
            busy.sync_all().unwrap();
            assert_eq!(file.tend().unwrap().trimmed, None);
        }
        until(|| file.tend().unwrap().trimmed.is_some());
        until(|| {
            file.trim().unwrap();
            allocated(&data) <= empty + 10 * MIB
        });
        // Not at every look.
        assert_eq!(file.tend().unwrap().trimmed, None);
        file.detach().unwrap();
    });
}

/// The store says it has four times what the host has.
#[test]
fn a_full_host_is_an_error_and_nothing_is_lost() {
    on_ext4("a_full_host_is_an_error_and_nothing_is_lost", 1 << 30, |dir| {
        let data = dir.join("data");
        create(&data, 4 << 30).unwrap();
        let file = StoreFile::attach(&data).unwrap();
        let precious = file.root().join("precious");
        fill(&precious, 100 * MIB).unwrap();
        let done = file.tend().unwrap();
        assert!(done.held_back >= 2 << 30 && done.free <= 1 << 30, "{done:?}");
        // Somebody else on the host takes half of what is left.
        fill(&dir.join("others"), done.free / 2 / MIB * MIB).unwrap();
        let later = file.tend().unwrap();
        assert!(later.free < done.free, "{done:?} {later:?}");
        // Until nothing goes any more.
        let error = fill(&file.root().join("filler"), 4 << 30).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
        let host = rustix::fs::statvfs(dir).unwrap();
        assert!(host.f_bavail * host.f_frsize >= 16 * MIB, "the host was filled to the brim");
        let content = std::fs::read(&precious).unwrap();
        assert_eq!(content.len() as u64, 100 * MIB);
        // Room again as soon as somebody makes some.
        std::fs::remove_file(dir.join("others")).unwrap();
        std::fs::remove_file(file.root().join("filler")).unwrap();
        file.tend().unwrap();
        fill(&file.root().join("again"), 64 * MIB).unwrap();
        file.detach().unwrap();
        drop(file);
        let file = StoreFile::attach(&data).unwrap();
        assert!(std::fs::read(&precious).unwrap() == content);
        file.detach().unwrap();
    });
}

#[test]
fn without_room_for_two_nothing_is_changed() {
    on_ext4("without_room_for_two_nothing_is_changed", 1 << 30, |dir| {
        let data = dir.join("data");
        std::fs::create_dir_all(data.join("volumes/big/_data")).unwrap();
        fill(&data.join("volumes/big/_data/f"), 600 * MIB).unwrap();
        let error = create(&data, 4 << 30).unwrap_err();
        assert!(matches!(error, StoreFileError::NoRoom { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
        assert_eq!(names(&data), ["lock", "store", "volumes"]);
        assert_eq!(std::fs::metadata(data.join("volumes/big/_data/f")).unwrap().len(), 600 * MIB);
        assert!(matches!(create(&data, 1 << 20), Err(StoreFileError::NoRoom { .. })));
        std::fs::remove_dir_all(data.join("volumes")).unwrap();
        assert!(matches!(create(&data, 1 << 20), Err(StoreFileError::TooSmall(_))));
    });
}

#[test]
fn it_is_not_made_where_extents_are_shared() {
    if !is_root("it_is_not_made_where_extents_are_shared") {
        return;
    }
    Disk::Xfs.with(|dir| {
        let error = create(&dir.join("data"), 1 << 30).unwrap_err();
        assert!(matches!(error, StoreFileError::Needless(_)), "{error}");
    });
}
