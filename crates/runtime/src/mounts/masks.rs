//! Hidden and read-only paths.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use seacow_sys::Errno;
use seacow_sys::mount::{self, Attributes, Change, MountFlags};
use seacow_sys::rooted::Root;

use super::place::fd_path;
use crate::error::{Error, Step};

/// What hidden paths are covered with.
#[derive(Debug)]
pub(crate) struct Covers {
    null: OwnedFd,
    empty: Option<OwnedFd>,
}

impl Covers {
    /// The cover of files.
    pub(crate) fn null() -> Result<Self, Error> {
        let null =
            rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
                .step(|| "open /dev/null".into())?;
        // Somebody who replaced it by a file would see, or write, through every mask (CVE-2025-31133).
        let stat = rustix::fs::fstat(&null).step(|| "status of /dev/null".into())?;
        let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 3);
        if !is_null {
            return Err(Error::Invalid { what: "the host's /dev/null is not character device 1:3".into() });
        }
        Ok(Self { null, empty: None })
    }

    /// `empty` is an empty directory of ours that becomes a read-only file system: the cover of
    /// directories.
    pub(crate) fn add_empty(&mut self, empty: &Path) -> Result<(), Error> {
        mount::mount_at("tmpfs", "tmpfs", empty, MountFlags::RDONLY, "size=0,nr_inodes=2")
            .step(|| "mount the empty cover".into())?;
        let empty = rustix::fs::open(empty, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .step(|| "open the empty cover".into())?;
        self.empty = Some(empty);
        Ok(())
    }

    /// Hides a path; one that does not exist needs no hiding.
    pub(crate) fn hide(&self, root: &Root, path: &str) -> Result<(), Error> {
        let target = match root.locate(Path::new(path)) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            found => found.step(|| format!("find masked path {path}"))?,
        };
        let stat = rustix::fs::fstat(&target).step(|| format!("status of masked path {path}"))?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let cover = match &self.empty {
            Some(empty) if directory => empty,
            Some(_) | None => &self.null,
        };
        mount::bind(&fd_path(cover.as_fd()), &fd_path(target.as_fd()), false).step(|| format!("mask {path}"))
    }
}

/// Makes a path read-only with everything mounted below it, by a bind mount on itself.
pub(crate) fn make_readonly(root: &Root, path: &str) -> Result<(), Error> {
    let target = match root.locate(Path::new(path)) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        found => found.step(|| format!("find read-only path {path}"))?,
    };
    let tree = mount::clone_tree(target.as_fd(), true).step(|| format!("bind read-only path {path}"))?;
    let how = Change { set: Attributes::READ_ONLY, recursive: true, ..Change::default() };
    mount::change(tree.as_fd(), &how).step(|| format!("make {path} read-only"))?;
    mount::attach(tree.as_fd(), target.as_fd()).step(|| format!("mount read-only path {path}"))
}
