//! Power cuts: what the disk had at random moments, opened again.
//!
//! The store lies on a file system in a file, behind a loop device with direct I/O. That file is cloned
//! (one ioctl, all blocks of one moment) while the store is worked with: the clone has what was written
//! to the device and nothing of what a kernel kept in memory, which is what a power cut leaves.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use seacow_store::Store;

use crate::common::{TestStore, image, is_root};
use crate::crash;
use crate::disks::{Disk, mount_privately, mount_with};

/// How many cuts; `SEACOW_POWER_CUTS` has another number.
const CUTS: usize = 8;
/// How often the work is done meanwhile, at least.
const ROUNDS: usize = 2;

#[test]
fn a_store_on_ext4_survives_power_cuts() {
    cut_at_random(Disk::Ext4);
}

#[test]
fn a_store_on_xfs_survives_power_cuts() {
    cut_at_random(Disk::Xfs);
}

fn cut_at_random(kind: Disk) {
    if !is_root("cut_at_random") {
        return;
    }
    let cuts = std::env::var("SEACOW_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(CUTS);
    Disk::Xfs.with_size(6 << 30, |shared| {
        let file = shared.join("disk");
        kind.make_file(&file, 640 << 20);
        let at = shared.join("mnt");
        std::fs::create_dir(&at).unwrap();
        mount_privately(kind.name(), &file, &at);
        let mut store = TestStore::at(&at, None);
        image(&store, "bb", &crash::base());
        let dir = store.dir.path().strip_prefix(&at).unwrap().to_owned();
        let (home, options) = (store.dir.path().to_owned(), store.options());
        store.store = None;
        let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let store = Store::open(options.clone()).unwrap();
                    crash::work(&store).unwrap();
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
            // All kinds of moments have come when the work was done a few times.
            let mut taken = 0;
            while (taken < cuts || rounds.load(Ordering::SeqCst) < ROUNDS) && !worker.is_finished() {
                take(&file, &shared.join(format!("cut{}", taken % cuts)));
                taken += 1;
            }
            done.store(true, Ordering::SeqCst);
        });
        assert!(home.exists());
        for cut in 0..cuts {
            check(kind, shared, cut, &dir);
        }
    });
}

/// Clones the disk, at a moment that nobody has chosen.
fn take(file: &Path, to: &Path) {
    let random = RandomState::new().build_hasher().finish();
    // The moment is the point: nothing is waited for.
    let until = Instant::now() + Duration::from_millis(random % 90 + 1);
    while Instant::now() < until {
        std::thread::yield_now();
    }
    let (from, to) = (File::open(file).unwrap(), File::create(to).unwrap());
    rustix::fs::ioctl_ficlone(&to, &from).unwrap();
}

/// Mounted again, it is a store in which nothing is missing and nothing left over.
fn check(kind: Disk, shared: &Path, cut: usize, dir: &Path) {
    let (file, at) = (shared.join(format!("cut{cut}")), shared.join(format!("at{cut}")));
    std::fs::create_dir(&at).unwrap();
    std::thread::scope(|scope| {
        let looked = scope.spawn(|| {
            // It has the identity of the one that is mounted still.
            let options = if kind == Disk::Xfs { "nouuid" } else { "" };
            mount_with(kind.name(), &file, &at, options);
            crash::check(&at.join(dir));
        });
        assert!(looked.join().is_ok(), "cut {cut} of {}", kind.name());
    });
    std::fs::remove_file(file).unwrap();
}
