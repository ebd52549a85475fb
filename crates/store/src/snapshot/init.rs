//! `init`, the bottom of every container: the mount points that an image may lack (`/proc`,
//! `/etc/hosts`, …). An image's own files hide it, and containers never write to it, so it costs
//! nothing and shows up in no diff.

use std::path::Path;

use rustix::fs::Mode;

use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::layout::mkdir;

/// Directories and files that something is mounted on in every container.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "etc"];
const MOUNTED_FILES: [&str; 4] = [".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

pub(super) fn make(init: &Path) -> Result<(), IoFailure> {
    mkdir(init, 0o755)?;
    let root = seacow_sys::rooted::Root::open(init).at("open", init)?;
    for dir in MOUNT_POINTS {
        mkdir(&init.join(dir), 0o755)?;
    }
    for file in MOUNTED_FILES {
        let path = Path::new(file);
        let entry = root.entry(path).at("open", path)?;
        if entry.file_type().at("look at", path)?.is_none() {
            entry.create(Mode::from_raw_mode(0o644)).at("create", path)?;
            entry.chmod(Mode::from_raw_mode(0o644)).at("set the mode of", path)?;
        }
    }
    // The daemon's umask must not show in containers.
    for dir in [".", "dev", "proc", "sys", "etc"] {
        let entry = root.entry(Path::new(dir)).at("open", dir)?;
        entry.chmod(Mode::from_raw_mode(0o755)).at("set the mode of", dir)?;
        // Their times are the same on every machine.
        let epoch = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        entry.utimens(&attrs::modified(epoch)).at("set the times of", dir)?;
    }
    Ok(())
}
