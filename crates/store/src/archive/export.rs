//! `docker export`: the whole root, without what is mounted in it.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;

use super::get::Tree;
use super::{ArchiveError, ContainerRoot};
use crate::error::At;
use crate::fsutil::walk::{Node, Walk, mount_id};
use crate::layer::head;
use crate::tar::TarWriter;

impl ContainerRoot {
    /// Writes the container's own files as a tar in Docker's dialect. Of mounts (`/proc`, volumes,
    /// `/etc/hosts`) only the mount points are in it, as empty directories and files.
    ///
    /// # Errors
    /// A file could not be read, or the archive not be written.
    pub fn export(&self, out: &mut dyn Write) -> Result<(), ArchiveError> {
        let top = self.root.entry(Path::new(".")).at("open", "/")?;
        let own = mount_id(&top).at("look at", "/")?;
        let mut tree = Tree { tar: TarWriter::new(out), links: HashMap::new(), ids: &self.ids };
        let mut walk = Walk::new(&self.root, Path::new(""));
        while let Some(node) = walk.next()? {
            let mut name = node.path.as_os_str().as_bytes().to_vec();
            if node.is_dir() {
                name.push(b'/');
            }
            // What can have no mount on it needs no looking.
            let is_mount = !matches!(node.kind(), FileType::Symlink)
                && mount_id(&node.entry).is_ok_and(|mount| mount != own);
            if !is_mount {
                tree.node(&node, name)?;
                continue;
            }
            mount_point(&mut tree, &node, name)?;
            if node.is_dir() {
                walk.skip();
            }
        }
        tree.tar.finish().and_then(|out| out.flush()).map_err(ArchiveError::Output)
    }
}

/// What was there before something was mounted: an empty directory, or an empty file.
fn mount_point(tree: &mut Tree<'_>, node: &Node, name: Vec<u8>) -> Result<(), ArchiveError> {
    let Some(mut head) = head(node, name)? else { return Ok(()) };
    head.xattrs.clear();
    head.size = 0;
    (head.uid, head.gid) = (0, 0);
    if node.is_dir() {
        head.mode = 0o040_755;
    } else {
        head.kind = crate::tar::Kind::File;
        head.mode = 0o100_644;
        head.device = (0, 0);
    }
    tree.tar.head(&head).map_err(ArchiveError::Output)
}
