//! What every snapshot driver must do, as checks that a driver's tests call.
//!
//! Each check takes a store whose driver is the one under test, a parent stack whose topmost layer
//! has some known files, and a function that applies changes through a mount of the snapshot.
//! A check that fails panics with what was expected, as tests do.
#![expect(clippy::panic, reason = "checks that are called from tests")]

mod files;
mod frozen;
mod together;

use std::collections::HashSet;
use std::path::Path;

use seacow_spec::ChainId;
use seacow_spec::shim::Rootfs;

use super::{ChangeKind, PrepareOptions, SnapshotDriver, SnapshotError, SnapshotKey};
use crate::layer::UpperMode;

/// Runs a function in the mounted root of a snapshot.
pub type InMounted<'a> = dyn Fn(&Rootfs, &(dyn Fn(&Path) + Sync)) + 'a;

/// A driver with what it needs to be checked.
pub struct Subject<'a> {
    /// The driver.
    pub driver: &'a dyn SnapshotDriver,
    /// A layer with `/file` ("old"), `/dir/kept` ("kept"), `/dir/gone`, `/other/one` ("1").
    pub parent: &'a ChainId,
    /// A block written costs a block.
    pub shares_extents: bool,
    /// Mounts a root and calls the function with its path.
    pub in_mounted: &'a InMounted<'a>,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("driver", &self.driver.name()).finish_non_exhaustive()
    }
}

/// All checks, one after the other.
pub fn all(subject: &Subject<'_>) {
    keys_are_exclusive(subject);
    what_is_reserved_is_no_snapshot_until_it_is_prepared(subject);
    siblings_do_not_see_each_other(subject);
    a_new_snapshot_has_no_changes(subject);
    changes_are_what_was_done(subject);
    a_file_seen_through_a_hard_link_is_counted_once(subject);
    state_survives_get(subject);
    a_removed_key_can_be_prepared_again(subject);
    commit_by_copy_leaves_the_snapshot_as_it_was(subject);
    retain_removes_what_has_no_container(subject);
    files::all(subject);
    frozen::all(subject);
    together::all(subject);
}

fn key(name: &str) -> SnapshotKey {
    must(format!("seacow-conformance-{name}").parse())
}

fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

fn io<T>(result: std::io::Result<T>) -> T {
    must(result)
}

fn prepare(subject: &Subject<'_>, key: &SnapshotKey) -> Rootfs {
    must(subject.driver.prepare(key, Some(subject.parent), &PrepareOptions::default()))
}

fn lines(subject: &Subject<'_>, key: &SnapshotKey) -> Vec<String> {
    must(subject.driver.changes(key)).iter().map(ToString::to_string).collect()
}

/// Reserving only makes preparing faster: nothing else tells a difference.
pub fn what_is_reserved_is_no_snapshot_until_it_is_prepared(subject: &Subject<'_>) {
    let key = key("reserved");
    must(subject.driver.reserve(&key));
    assert!(matches!(subject.driver.reserve(&key), Err(SnapshotError::Exists(_))));
    assert!(matches!(subject.driver.info(&key), Err(SnapshotError::NotFound(_))));
    let rootfs = prepare(subject, &key);
    assert!(must(subject.driver.changes(&key)).is_empty());
    (subject.in_mounted)(&rootfs, &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "old");
        io(std::fs::write(root.join("new"), "1"));
    });
    assert_eq!(lines(subject, &key), ["A /new"]);
    let again = subject.driver.prepare(&key, Some(subject.parent), &PrepareOptions::default());
    assert!(matches!(again, Err(SnapshotError::Exists(_))), "{again:?}");
    must(subject.driver.remove(&key));
    // Taken back before it was prepared: the key is free.
    must(subject.driver.reserve(&key));
    must(subject.driver.remove(&key));
    assert!(!must(subject.driver.list()).contains(&key));
    prepare(subject, &key);
    must(subject.driver.remove(&key));
}

/// Two containers of one name must not share a writable layer.
pub fn keys_are_exclusive(subject: &Subject<'_>) {
    let key = key("exclusive");
    prepare(subject, &key);
    let again = subject.driver.prepare(&key, Some(subject.parent), &PrepareOptions::default());
    assert!(matches!(again, Err(SnapshotError::Exists(_))), "{again:?}");
    must(subject.driver.remove(&key));
    assert!(matches!(subject.driver.get(&key), Err(SnapshotError::NotFound(_))));
    // Twice is fine: a removal that was interrupted is repeated.
    must(subject.driver.remove(&key));
}

/// The founding example.
pub fn siblings_do_not_see_each_other(subject: &Subject<'_>) {
    let (one, two) = (key("one"), key("two"));
    let (first, second) = (prepare(subject, &one), prepare(subject, &two));
    (subject.in_mounted)(&first, &|root| io(std::fs::write(root.join("file"), "changed")));
    (subject.in_mounted)(&second, &|root| assert_eq!(io(std::fs::read_to_string(root.join("file"))), "old"));
    (subject.in_mounted)(&first, &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "changed");
    });
    assert_eq!(lines(subject, &one), ["C /file"]);
    assert_eq!(lines(subject, &two), Vec::<String>::new());
    let usage = must(subject.driver.usage(&one));
    assert_eq!((usage.copied_up.count, usage.new.count, usage.deleted.count), (1, 0, 0), "{usage:?}");
    assert_eq!(usage.copied_up.listed[0].path, Path::new("/file"));
    must(subject.driver.remove(&one));
    must(subject.driver.remove(&two));
}

