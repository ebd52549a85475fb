//! The command killed at any moment, and several at once: `delete --force` leaves nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::time::Duration;

use bundle::Bundle;

/// Moments, spread over what a create takes.
const MOMENTS: u64 = 24;
const APART: Duration = Duration::from_micros(400);

/// Mounts of this mount namespace that mention the container, and its processes.
fn traces(bundle: &Bundle) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = bundle.path().display().to_string();
    let mut found: Vec<String> = mounts.lines().filter(|l| l.contains(&dir)).map(str::to_owned).collect();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&dir) {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_create_killed_at_any_moment_leaves_nothing() {
    let Some(bundle) = Bundle::new("killed", "exec sleep 60", |_| {}) else { return };
    let id = bundle.id.as_str();
    for moment in 0..MOMENTS {
        let mut creating = bundle.spawn_away(&["create", id]);
        // Not a wait for anything: the moment is what is tried.
        std::thread::sleep(APART * u32::try_from(moment).unwrap());
        creating.kill().unwrap();
        creating.wait().unwrap();
        bundle.ok(&["delete", "--force", id]);
        assert!(!bundle.call(&["state", id]).status.success());
        assert_eq!(bundle.ok(&["list", "-q"]), "");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            assert!(!hierarchy.path().join(id).exists(), "moment {moment}: {:?}", hierarchy.path());
        }
        let found = traces(&bundle);
        assert!(found.is_empty(), "moment {moment}: {found:?}");
        assert!(!bundle.path().join("state").join(id).exists());
    }
    // And the id is as good as new.
    bundle.ok(&["run", "-d", id]);
}

#[test]
fn of_many_at_once_one_makes_it_and_one_starts_it() {
    let Some(bundle) = Bundle::new("many", "exec sleep 60", |_| {}) else { return };
    let id = bundle.id.as_str();
    let all = |words: &[&str]| {
        let children: Vec<_> = (0..6).map(|_| bundle.spawn_away(words)).collect();
        children.into_iter().map(|mut c| c.wait().unwrap().success()).filter(|ok| *ok).count()
    };
    assert_eq!(all(&["create", id]), 1);
    assert_eq!(bundle.status(), "created");
    assert_eq!(all(&["start", id]), 1);
    assert_eq!(bundle.status(), "running");
    assert!(all(&["delete", "--force", id]) >= 1);
    assert!(!bundle.call(&["state", id]).status.success());
}
