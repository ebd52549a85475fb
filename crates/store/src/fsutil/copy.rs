//! Copies trees: shared extents where the file system has them, holes kept, every attribute.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, SeekFrom, Uid};
use seacow_sys::Errno;
use seacow_sys::rooted::{Entry, Root};

use super::attrs;
use super::walk::{Node, Walk};
use crate::error::{At, IoFailure};

/// How [`copy_tree`] treats overlayfs's marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// An upper directory is copied as such.
    Keep,
    /// A plain tree: there are none.
    None,
}

/// How a file's content came into its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The two have the same extents. What was not on the disk was written first.
    Shared,
    /// It was read and written; a sync is needed before it is on the disk.
    Written,
}

/// Copies everything below `from_base` into the existing directory `to`, whose own attributes are
/// set to those of the top. Tells how: [`Content::Written`] if any file's was.
pub(crate) fn copy_tree(
    from: &Root,
    from_base: &Path,
    to: &Root,
    marks: Marks,
) -> Result<Content, IoFailure> {
    let top = from.entry(&from_base.join(".")).at("open", from_base)?;
    let top_attrs = attrs::read(&top).at("look at", from_base)?;
    let mut directories = Vec::new();
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut content = Content::Shared;
    let mut walk = Walk::new(from, from_base);
    while let Some(node) = walk.next()? {
        let target = to.entry(&node.path).at("open the copy's directory of", &node.path)?;
        if copy_node(&node, &target, to, marks, &mut links).at("copy", &node.path)? == Content::Written {
            content = Content::Written;
        }
        if node.is_dir() {
            directories.push((node.path.clone(), attrs::mtime(&node.stat)));
        }
    }
    // Last, because every entry in a directory changes its time.
    for (path, mtime) in directories {
        let entry = to.entry(&path).at("open", &path)?;
        entry.utimens(&attrs::modified(mtime)).at("set the times of", &path)?;
    }
    let top = to.entry(Path::new(".")).at("open", "the copy")?;
    attrs::apply(&top, &top_attrs).at("set the attributes of", "the copy")?;
    Ok(content)
}

pub(crate) fn copy_node(
    node: &Node,
    target: &Entry,
    to: &Root,
    marks: Marks,
    links: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<Content, Errno> {
    let stat = &node.stat;
    if !node.is_dir() && stat.st_nlink > 1 {
        let key = (stat.st_dev, stat.st_ino);
        if let Some(first) = links.get(&key) {
            target.link_from(&to.entry(first)?)?;
            return Ok(Content::Shared);
        }
        links.insert(key, node.path.clone());
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match node.kind() {
        FileType::RegularFile => return copy_regular(node, target, marks),
        FileType::Directory => {
            target.mkdir(Mode::from_raw_mode(0o700))?;
            if marks == Marks::Keep {
                attrs::copy_marks(&node.entry, target)?;
            }
        }
        FileType::Symlink => target.symlink(&node.entry.readlink()?)?,
        kind => {
            let device = stat.st_rdev;
            target.mknod(kind, mode, rustix::fs::major(device), rustix::fs::minor(device))?;
        }
    }
    target.chown(stat.st_uid, stat.st_gid)?;
    if node.kind() != FileType::Symlink {
        target.chmod(mode)?;
    }
    attrs::set_xattrs(target, &attrs::xattrs(&node.entry)?)?;
    target.utimens(&attrs::modified(attrs::mtime(stat)))?;
    Ok(Content::Shared)
}

fn copy_regular(node: &Node, target: &Entry, marks: Marks) -> Result<Content, Errno> {
    // Looked at first: a container that goes on may get the content meanwhile, and then there would be
    // neither that nor the mark.
    let elsewhere = marks == Marks::Keep && attrs::is_metacopy(&node.entry)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut from = File::from(node.entry.open(flags, Mode::empty())?);
    let mut to = File::from(target.create_new(Mode::from_raw_mode(0o600))?);
    // Of such a file it is one hole.
    let content = copy_content(&mut from, &mut to).map_err(errno)?;
    if elsewhere {
        attrs::copy_marks(&node.entry, target)?;
    }
    let stat = &node.stat;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    attrs::set_xattrs_fd(to.as_fd(), &attrs::xattrs(&node.entry)?)?;
    rustix::fs::futimens(&to, &attrs::modified(attrs::mtime(stat)))?;
    Ok(content)
}

/// One ioctl where extents can be shared; else part by part, leaving the holes.
pub(crate) fn copy_content(from: &mut File, to: &mut File) -> io::Result<Content> {
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        return Ok(Content::Shared);
    }
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&*from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole to the end.
            Err(Errno::NXIO) => break,
            // The file system knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(&*from, SeekFrom::Hole(start)).unwrap_or(size).clamp(start, size);
        copy_range(from, to, start, end)?;
        at = end.max(start + 1);
    }
    to.set_len(size)?;
    Ok(Content::Written)
}

fn copy_range(from: &mut File, to: &mut File, start: u64, end: u64) -> io::Result<()> {
    let (mut in_at, mut out_at) = (start, start);
    while in_at < end {
        let want = usize::try_from(end - in_at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(&*from, Some(&mut in_at), &*to, Some(&mut out_at), want) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::IO | Errno::PERM) => {
                from.seek(io::SeekFrom::Start(in_at))?;
                to.seek(io::SeekFrom::Start(out_at))?;
                io::copy(&mut io::Read::take(&*from, end - in_at), to)?;
                return to.flush();
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
