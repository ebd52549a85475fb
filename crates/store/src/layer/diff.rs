//! An overlay upper directory becomes a tar in Docker's dialect.
//!
//! The tar depends on nothing but the files: sorted, whole seconds, no names of users, hard links
//! after their first name, deletions as `.wh.` entries. Sockets are left out, as dockerd does.
//! Unlike dockerd's it keeps the user's own attributes and ACLs, so that a layer saved and loaded
//! again is the same layer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags};
use seacow_sys::rooted::Root;
use sha2::{Digest as _, Sha256};

use super::LayerError;
use super::draft::Contents;
use super::recipe::RecipeWriter;
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::walk::{Node, Walk};
use crate::tar::{Head, Kind, Segment, TarOut, TarWriter};

/// Hashes the tar of everything in `upper` and writes its recipe.
pub(super) fn upper_contents(upper: &Path, recipe: RecipeWriter) -> Result<Contents, LayerError> {
    let root = Root::open(upper).at("open", upper)?;
    let out = RecipeOut { recipe, hash: Sha256::new(), buffer: vec![0; BUFFER] };
    let mut tar = TarWriter::new(out);
    let size = write_upper(&root, &mut tar)?;
    let out = tar.finish().at("write the recipe of", upper)?;
    let diff_id = crate::hash::finish(out.hash);
    let tar_size = out.recipe.finish()?;
    Ok(Contents { diff_id, tar_size, size, replaced: Vec::new() })
}

/// Every entry; gives the sum of the files' sizes.
fn write_upper<O: TarOut>(root: &Root, tar: &mut TarWriter<O>) -> Result<u64, IoFailure> {
    let mut size = 0;
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut walk = Walk::new(root, Path::new(""));
    while let Some(node) = walk.next()? {
        if attrs::is_whiteout(&node.stat) {
            tar.head(&whiteout(&node)).at("write the entry of", &node.path)?;
            continue;
        }
        let Some(mut head) = head(&node, name_of(&node))? else { continue };
        if let Some(first) = first_name(&node, &head, &mut links) {
            head.kind = Kind::HardLink;
            head.link = first;
            head.size = 0;
        }
        match head.kind {
            Kind::File => {
                size += head.size;
                let mut file = open(&node)?;
                tar.file(&head, &mut file, &node.path).at("read", &node.path)?;
            }
            _ => tar.head(&head).at("write the entry of", &node.path)?,
        }
        if node.is_dir() && attrs::is_opaque(&node.entry).at("look at", &node.path)? {
            tar.head(&opaque(&head)).at("write the entry of", &node.path)?;
        }
    }
    Ok(size)
}

/// The name under which a file with several was written before.
pub(crate) fn first_name(
    node: &Node,
    head: &Head,
    links: &mut HashMap<(u64, u64), Vec<u8>>,
) -> Option<Vec<u8>> {
    if node.is_dir() || node.stat.st_nlink < 2 {
        return None;
    }
    let key = (node.stat.st_dev, node.stat.st_ino);
    match links.get(&key) {
        Some(first) => Some(first.clone()),
        None => {
            links.insert(key, head.name.clone());
            None
        }
    }
}

/// A node's name in the tar: directories end in a slash.
pub(crate) fn name_of(node: &Node) -> Vec<u8> {
    let mut name = node.path.as_os_str().as_bytes().to_vec();
    if node.is_dir() {
        name.push(b'/');
    }
    name
}

/// A node's header; `None` for a socket.
pub(crate) fn head(node: &Node, name: Vec<u8>) -> Result<Option<Head>, IoFailure> {
    let stat = &node.stat;
    let kind = match node.kind() {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket | FileType::Unknown => return Ok(None),
    };
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let link = match kind {
        Kind::Symlink => {
            let target: PathBuf = node.entry.readlink().at("read the link", &node.path)?;
            target.into_os_string().as_bytes().to_vec()
        }
        _ => Vec::new(),
    };
    Ok(Some(Head {
        name,
        kind,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        mtime: stat.st_mtime,
        link,
        device: if is_device {
            (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
        } else {
            (0, 0)
        },
        xattrs: attrs::xattrs(&node.entry).at("read the attributes of", &node.path)?,
    }))
}

pub(crate) fn open(node: &Node) -> Result<File, IoFailure> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    node.entry.open(flags, Mode::empty()).map(File::from).at("open", &node.path)
}

/// A deleted name, as dockerd writes it.
fn whiteout(node: &Node) -> Head {
    let parent = node.path.parent().unwrap_or(Path::new(""));
    let mut hidden = b".wh.".to_vec();
    hidden.extend_from_slice(node.path.file_name().unwrap_or_default().as_bytes());
    let name = parent.join(super::place::path_of(hidden));
    Head {
        name: name.into_os_string().as_bytes().to_vec(),
        kind: Kind::File,
        mode: 0o600,
        uid: node.stat.st_uid,
        gid: node.stat.st_gid,
        size: 0,
        mtime: node.stat.st_mtime,
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

/// A directory that hides those below, as dockerd writes it: right after the directory itself.
fn opaque(dir: &Head) -> Head {
    Head {
        name: [&dir.name[..], b".wh..wh..opq"].concat(),
        kind: Kind::File,
        mode: dir.mode & 0o777,
        uid: dir.uid,
        gid: dir.gid,
        size: 0,
        mtime: 0,
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

const BUFFER: usize = 128 << 10;

/// Hashes the tar and keeps the recipe; the contents stay where they are.
struct RecipeOut {
    recipe: RecipeWriter,
    hash: Sha256,
    buffer: Vec<u8>,
}

impl TarOut for RecipeOut {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.recipe.raw(bytes)
    }

    fn content(&mut self, file: &mut File, path: &Path, len: u64) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let got = file.read(&mut self.buffer[..want])?;
            if got == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank meanwhile"));
            }
            self.hash.update(&self.buffer[..got]);
            left -= got as u64;
        }
        self.recipe.content(path, &[Segment { offset: 0, len }])
    }
}
