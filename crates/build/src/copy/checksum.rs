//! What a file or a tree is to the cache: name, mode, owner, size, kind, target and bytes, but not
//! the time of its last change (Docker's "tarsum" version 1).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use seacow_spec::id::hex;
use sha2::{Digest as _, Sha256};

use super::select::{Meta, Node, Picked, PickedKind, Source};
use super::{CopyError, at};
use crate::rooted::{FileType, Root};

/// Bytes read at a time.
const CHUNK: usize = 128 << 10;

/// One value for all that a `COPY` names.
pub(crate) fn summary(picked: &[Picked]) -> String {
    match picked {
        [one] => one.hash.clone(),
        many => combined("multi", many.iter().map(|one| one.hash.as_str())),
    }
}

/// One value for several of those.
pub(crate) fn join(summaries: &[String]) -> String {
    match summaries {
        [one] => one.clone(),
        many => combined("multi", many.iter().map(String::as_str)),
    }
}

/// `file:` and the hash of one file, symlinks followed.
pub(super) fn file(source: &Source<'_>, path: &Path, node: &Node) -> Result<String, CopyError> {
    let mut hash = header(path, node);
    if node.meta.kind == FileType::RegularFile {
        let open =
            || source.root.open_at(path, READ, Mode::empty()).map(File::from).map_err(at("open", path));
        hash.update(contents(source, path, open)?);
    }
    Ok(format!("file:{}", finish(hash)))
}

/// A file whose text stands in the Dockerfile.
pub(crate) fn text(name: &str, data: Vec<u8>, mtime: i64) -> Picked {
    let meta = Meta::of_text(data.len() as u64, mtime);
    let node = Node { rel: Path::new("").into(), meta, target: None, capability: None };
    let mut hash = header(Path::new(name), &node);
    hash.update(Sha256::digest(&data));
    let hash = format!("file:{}", finish(hash));
    Picked { path: name.into(), kind: PickedKind::Text(node, data), hash, under: None }
}

/// `dir:` and the hash of the sorted hashes of all that is below.
pub(super) fn tree(source: &Source<'_>, top: &Path, meta: Meta, nodes: &[Node]) -> Result<String, CopyError> {
    let dir = Root::from_fd(source.root.locate_dir(top).map_err(at("open", top))?);
    let mut hashes = Vec::with_capacity(nodes.len() + 1);
    if top != Path::new(".") {
        let own = Node { rel: Path::new("").into(), meta, target: None, capability: None };
        hashes.push(finish(header(top, &own)));
    }
    for node in nodes {
        let path = top.join(&node.rel);
        let mut hash = header(&path, node);
        if node.meta.kind == FileType::RegularFile {
            let open = || {
                let fd = dir.open_without_symlinks(&node.rel, READ, Mode::empty());
                fd.map(File::from).map_err(at("open", &path))
            };
            let known = if top == Path::new(".") { &node.rel } else { &path };
            hash.update(contents(source, known, open)?);
        }
        hashes.push(finish(hash));
    }
    hashes.sort();
    Ok(combined("dir", hashes.iter().map(String::as_str)))
}

/// A fifo that takes the file's place meanwhile must not block us.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn combined<'a>(prefix: &str, hashes: impl Iterator<Item = &'a str>) -> String {
    let joined = hashes.collect::<Vec<_>>().join(",");
    format!("{prefix}:{}", finish(Sha256::new_with_prefix(joined)))
}

fn header(path: &Path, node: &Node) -> Sha256 {
    let meta = &node.meta;
    let mut hash = Sha256::new();
    let mut field = |name: &str, value: &[u8]| {
        hash.update(name);
        hash.update(value);
    };
    field("name", path.as_os_str().as_encoded_bytes());
    field("mode", meta.mode.to_string().as_bytes());
    field("uid", meta.uid.to_string().as_bytes());
    field("gid", meta.gid.to_string().as_bytes());
    field("size", meta.size.to_string().as_bytes());
    field("typeflag", &[type_flag(meta.kind)]);
    let target = node.target.as_deref().unwrap_or(Path::new(""));
    field("linkname", target.as_os_str().as_encoded_bytes());
    field("uname", b"");
    field("gname", b"");
    field("devmajor", meta.device.0.to_string().as_bytes());
    field("devminor", meta.device.1.to_string().as_bytes());
    if let Some(capability) = &node.capability {
        field(super::select::CAPABILITY, capability);
    }
    hash
}

/// The letter of tar headers.
fn type_flag(kind: FileType) -> u8 {
    match kind {
        FileType::Symlink => b'2',
        FileType::CharacterDevice => b'3',
        FileType::BlockDevice => b'4',
        FileType::Directory => b'5',
        FileType::Fifo => b'6',
        FileType::RegularFile | FileType::Socket | FileType::Unknown => b'0',
    }
}

/// The hash of a file's bytes, known or computed.
fn contents(
    source: &Source<'_>,
    path: &Path,
    open: impl FnOnce() -> Result<File, CopyError>,
) -> Result<[u8; 32], CopyError> {
    if let Some(known) = source.digests.and_then(|digests| digests.get(path)) {
        return Ok(*known);
    }
    let mut file = open()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(len) => hash.update(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(CopyError::Data { step: "read", path: path.to_owned(), source }),
        }
    }
}

fn finish(hash: Sha256) -> String {
    hex(&hash.finalize())
}
