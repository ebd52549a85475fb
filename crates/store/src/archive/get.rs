//! `GET /containers/{id}/archive`: a file or tree as a tar.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use seacow_sys::rooted::Root;

use super::path::Asked;
use super::{ArchiveError, ContainerRoot};
use crate::error::{At, IoFailure};
use crate::fsutil::ids::Ids;
use crate::fsutil::walk::{Node, Walk, mount_id};
use crate::layer::{first_name, head, open};
use crate::tar::{Kind, TarWriter};

impl ContainerRoot {
    /// Writes what is at a path as a tar in Docker's dialect. A directory comes with everything in
    /// it, mounts too; a symlink at the end of the path comes as itself.
    ///
    /// # Errors
    /// There is nothing at the path, or it could not be read or written.
    pub fn get_tar(&self, path: &Path, out: &mut dyn Write) -> Result<(), ArchiveError> {
        let asked = Asked::parse(path);
        let top = self.top(&asked)?;
        let mut tree = Tree { tar: TarWriter::new(out), links: HashMap::new(), ids: &self.ids };
        if top.is_dir() {
            tree.node(&top, directory_name(&asked.base))?;
            let root =
                self.root.locate_dir(&asked.path).map_err(|errno| Self::missing(&asked.path, errno))?;
            tree.below(&Root::from_fd(root), &prefix(&asked.base))?;
        } else {
            tree.node(&top, asked.base.clone())?;
        }
        tree.tar.finish().and_then(|out| out.flush()).map_err(ArchiveError::Output)
    }

    /// What is at a path: a symlink only where it is not to be followed.
    pub(super) fn top(&self, asked: &Asked) -> Result<Node, ArchiveError> {
        let stat = self.stat_of(asked)?;
        let entry = if asked.follow {
            let found = self.root.locate(&asked.path).map_err(|errno| Self::missing(&asked.path, errno))?;
            let real = crate::fsutil::real_path(&self.root, found.as_fd());
            real.and_then(|real| self.root.entry(&real))
        } else {
            self.root.entry(&asked.path)
        };
        let entry = entry.map_err(|errno| Self::missing(&asked.path, errno))?;
        Ok(Node { path: PathBuf::new(), entry, stat })
    }
}

/// Whether a directory is on a file system of the kernel's own making, whose files are no files:
/// nobody who copies a tree means those, unless they ask for them.
pub(super) fn is_pseudo(node: &Node) -> bool {
    const PSEUDO: [u64; 11] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6165_676c, // pstore
    ];
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    node.entry
        .open(flags, Mode::empty())
        .and_then(rustix::fs::fstatfs)
        .is_ok_and(|stat| PSEUDO.contains(&(stat.f_type as u64 & 0xffff_ffff)))
}

/// The top directory's own name: `/` stays.
fn directory_name(base: &[u8]) -> Vec<u8> {
    if base == b"/" { base.to_vec() } else { [base, b"/"].concat() }
}

/// What stands before the names below: nothing but a slash for the root.
fn prefix(base: &[u8]) -> Vec<u8> {
    if base == b"/" { Vec::new() } else { base.to_vec() }
}

/// A tar of nodes, hard links after their first name.
pub(super) struct Tree<'a> {
    pub(super) tar: TarWriter<&'a mut dyn Write>,
    pub(super) links: HashMap<(u64, u64), Vec<u8>>,
    pub(super) ids: &'a Ids,
}

impl Tree<'_> {
    fn below(&mut self, root: &Root, prefix: &[u8]) -> Result<(), ArchiveError> {
        let own = mount_id(&root.entry(Path::new(".")).at("open", "/")?).at("look at", "/")?;
        let mut walk = Walk::new(root, Path::new(""));
        while let Some(node) = walk.next()? {
            if node.is_dir() && mount_id(&node.entry).is_ok_and(|id| id != own) && is_pseudo(&node) {
                walk.skip();
            }
            let mut name = [prefix, b"/", node.path.as_os_str().as_bytes()].concat();
            if node.is_dir() {
                name.push(b'/');
            }
            self.node(&node, name)?;
        }
        Ok(())
    }

    pub(super) fn node(&mut self, node: &Node, name: Vec<u8>) -> Result<(), ArchiveError> {
        let Some(mut head) = head(node, name)? else { return Ok(()) };
        (head.uid, head.gid) = self.ids.inside((head.uid, head.gid));
        // dockerd's dialect has no other attribute.
        head.xattrs.retain(|(name, _)| name == b"security.capability");
        if let Some(first) = first_name(node, &head, &mut self.links) {
            head.kind = Kind::HardLink;
            head.link = first;
            head.size = 0;
        }
        if head.kind != Kind::File {
            return self.tar.head(&head).map_err(ArchiveError::Output);
        }
        let mut file = match open(node) {
            Ok(file) => file,
            // Gone since it was listed.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now = rustix::fs::fstat(&file).at("look at", &node.path)?;
        if rustix::fs::FileType::from_raw_mode(now.st_mode) != rustix::fs::FileType::RegularFile {
            let reason = io::Error::other("it was replaced meanwhile");
            return Err(IoFailure::new("read", &node.path, reason).into());
        }
        head.size = u64::try_from(now.st_size).unwrap_or(0);
        self.tar.file(&head, &mut file, &node.path).map_err(ArchiveError::Output)
    }
}
