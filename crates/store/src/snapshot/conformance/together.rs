//! Many at once.

use std::path::Path;

use super::{Subject, io, key, must};
use crate::snapshot::{PrepareOptions, SnapshotError};

/// All checks of this file.
pub(super) fn all(subject: &Subject<'_>) {
    threads_do_not_step_on_each_other(subject);
    one_of_many_gets_a_key(subject);
}

const THREADS: usize = 6;

/// Old engines made two containers share a layer, or left directories, under load (moby#16653).
fn threads_do_not_step_on_each_other(subject: &Subject<'_>) {
    let (driver, parent) = (subject.driver, subject.parent);
    std::thread::scope(|scope| {
        let work = |thread: usize| {
            move || {
                for round in 0..12 {
                    let key = key(&format!("t{thread}-{round}"));
                    if round % 3 == 0 {
                        must(driver.reserve(&key));
                    }
                    let options = PrepareOptions { volatile: round % 2 == 0, ..PrepareOptions::default() };
                    must(driver.prepare(&key, Some(parent), &options));
                    let found = must(driver.list());
                    assert!(found.contains(&key), "{key} is not among {found:?}");
                    assert!(must(driver.changes(&key)).is_empty());
                    if round % 4 != 3 {
                        must(driver.remove(&key));
                        assert!(matches!(driver.info(&key), Err(SnapshotError::NotFound(_))));
                    }
                }
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        for thread in threads {
            assert!(thread.join().is_ok());
        }
    });
    let left = must(driver.list());
    assert_eq!(left.len(), THREADS * 3);
    for key in left {
        must(driver.remove(&key));
    }
    assert!(must(driver.list()).is_empty());
}

fn one_of_many_gets_a_key(subject: &Subject<'_>) {
    let (driver, parent, key) = (subject.driver, subject.parent, key("contended"));
    let won: usize = std::thread::scope(|scope| {
        let prepare = || match driver.prepare(&key, Some(parent), &PrepareOptions::default()) {
            Ok(_) => 1,
            Err(SnapshotError::Exists(_)) => 0,
            Err(error) => must(Err(error)),
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(prepare)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(THREADS)).sum()
    });
    assert_eq!(won, 1);
    (subject.in_mounted)(&must(driver.get(&key)), &|root: &Path| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "old");
    });
    must(driver.remove(&key));
}
