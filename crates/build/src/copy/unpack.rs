//! Tars, plain or packed with gzip, bzip2, xz or zstd: archives of `ADD`.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Mode;

use super::place::make_dir;
use super::select::{MAX_ENTRIES, Meta, Node};
use super::write::{self, READ};
use super::{CopyError, at};
use crate::rooted::{FileType, Root};

/// A tar's unit.
const BLOCK: usize = 512;

/// The bytes of a tar.
pub(super) type Archive<'a> = Box<dyn Read + Send + 'a>;

/// The file as a tar, if it is one: what matters is what is in it, not its name.
pub(super) fn open(from: &Root, path: &Path) -> Result<Option<Archive<'static>>, CopyError> {
    let file: File = from.open_at(path, READ, Mode::empty()).map_err(at("open", path))?.into();
    let mut tar = match seacow_store::unpack(file) {
        Ok(tar) => tar,
        Err(source) => return Err(CopyError::Data { step: "read", path: path.to_owned(), source }),
    };
    let mut block = Vec::with_capacity(BLOCK);
    // Whatever cannot be unpacked is no archive, but a file to be copied.
    let whole = (&mut tar).take(BLOCK as u64).read_to_end(&mut block).is_ok();
    if !whole || !is_header(&block) {
        return Ok(None);
    }
    Ok(Some(Box::new(Cursor::new(block).chain(tar))))
}

/// Whether a block is a tar header: its checksum is right.
fn is_header(block: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    if block.len() != BLOCK {
        return false;
    }
    let digits = block[SUM].iter().skip_while(|b| **b == b' ').take_while(|b| b.is_ascii_digit());
    let stated = digits.fold(0u32, |sum, b| sum.wrapping_mul(8).wrapping_add(u32::from(b & 7)));
    let byte = |(at, b): (usize, &u8)| u32::from(if SUM.contains(&at) { b' ' } else { *b });
    let real: u32 = block.iter().enumerate().map(byte).sum();
    // A block of nothing sums up to eight blanks, and states nothing.
    stated == real
}

/// Unpacks into a directory of the image, with the archive's own owners. The directory plays `/`
/// for the archive's names and links, as in Docker's chroot.
pub(super) fn into(archive: Archive<'_>, dir: OwnedFd, path: &Path) -> Result<(), CopyError> {
    let root = Root::from_fd(dir);
    let mut tar = tar::Archive::new(archive);
    let mut dirs: Vec<(PathBuf, Meta)> = Vec::new();
    let bad = |error: io::Error| CopyError::Archive { path: path.to_owned(), cause: error.to_string() };
    for (index, member) in tar.entries().map_err(bad)?.enumerate() {
        if index >= MAX_ENTRIES {
            return Err(CopyError::TooMany(path.display().to_string()));
        }
        let mut member = member.map_err(bad)?;
        let name = member_path(&member.path().map_err(bad)?, path)?;
        let Some(kind) = kind_of(member.header().entry_type(), &member.path_bytes()) else { continue };
        let meta = meta_of(member.header(), kind);
        if name.as_os_str().is_empty() {
            continue;
        }
        make_dir(&root, name.parent().unwrap_or(Path::new("")), (0, 0))?;
        let entry = root.entry(&name).map_err(at("open", &name))?;
        let link = member.link_name().map_err(bad)?.map(|target| target.into_owned());
        if member.header().entry_type() == tar::EntryType::Link {
            let target = member_path(&link.unwrap_or_default(), path)?;
            let first = root.entry(&target).map_err(at("open", &target))?;
            write::hard_link(&entry, &name, &first)?;
            continue;
        }
        let capability = capability_of(&mut member).map_err(bad)?;
        let node = Node { rel: name, meta, target: link, capability };
        let look = write::Look { owner: (meta.uid, meta.gid), mode: meta.mode };
        write::node(&entry, &node.rel, &node, look, || Ok(&mut member))?;
        if kind == FileType::Directory {
            dirs.push((node.rel, meta));
        }
    }
    for (name, meta) in dirs.iter().rev() {
        let entry = root.entry(name).map_err(at("open", name))?;
        // Something later in the archive may have taken the directory's place.
        if entry.file_type().map_err(at("stat", name))? == Some(FileType::Directory) {
            entry.utimens(&write::times(meta)).map_err(at("set times of", name))?;
        }
    }
    Ok(())
}

/// A name or hard link target, cleaned; one that leads out of the archive is refused.
fn member_path(name: &Path, archive: &Path) -> Result<PathBuf, CopyError> {
    let mut clean = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                if !clean.pop() {
                    let cause = format!("{} leads out of the archive", name.display());
                    return Err(CopyError::Archive { path: archive.to_owned(), cause });
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// `None` for what is no file: global headers, volume labels.
fn kind_of(entry: tar::EntryType, name: &[u8]) -> Option<FileType> {
    use tar::EntryType;
    // Before there was a letter for directories, a trailing slash said so.
    let old_dir = name.ends_with(b"/");
    Some(match entry {
        EntryType::Regular if old_dir => FileType::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Link => {
            FileType::RegularFile
        }
        EntryType::Symlink => FileType::Symlink,
        EntryType::Directory => FileType::Directory,
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        EntryType::Fifo => FileType::Fifo,
        _ => return None,
    })
}

/// Numbers that are missing or malformed count as 0, as with other tars.
fn meta_of(header: &tar::Header, kind: FileType) -> Meta {
    let number = |field: io::Result<u64>| field.unwrap_or(0);
    let id = |field| u32::try_from(number(field)).unwrap_or(0);
    let device = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
    Meta {
        kind,
        mode: header.mode().unwrap_or(0) & 0o7777,
        uid: id(header.uid()),
        gid: id(header.gid()),
        size: 0,
        mtime: i64::try_from(number(header.mtime())).unwrap_or(0),
        mtime_nanos: 0,
        device: (device(header.device_major()), device(header.device_minor())),
        shared: None,
    }
}

/// File capabilities, which a PAX header carries.
fn capability_of<R: Read>(member: &mut tar::Entry<'_, R>) -> io::Result<Option<Vec<u8>>> {
    const KEY: &[u8] = b"SCHILY.xattr.security.capability";
    let Some(headers) = member.pax_extensions()? else { return Ok(None) };
    for header in headers {
        let header = header?;
        if header.key_bytes() == KEY {
            return Ok(Some(header.value_bytes().to_vec()));
        }
    }
    Ok(None)
}
