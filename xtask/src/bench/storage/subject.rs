//! The engines: ours with every driver, and dockerd.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::lab::Lab;
use crate::bench::peers::Engine;
use crate::bench::peers::dockerd::Dockerd;
use crate::bench::peers::seacow::Seacow;
use crate::shell;

/// Sparse; room for the image and what is changed in it.
const DISK: u64 = 64 << 30;
const BTRFS: &str = "seacow-bst-btr";

/// One engine with one driver.
pub(super) struct Subject {
    /// Told in the tables.
    pub(super) name: String,
    /// Bars are for ours.
    pub(super) is_ours: bool,
    /// A block written costs a block.
    pub(super) shares_extents: bool,
    /// Containers are whole copies.
    pub(super) copies: bool,
    /// The store is a file.
    pub(super) is_reflink: bool,
    /// Where its data are.
    pub(super) data_root: Option<PathBuf>,
    /// The engine, or why it cannot run here.
    pub(super) engine: Result<Box<dyn Engine>, String>,
    /// Its own disk, to be unmounted after it.
    _disk: Option<Disk>,
}

/// Starts them all.
pub(super) fn all(lab: &Lab) -> Vec<Subject> {
    let ours = |name: &str, id: &'static str, options: &[&str]| Subject {
        name: format!("seacow, {name}"),
        is_ours: true,
        shares_extents: false,
        copies: false,
        is_reflink: false,
        data_root: Some(PathBuf::from(format!("/var/lib/{id}"))),
        engine: boxed(Seacow::start(lab, id, options)),
        _disk: None,
    };
    let mut overlay = ours("overlay", "seacow-bst-ovl", &["--storage-driver=overlay"]);
    overlay.name += " on the host's file system";
    let mut reflink = ours("reflink in a store file", "seacow-bst-ref", &["--storage-init"]);
    (reflink.shares_extents, reflink.is_reflink) = (true, true);
    let mut copy = ours("copy", "seacow-bst-cpy", &["--storage-driver=copy", "--pool-size=0"]);
    copy.copies = true;
    vec![overlay, reflink, btrfs(lab), copy, dockerd(lab)]
}

/// Dockerd's row.
pub(super) fn peer(subjects: &[Subject]) -> Option<usize> {
    subjects.iter().position(|subject| !subject.is_ours)
}

fn dockerd(lab: &Lab) -> Subject {
    Subject {
        name: "dockerd, overlay2".into(),
        is_ours: false,
        shares_extents: false,
        copies: false,
        is_reflink: false,
        data_root: Some(PathBuf::from("/var/lib/seacow-bst-docker")),
        engine: boxed(Dockerd::start(lab, "seacow-bst")),
        _disk: None,
    }
}

fn btrfs(lab: &Lab) -> Subject {
    let (disk, engine) = match Disk::make() {
        Ok(disk) => (Some(disk), boxed(Seacow::start(lab, BTRFS, &["--storage-driver=btrfs"]))),
        Err(error) => (None, Err(format!("{error:#}"))),
    };
    Subject {
        name: "seacow, btrfs on a loop device".into(),
        is_ours: true,
        shares_extents: true,
        copies: false,
        is_reflink: false,
        data_root: Some(PathBuf::from(format!("/var/lib/{BTRFS}"))),
        engine,
        _disk: disk,
    }
}

fn boxed<E: Engine + 'static>(started: Result<E>) -> Result<Box<dyn Engine>, String> {
    started.map(|engine| Box::new(engine) as Box<dyn Engine>).map_err(|error| format!("{error:#}"))
}

/// A btrfs in a file, mounted where a daemon's data root is.
struct Disk {
    file: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn make() -> Result<Self> {
        let disk = Self {
            file: shell::target().join("bench-storage.btrfs"),
            at: PathBuf::from(format!("/var/lib/{BTRFS}")),
        };
        std::fs::File::create(&disk.file)?.set_len(DISK).context("make a sparse file")?;
        shell::output(Command::new("mkfs.btrfs").arg("-q").arg(&disk.file))?;
        std::fs::create_dir_all(&disk.at)?;
        shell::run(Command::new("mount").args(["-o", "loop,discard"]).arg(&disk.file).arg(&disk.at))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = shell::run(Command::new("umount").arg(&self.at));
        let removed = unmounted
            .and_then(|()| Ok(std::fs::remove_dir(&self.at)?))
            .and_then(|()| Ok(std::fs::remove_file(&self.file)?));
        if let Err(error) = removed {
            eprintln!("xtask: remove the disk at {}: {error:#}", self.at.display());
        }
    }
}