/// Mount points and the driver's own book-keeping are no changes, and nearly no bytes.
pub fn a_new_snapshot_has_no_changes(subject: &Subject<'_>) {
    let key = key("fresh");
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| {
        for mount_point in ["proc", "sys", "dev", "etc/hosts", "etc/resolv.conf", "etc/hostname"] {
            assert!(root.join(mount_point).exists(), "{mount_point}");
        }
        let _ = io(std::fs::read_to_string(root.join("file")));
    });
    assert_eq!(lines(subject, &key), Vec::<String>::new());
    let usage = must(subject.driver.usage(&key));
    assert!(usage.bytes <= 64 << 10, "{usage:?}");
    must(subject.driver.remove(&key));
}

/// Additions, changes, deletions, replacements of directories, renames.
pub fn changes_are_what_was_done(subject: &Subject<'_>) {
    let key = key("changes");
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::write(root.join("new"), "n"));
        io(std::fs::write(root.join("file"), "changed"));
        io(std::fs::remove_file(root.join("dir/gone")));
        // moby#25244 and its like: removed and made again.
        io(std::fs::remove_dir_all(root.join("other")));
        io(std::fs::create_dir(root.join("other")));
        io(std::fs::write(root.join("other/two"), "2"));
    });
    let found = must(subject.driver.changes(&key));
    let mut expected = vec![
        ("/dir", ChangeKind::Modified),
        ("/dir/gone", ChangeKind::Deleted),
        ("/file", ChangeKind::Modified),
        ("/new", ChangeKind::Added),
        ("/other", ChangeKind::Modified),
        ("/other/one", ChangeKind::Deleted),
        ("/other/two", ChangeKind::Added),
    ];
    expected.sort_unstable();
    let found: Vec<_> =
        found.iter().map(|change| (change.path.to_str().unwrap_or("?"), change.kind)).collect();
    assert_eq!(found, expected);
    must(subject.driver.remove(&key));
}

/// Disk usage counted hard links several times once (moby#9283).
pub fn a_file_seen_through_a_hard_link_is_counted_once(subject: &Subject<'_>) {
    let key = key("hardlink");
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::write(root.join("big"), vec![1; 1 << 20]));
        io(std::fs::hard_link(root.join("big"), root.join("big2")));
    });
    let usage = must(subject.driver.usage(&key));
    assert!(usage.bytes >= 1 << 20 && usage.bytes < 2 << 20, "{usage:?}");
    assert_eq!(usage.size, 1 << 20);
    must(subject.driver.remove(&key));
}

/// Stop and start.
pub fn state_survives_get(subject: &Subject<'_>) {
    for volatile in [false, true] {
        let key = key("get");
        let options = PrepareOptions { volatile, ..PrepareOptions::default() };
        let rootfs = must(subject.driver.prepare(&key, Some(subject.parent), &options));
        (subject.in_mounted)(&rootfs, &|root| io(std::fs::write(root.join("kept"), "k")));
        let again = must(subject.driver.get(&key));
        assert_eq!(again, rootfs);
        (subject.in_mounted)(&again, &|root| {
            assert_eq!(io(std::fs::read_to_string(root.join("kept"))), "k");
        });
        let info = must(subject.driver.info(&key));
        assert_eq!((info.parent.as_ref(), info.volatile), (Some(subject.parent), volatile));
        must(subject.driver.remove(&key));
    }
}

/// A container of the same name, removed before.
pub fn a_removed_key_can_be_prepared_again(subject: &Subject<'_>) {
    let key = key("again");
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| io(std::fs::write(root.join("file"), "changed")));
    must(subject.driver.remove(&key));
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "old");
    });
    must(subject.driver.remove(&key));
}

/// `docker commit` of a container that goes on.
pub fn commit_by_copy_leaves_the_snapshot_as_it_was(subject: &Subject<'_>) {
    let (from, on_top) = (key("from"), key("ontop"));
    let rootfs = prepare(subject, &from);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::write(root.join("file"), "committed"));
        io(std::fs::remove_file(root.join("dir/gone")));
    });
    let before = lines(subject, &from);
    let layer = must(subject.driver.commit(&from, UpperMode::Copy));
    assert_eq!(lines(subject, &from), before);
    let again = must(subject.driver.commit(&from, UpperMode::Copy));
    assert_eq!(again.chain_id(), layer.chain_id(), "the same content is the same layer");

    let rootfs = must(subject.driver.prepare(&on_top, Some(layer.chain_id()), &PrepareOptions::default()));
    (subject.in_mounted)(&rootfs, &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "committed");
        assert!(!root.join("dir/gone").exists());
        assert!(root.join("dir/kept").exists());
    });
    assert_eq!(lines(subject, &on_top), Vec::<String>::new());
    must(subject.driver.remove(&on_top));
    must(subject.driver.remove(&from));
}

/// What a crash left.
pub fn retain_removes_what_has_no_container(subject: &Subject<'_>) {
    let (live, dead) = (key("live"), key("dead"));
    prepare(subject, &live);
    prepare(subject, &dead);
    let gone = must(subject.driver.retain(&HashSet::from([live.clone()])));
    assert_eq!(gone, [dead]);
    assert_eq!(must(subject.driver.list()), std::slice::from_ref(&live));
    must(subject.driver.remove(&live));
}
