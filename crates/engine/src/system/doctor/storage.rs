//! Where images and containers' files lie.

use std::path::Path;

use rustix::fs::statvfs;
use seacow_spec::docker::system::Check;

use super::super::host;
use super::{failed, ok, warning};

/// Below this much free space a pull or build is likely to fail.
const LITTLE: u64 = 2 << 30;
/// Below this share of free inodes, in percent.
const FEW_PERCENT: u64 = 2;

pub(super) fn file_system(root: &Path) -> Check {
    let name = "data root";
    let place = root.display();
    match host::file_system(root).as_str() {
        kind @ ("xfs" | "btrfs") => {
            ok(name, format!("{place} is on {kind}, which shares blocks between copies of a file."))
        }
        "extfs" => ok(
            name,
            format!(
                "{place} is on ext4: a file is copied as a whole when a container first writes to it \
                 (seacow storage init makes a store that shares blocks)."
            ),
        ),
        kind @ ("overlayfs" | "nfs" | "cifs" | "fuse") => failed(
            name,
            format!("{place} is on {kind}, which cannot carry the writable layer of an overlay."),
            "Put the data root on a local disk: seacowd --data-root",
        ),
        "tmpfs" => warning(
            name,
            format!("{place} is on tmpfs: images and containers are gone after a boot, and cost memory."),
            "Put the data root on a local disk: seacowd --data-root",
        ),
        "zfs" => warning(
            name,
            format!(
                "{place} is on zfs, which seacow was not tried on: neither its driver of that name, which needs \
                 the zfs tools, nor an overlay, which needs OpenZFS 2.2."
            ),
            "Use ext4, xfs or btrfs, or try --storage-driver zfs with data that you can lose.",
        ),
        kind => warning(
            name,
            format!("{place} is on a file system ({kind}) that seacow was not tried on."),
            "Use ext4, xfs or btrfs.",
        ),
    }
}

pub(super) fn space(root: &Path) -> Check {
    let name = "disk space";
    match statvfs(root) {
        Err(error) => {
            warning(name, format!("Cannot look at {}: {error}.", root.display()), "Check the path.")
        }
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{:.1} GiB free on the file system of {}.", gib(free), root.display());
            if free < LITTLE {
                warning(name, text, "Make room: docker system prune, or a larger disk.")
            } else {
                ok(name, text)
            }
        }
    }
}

pub(super) fn inodes(root: &Path) -> Check {
    let name = "inodes";
    match statvfs(root) {
        Ok(stat) if stat.f_files > 0 && stat.f_favail.saturating_mul(100) / stat.f_files < FEW_PERCENT => {
            warning(
                name,
                format!(
                    "Only {} of {} inodes are free below {}.",
                    stat.f_favail,
                    stat.f_files,
                    root.display()
                ),
                "Remove images with many small files: docker image prune -a",
            )
        }
        _ => ok(name, "Enough inodes are free."),
    }
}

fn gib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 30)
}
