//! End-to-end tests: everything here is seen from outside, through the stock `docker` client, our
//! own, or the bare API.
//!
//! Every test has an engine of its own ([`Engine::start`]): data root, exec root, bridge, subnet,
//! all named after the test's process, all gone when it ends. The same tests judge a real dockerd
//! (`SEACOW_TEST_ENGINE=docker`, with `SEACOW_DOCKERD` naming its directory of unpacked packages):
//! what it does not pass is not asked of us. Tests of what only seacow has call
//! [`Engine::skip_on_docker`].
#![forbid(unsafe_code)]

mod engine;
mod http;
mod image;
mod older;
mod process;
mod terminal;

pub use engine::{Engine, Kind, cgroup_driver, dist};
pub use http::Response;
pub use image::busybox_tar;
pub use older::OlderShim;
pub use process::{Done, Running};
pub use terminal::Terminal;

use std::time::{Duration, Instant};

/// Stops a slice that a container was put in: systemd keeps one that it made, also when it is empty.
pub fn remove_slice(name: &str) {
    // Where there is no systemd there is no slice either.
    drop(std::process::Command::new("systemctl").args(["stop", name]).output());
}

/// Polls until `condition` holds.
///
/// # Panics
/// It does not hold within ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
