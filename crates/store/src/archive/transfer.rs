//! Files of one container copied into another one, without an archive between them: where both lie in a
//! store that shares extents, the copies take no room and no time.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use seacow_sys::rooted::Root;

use super::get::is_pseudo;
use super::path::Asked;
use super::{ArchiveError, ContainerRoot, PutOptions};
use crate::error::{At, IoFailure};
use crate::fsutil::walk::{Node, Walk, mount_id};
use crate::layer::{Place, first_name, head, open};
use crate::tar::{Head, Kind, Member};

/// What is copied where.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    /// In the container that has it.
    pub from: &'a Path,
    /// The directory of the other one that gets it.
    pub into: &'a Path,
    /// What it is called there; as it was if absent.
    pub name: Option<&'a [u8]>,
}

impl ContainerRoot {
    /// Copies a file or tree into another container, as if its archive was unpacked there. Bytes of the files.
    ///
    /// # Errors
    /// There is nothing at the path or no such directory, or an entry was refused; what came before it stays.
    pub fn copy_to(
        &self,
        target: &ContainerRoot,
        what: Transfer<'_>,
        options: &PutOptions,
    ) -> Result<u64, ArchiveError> {
        let mut bytes = 0;
        target.as_its_root(what.into, || {
            let asked = Asked::parse(what.from);
            let top = self.top(&asked)?;
            let base = target.directory(what.into)?;
            let name = what.name.unwrap_or(&asked.base);
            let place = target.place(&base, options);
            let mut copy = Copy { from: self, place, links: HashMap::new(), bytes: 0 };
            copy.node(&top, name.to_vec())?;
            if top.is_dir() {
                let root = self.root.locate_dir(&asked.path);
                let root = root.map_err(|errno| Self::missing(&asked.path, errno))?;
                copy.below(&Root::from_fd(root), name)?;
            }
            bytes = copy.bytes;
            copy.place.finish()?;
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// A copy that is being made.
struct Copy<'a> {
    from: &'a ContainerRoot,
    place: Place<'a>,
    links: HashMap<(u64, u64), Vec<u8>>,
    bytes: u64,
}

impl Copy<'_> {
    fn below(&mut self, root: &Root, prefix: &[u8]) -> Result<(), ArchiveError> {
        let own = mount_id(&root.entry(Path::new(".")).at("open", "/")?).at("look at", "/")?;
        let mut walk = Walk::new(root, Path::new(""));
        while let Some(node) = walk.next()? {
            if node.is_dir() && mount_id(&node.entry).is_ok_and(|id| id != own) && is_pseudo(&node) {
                walk.skip();
            }
            let name = [prefix, b"/", node.path.as_os_str().as_bytes()].concat();
            self.node(&node, name)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, name: Vec<u8>) -> Result<(), ArchiveError> {
        let Some(mut head) = head(node, name)? else { return Ok(()) };
        (head.uid, head.gid) = self.from.ids.inside((head.uid, head.gid));
        if let Some(first) = first_name(node, &head, &mut self.links) {
            head.kind = Kind::HardLink;
            head.link = first;
        }
        if head.kind != Kind::File {
            return Ok(self.place.place_empty(&member(head, 0, node))?);
        }
        let mut file = match open(node) {
            Ok(file) => file,
            // Gone since it was listed.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let size = size_of(&file, node)?;
        self.bytes += size;
        Ok(self.place.place_copy(&member(head, size, node), &mut file)?)
    }
}

fn size_of(file: &File, node: &Node) -> Result<u64, IoFailure> {
    let now = rustix::fs::fstat(file).at("look at", &node.path)?;
    if FileType::from_raw_mode(now.st_mode) != FileType::RegularFile {
        return Err(IoFailure::new("read", &node.path, io::Error::other("it was replaced meanwhile")));
    }
    Ok(u64::try_from(now.st_size).unwrap_or(0))
}

fn member(head: Head, size: u64, node: &Node) -> Member {
    Member {
        name: head.name,
        kind: head.kind,
        mode: head.mode & 0o7777,
        uid: head.uid,
        gid: head.gid,
        mtime: (head.mtime, u32::try_from(node.stat.st_mtime_nsec).unwrap_or(0)),
        link: head.link,
        device: head.device,
        xattrs: head.xattrs,
        stored: size,
        sparse: None,
    }
}
