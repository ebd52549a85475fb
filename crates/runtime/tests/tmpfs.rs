//! What a tmpfs over a directory of the image looks like.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bundle::Bundle;

fn rootfs(bundle: &Bundle) -> PathBuf {
    bundle.path().join("rootfs")
}

#[test]
fn it_has_the_mode_of_the_directory_unless_told() {
    let script = "stat -c %a /srv /tmp";
    let Some(bundle) = Bundle::new("tmode", script, |spec| {
        spec.mounts.push(common::mount("/srv", "tmpfs", "nosuid"));
        spec.mounts.push(common::mount("/tmp", "tmpfs", "mode=0410"));
    }) else {
        return;
    };
    std::fs::set_permissions(rootfs(&bundle).join("srv"), PermissionsExt::from_mode(0o1710)).unwrap();
    assert_eq!(bundle.ok(&["run", &bundle.id]), "1710\n410\n");
}

#[test]
fn it_starts_with_what_it_hides_when_asked_to() {
    let script = "ls -l /srv; cat /srv/deep/er/file; readlink /srv/link; touch /srv/new && echo written";
    let Some(bundle) = Bundle::new("copyup", script, |spec| {
        spec.mounts.push(common::mount("/srv", "tmpfs", "tmpcopyup"));
    }) else {
        return;
    };
    let srv = rootfs(&bundle).join("srv");
    std::fs::create_dir_all(srv.join("deep/er")).unwrap();
    std::fs::write(srv.join("deep/er/file"), "inside\n").unwrap();
    std::os::unix::fs::symlink("/etc/../../outside", srv.join("link")).unwrap();
    std::fs::write(srv.join("setuid"), "").unwrap();
    std::fs::set_permissions(srv.join("setuid"), PermissionsExt::from_mode(0o4755)).unwrap();
    let out = bundle.ok(&["run", &bundle.id]);
    assert!(out.contains("-rwsr-xr-x"), "{out}");
    assert!(out.ends_with("inside\n/etc/../../outside\nwritten\n"), "{out}");
    assert!(!srv.join("new").exists());
}

#[test]
fn a_filled_one_can_be_read_only() {
    let script = "cat /srv/file; touch /srv/new 2>&1";
    let Some(bundle) = Bundle::new("copyro", script, |spec| {
        spec.mounts.push(common::mount("/srv", "tmpfs", "tmpcopyup,ro"));
    }) else {
        return;
    };
    std::fs::write(rootfs(&bundle).join("srv/file"), "inside\n").unwrap();
    let output = bundle.call(&["run", &bundle.id]);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.starts_with("inside\n") && out.contains("Read-only file system"), "{out}");
}
