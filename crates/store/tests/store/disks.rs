//! File systems to test on: the machine's own, and xfs and btrfs in files, mounted where nobody else
//! sees them.
#![allow(unreachable_pub, reason = "a module of the test program")]

use std::path::Path;
use std::process::{Command, Stdio};

use seacow_sys::loopdev::Device;
use seacow_sys::mount::{self, MountFlags, Propagation};
use seacow_sys::ns;

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Where temporary files are.
    Own,
    /// Where no extents are shared, for certain.
    Ext4,
    Xfs,
    Btrfs,
    /// Where the host has it.
    Zfs,
}

/// Enough for every test, sparse.
const SIZE: u64 = 3 << 30;

impl Disk {
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "the temporary directory's",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
        }
    }

    /// Such a file system in a new sparse file.
    pub fn make_file(self, image: &Path, size: u64) {
        std::fs::File::create(image).unwrap().set_len(size).unwrap();
        make(self, image);
    }

    /// Calls `work` with a directory on such a file system. It is mounted in a mount namespace of a
    /// thread of its own, and gone with it whatever happens.
    pub fn with(self, work: impl FnOnce(&Path) + Send) {
        self.with_size(SIZE, work);
    }

    /// As [`Self::with`], with so many bytes.
    pub fn with_size(self, size: u64, work: impl FnOnce(&Path) + Send) {
        let home = tempfile::Builder::new().prefix("seacow-store-disk-").tempdir().unwrap();
        if self == Self::Own {
            return work(home.path());
        }
        let image = home.path().join("image");
        if self == Self::Zfs {
            return with_pool(&image, &home.path().join("mnt"), work);
        }
        self.make_file(&image, size);
        let at = home.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        let done = std::thread::scope(|scope| {
            let mounted = || {
                mount_privately(self.name(), &image, &at);
                work(&at);
            };
            scope.spawn(mounted).join()
        });
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    }
}

/// On a pool in a file, mounted by zfs where everybody sees it. Says so where there is no zfs.
fn with_pool(image: &Path, at: &Path, work: impl FnOnce(&Path)) {
    if !Path::new("/dev/zfs").exists() {
        println!("SKIPPED: this machine has no zfs");
        return;
    }
    std::fs::File::create(image).unwrap().set_len(SIZE).unwrap();
    let pool = format!("seacow{}", std::process::id());
    let mountpoint = format!("mountpoint={}", at.display());
    let zpool = |words: &[&str]| Command::new("zpool").args(words).status().unwrap().success();
    assert!(zpool(&["create", "-O", &mountpoint, &pool, image.to_str().unwrap()]));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(at)));
    assert!(zpool(&["destroy", "-f", &pool]));
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

fn make(disk: Disk, image: &Path) {
    let program = format!("mkfs.{}", disk.name());
    let mut mkfs = Command::new(&program);
    if disk == Disk::Xfs {
        mkfs.args(["-m", "reflink=1", "-s", "size=4096"]);
    }
    if disk == Disk::Ext4 {
        // As large as the loop device's sectors, also in a small one.
        mkfs.args(["-b", "4096"]);
    }
    let status = mkfs.arg("-q").arg(image).stdout(Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("{program} (packages xfsprogs, btrfs-progs): {error}"));
    assert!(status.success(), "{program}: {status}");
}

pub fn mount_privately(kind: &str, image: &Path, at: &Path) {
    mount_with(kind, image, at, "");
}

/// As [`mount_privately`], with options of the file system.
pub fn mount_with(kind: &str, image: &Path, at: &Path, options: &str) {
    ns::unshare(ns::Kinds::MOUNT).unwrap();
    mount::make_all(Propagation::Private).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(image).unwrap();
    let device = Device::attach(std::os::fd::AsFd::as_fd(&file), image).unwrap();
    mount::mount_at(kind, device.path().to_str().unwrap(), at, MountFlags::NOATIME, options).unwrap();
}
