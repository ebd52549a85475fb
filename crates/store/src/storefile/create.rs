//! A new store file, and what was there before moved into it.
//!
//! Everything happens in `store.xfs.part`. Its renaming is the one step that counts: before it the
//! old files are the store, after it the new ones, and what is left of the others is removed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::Duration;

use seacow_sys::mount;
use seacow_sys::rooted::Root;

use super::{FILE, MOUNT, Room, StoreFile, StoreFileError, mount_file};
use crate::error::{At, IoFailure};
use crate::fsutil::copy::{Marks, copy_content, copy_tree};
use crate::fsutil::disk_bytes;
use crate::layout::{TREE, mkdir, remove_tree};
use crate::store::lock_file;

const PART: &str = "store.xfs.part";
/// mkfs.xfs makes nothing below 300 MB.
const SIZE_MIN: u64 = 512 << 20;
/// What a data root has, as the layout says.
const COPIED: [&str; 7] = ["meta.redb", "blobs", "layers", "snapshots", "volumes", "containers", "init"];
/// What was in the making, here and in the engine.
const NOT_COPIED: [&str; 3] = ["drafts", "trash", "build"];

/// How often one hears of a copy that takes long.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// How far a migration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being copied: a path in the data root.
    pub what: String,
    /// Bytes copied.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl StoreFile {
    /// Makes a store file of `size` bytes (all that the host's disk has, if absent: the file takes only
    /// what is in it), and moves into it what the data root has. No daemon may run, and no container.
    ///
    /// # Errors
    /// There is one, none is needed, or the host cannot. The data root is as it was then.
    pub fn create(
        data_root: &Path,
        size: Option<u64>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<(), StoreFileError> {
        mkdir(data_root, 0o710)?;
        let _lock = lock_file(data_root)?;
        if Self::exists(data_root) {
            return Err(StoreFileError::Exists(data_root.join(FILE)));
        }
        let (part, place) = (data_root.join(PART), data_root.join(MOUNT));
        mkdir(&place, 0o700)?;
        drop_part(&part, &place)?;
        if shares_extents(&place)? {
            return Err(StoreFileError::Needless(data_root.to_owned()));
        }
        let total = check_room(data_root)?;
        let host = Room::of(data_root)?;
        let size = size.unwrap_or(host.total).max(1) & !0xfff;
        if size < SIZE_MIN {
            return Err(StoreFileError::TooSmall(SIZE_MIN));
        }
        let made = make(&part, size)
            .and_then(|()| fill(data_root, &part, &place, total, progress))
            .and_then(|()| Ok(std::fs::rename(&part, data_root.join(FILE)).at("rename", &part)?));
        if made.is_err() {
            // Undo; what fails here is done at the next try.
            let _ = drop_part(&part, &place);
            return made;
        }
        File::open(data_root).and_then(|dir| dir.sync_all()).at("sync directory", data_root)?;
        Ok(remove_what_was_copied(data_root)?)
    }
}

fn shares_extents(place: &Path) -> Result<bool, IoFailure> {
    let probe = place.join("probe");
    mkdir(&probe, 0o700)?;
    let shares = crate::snapshot::extents_are_shared(&probe).is_ok();
    remove_tree(&probe)?;
    Ok(shares)
}

/// What an earlier try left.
fn drop_part(part: &Path, place: &Path) -> Result<(), StoreFileError> {
    // Not mounted is what is wanted.
    let _ = mount::unmount_detach(place);
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IoFailure::new("remove", part, error).into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Bytes to be copied, for which there must be room beside the old ones.
fn check_room(data_root: &Path) -> Result<u64, StoreFileError> {
    let mut needed = 0;
    for name in COPIED {
        let path = data_root.join(name);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => needed += disk_bytes(&Root::open(&path).at("open", &path)?)?,
            Ok(meta) => needed += meta.len(),
            Err(_) => {}
        }
    }
    let free = Room::of(data_root)?.free;
    // An eighth more for the metadata of two file systems.
    if needed + needed / 8 + SIZE_MIN / 4 > free {
        return Err(StoreFileError::NoRoom { root: data_root.to_owned(), needed, free });
    }
    Ok(needed)
}

