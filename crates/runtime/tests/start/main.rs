//! The library, in-process: containers over overlays, from `Prepared` to the last cgroup.
//!
//! Without the usual harness: the library's callers are single-threaded.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod exec;
mod files;
mod limits;
mod namespaces;
mod rights;
mod volumes;

use std::path::Path;

use bench::Bench;

type Case = (&'static str, fn(&mut Bench));

const CASES: &[Case] = &[
    ("output, exit code and an overlay that leaves the layer alone", files::overlay),
    ("namespaces, hostname and own pid 1", namespaces::namespaces),
    ("masked and read-only paths", files::masks),
    ("capabilities, filter and a reset signal state", rights::rights),
    (
        "filters are loaded before the start where nothing that follows needs them absent",
        rights::filters_ahead,
    ),
    ("no_new_privs and other users", rights::users),
    ("texts of what cannot be executed", rights::refusals),
    ("working directory is made; a leaked descriptor cannot be entered", files::directories),
    ("user mounts: bind, read-only, file, tmpfs, through hostile links", volumes::mounts),
    ("propagation: shared, slave and private volumes", volumes::propagation),
    ("devices: what is not allowed cannot be opened", volumes::devices),
    ("limits land in the cgroup; impossible ones are refused", limits::limits),
    ("the OOM killer is noticed", limits::out_of_memory),
    ("terminal with size and console", exec::terminal),
    ("exec: namespaces, cgroups, user, terminal, texts", exec::exec_into),
    ("host network and pid namespaces, joined namespaces", namespaces::shared_namespaces),
    ("init dies with its parent's word", namespaces::dropped),
    ("read-only root, sysctls, limits of resources", files::readonly_root),
    ("a view of the host with a mask", files::host_view),
];

/// Set in the second run, which sees nothing but a version 2 tree.
const UNIFIED: &str = "SEACOW_TEST_UNIFIED";

fn main() {
    if let Some(why) = common::missing() {
        return eprintln!("SKIP all of runtime/tests/start: {why}");
    }
    let unified = std::env::var_os(UNIFIED).is_some();
    if unified {
        hide_version_1();
    }
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let mut failed = 0;
    for (number, (name, case)) in CASES.iter().enumerate() {
        if only.as_ref().is_some_and(|o| !name.contains(o.as_str())) {
            continue;
        }
        let result = std::panic::catch_unwind(|| case(&mut Bench::new(number)));
        let layout = if unified { "v2: " } else { "" };
        println!("test {layout}{name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(result.is_err());
    }
    if !unified {
        let again =
            std::process::Command::new("/proc/self/exe").args(only).env(UNIFIED, "1").status().unwrap();
        failed += u32::from(!again.success());
    }
    std::process::exit(i32::from(failed != 0));
}

/// In a mount namespace of our own, `/sys/fs/cgroup` becomes the version 2 tree. Controllers that
/// version 1 holds stay there: what needs them is skipped, aloud.
fn hide_version_1() {
    use seacow_sys::{mount, ns};
    ns::unshare(ns::Kinds::MOUNT).unwrap();
    mount::make_all(mount::Propagation::Private).unwrap();
    let top = Path::new("/sys/fs/cgroup");
    mount::unmount_detach(top).unwrap();
    mount::mount_at("cgroup2", "cgroup2", top, mount::MountFlags::empty(), "").unwrap();
    let layout = seacow_runtime::cgroup::layout().unwrap();
    assert!(matches!(layout, seacow_runtime::cgroup::Layout::V2 { .. }), "{layout:?}");
}

/// Whether these controllers can limit a container here.
fn has_controllers(names: &[&str]) -> bool {
    let Ok(text) = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") else { return true };
    let missing: Vec<_> = names.iter().filter(|n| text.split_whitespace().all(|c| c != **n)).collect();
    if !missing.is_empty() {
        eprintln!("SKIP: no cgroup version 2 controller {missing:?}");
    }
    missing.is_empty()
}
