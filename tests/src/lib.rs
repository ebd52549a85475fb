//! End-to-end tests: everything here is seen from outside, through the stock `docker` client, our
//! own, or the bare API.
//!
//! Every test has an engine of its own ([`Engine::start`]): data root, exec root, bridge, subnet,
//! all named after the test's process, all gone when it ends. The same tests judge a real dockerd
//! (`SEACOW_TEST_ENGINE=docker`, with `SEACOW_DOCKERD` naming its directory of unpacked packages):
//! what it does not pass is not asked of us. Tests of what only seacow has call
//! [`Engine::skip_on_docker`].
#![forbid(unsafe_code)]

mod context;
mod engine;
mod gate;
mod http;
mod hub;
mod image;
mod older;
mod plugin;
mod process;
mod registry;
mod terminal;

pub use context::Context;
pub use engine::{Engine, Kind, cgroup_driver, dist};
pub use gate::Gate;
pub use http::Response;
pub use hub::{Hub, HubAsked};
pub use image::busybox_tar;
pub use older::OlderShim;
pub use plugin::VolumePlugin;
pub use process::{Done, Running};
pub use registry::{Registry, sh};
pub use terminal::Terminal;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Stops a slice that a container was put in: systemd keeps one that it made, also when it is empty.
pub fn remove_slice(name: &str) {
    // Where there is no systemd there is no slice either.
    drop(std::process::Command::new("systemctl").args(["stop", name]).output());
}

/// How many times slower than an ordinary one this machine is said to be: `SEACOW_TEST_PATIENCE`, for
/// emulated ones. What tests wait for, and how often they disturb, scales with it.
pub fn slowness() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| match std::env::var("SEACOW_TEST_PATIENCE") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("SEACOW_TEST_PATIENCE={text}: a whole number")),
        Err(_) => 1,
    })
}

/// How long a test waits before it gives up, given the seconds that are enough on an ordinary machine.
pub fn patience(seconds: u64) -> Duration {
    Duration::from_secs(seconds) * slowness()
}

/// Polls until `condition` holds.
///
/// # Panics
/// It does not hold within ten seconds (see [`patience`]).
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < patience(10), "not within {:?}: {what}", patience(10));
        std::thread::sleep(Duration::from_millis(10));
    }
}