fn make(part: &Path, size: u64) -> Result<(), StoreFileError> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(part).at("create", part)?;
    file.set_len(size).at("enlarge", part)?;
    let mut mkfs = Command::new("mkfs.xfs");
    // Sectors as the loop device has them, so that it needs no page cache in between.
    mkfs.args(["-q", "-m", "reflink=1", "-s", "size=4096", "-L", "seacow"]).arg(part);
    // A service's path may lack the administrator's programs.
    let path = std::env::var("PATH").unwrap_or_default();
    mkfs.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    match mkfs.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(StoreFileError::NoMkfs),
        Err(error) => Err(IoFailure::new("run mkfs.xfs on", part, error).into()),
        Ok(output) if !output.status.success() => {
            Err(StoreFileError::Mkfs(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
        Ok(_) => Ok(()),
    }
}

/// Copies everything and unmounts again, which has it all on the disk.
fn fill(
    data_root: &Path,
    part: &Path,
    place: &Path,
    total: u64,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), StoreFileError> {
    mount_file(part, place)?;
    let copied = copy_all(data_root, place, total, progress);
    let synced = File::open(place).and_then(|top| Ok(rustix::fs::syncfs(&top)?)).at("sync", place);
    mount::unmount(place).at("unmount", place)?;
    copied?;
    synced?;
    Ok(File::open(part).and_then(|file| file.sync_all()).at("sync", part)?)
}

fn copy_all(
    data_root: &Path,
    place: &Path,
    total: u64,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), IoFailure> {
    let empty = bytes_used(place)?;
    std::thread::scope(|scope| {
        let (sender, steps) = std::sync::mpsc::channel();
        let copying = scope.spawn(move || copy_each(data_root, place, &sender));
        let (mut done, mut what) = (0, String::new());
        loop {
            match steps.recv_timeout(TELL_EVERY) {
                Ok(Step::Begun(name)) => what = name,
                Ok(Step::Done(bytes)) => {
                    done += bytes;
                    progress(&Progress { what: what.clone(), done, total });
                }
                // What is in the midst of a large one is seen by what the file system has taken in.
                Err(RecvTimeoutError::Timeout) => {
                    let taken = bytes_used(place).map_or(0, |used| used.saturating_sub(empty));
                    progress(&Progress { what: what.clone(), done: done.max(taken), total });
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let broken = || IoFailure::new("copy to", place, std::io::Error::other("a thread panicked"));
        copying.join().unwrap_or_else(|_| Err(broken()))
    })
}

/// What the copying thread tells.
enum Step {
    /// It copies this.
    Begun(String),
    /// That took so many bytes.
    Done(u64),
}

fn copy_each(data_root: &Path, place: &Path, steps: &Sender<Step>) -> Result<(), IoFailure> {
    // Nobody listens any more only when this thread is the last one.
    let tell = |step| drop(steps.send(step));
    for name in COPIED {
        let from = data_root.join(name);
        let Ok(meta) = std::fs::symlink_metadata(&from) else { continue };
        let to = place.join(name);
        if !meta.is_dir() {
            tell(Step::Begun(name.to_owned()));
            copy_file(&from, &to)?;
            tell(Step::Done(meta.len()));
            continue;
        }
        make_alike(&from, &to)?;
        for entry in crate::store::names(&from)? {
            tell(Step::Begun(format!("{name}/{}", entry.to_string_lossy())));
            copy_one(&from, &to, &entry)?;
            tell(Step::Done(bytes_of(&to.join(&entry))?));
        }
    }
    Ok(())
}

fn bytes_used(place: &Path) -> Result<u64, IoFailure> {
    let stat = rustix::fs::statvfs(place).at("look at", place)?;
    Ok(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize))
}

/// One layer, snapshot, volume. Trees that a driver can make again are left out.
fn copy_one(from: &Path, to: &Path, name: &OsStr) -> Result<(), IoFailure> {
    let (from, to) = (from.join(name), to.join(name));
    let meta = std::fs::symlink_metadata(&from).at("look at", &from)?;
    if meta.is_symlink() {
        let text = std::fs::read_link(&from).at("read the link", &from)?;
        return std::os::unix::fs::symlink(text, &to).at("copy", &to);
    }
    if !meta.is_dir() {
        return copy_file(&from, &to);
    }
    let tree = from.join(TREE);
    if !tree.exists() || !from.join("recipe").exists() {
        mkdir(&to, 0o700)?;
        let (from, to) = (Root::open(&from).at("open", &from)?, Root::open(&to).at("open", &to)?);
        return copy_tree(&from, Path::new(""), &to, Marks::Keep).map(drop);
    }
    make_alike(&from, &to)?;
    let parts: Vec<OsString> = crate::store::names(&from)?.into_iter().filter(|part| part != TREE).collect();
    parts.iter().try_for_each(|part| copy_one(&from, &to, part))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), IoFailure> {
    let mut source = File::open(from).at("open", from)?;
    let mut target = File::create_new(to).at("create", to)?;
    copy_content(&mut source, &mut target).at("copy", to)?;
    let meta = source.metadata().at("look at", from)?;
    target.set_permissions(meta.permissions()).at("set the mode of", to)
}

fn make_alike(from: &Path, to: &Path) -> Result<(), IoFailure> {
    mkdir(to, 0o700)?;
    let meta = std::fs::metadata(from).at("look at", from)?;
    std::fs::set_permissions(to, meta.permissions()).at("set the mode of", to)
}

fn bytes_of(path: &Path) -> Result<u64, IoFailure> {
    match std::fs::symlink_metadata(path).at("look at", path)? {
        meta if meta.is_dir() => disk_bytes(&Root::open(path).at("open", path)?),
        meta => Ok(meta.len()),
    }
}

/// The old files, which the store file has: after the copy, or after a crash before they were gone.
pub(super) fn remove_what_was_copied(data_root: &Path) -> Result<(), IoFailure> {
    let names = COPIED.iter().chain(&NOT_COPIED);
    let old: Vec<PathBuf> = names.map(|name| data_root.join(name)).filter(|path| path.exists()).collect();
    old.iter().try_for_each(|path| remove_tree(path))
}
