//! Differences as an upper directory, from which a layer is made as everywhere else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use seacow_sys::Errno;
use seacow_sys::rooted::Root;

use super::changes::Differences;
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::copy::{Marks, copy_node};
use crate::fsutil::walk::Node;
use crate::layout::mkdir;
use crate::snapshot::ChangeKind;

/// Writes the new directory `upper`, in overlayfs's form: what is deleted becomes a whiteout, what is
/// changed or new a copy. Sockets are left out, as everywhere in layers.
pub(super) fn collect(root: &Path, differences: Differences, upper: &Path) -> Result<(), IoFailure> {
    mkdir(upper, 0o755)?;
    let from = Root::open(root).at("open", root)?;
    let to = Root::open(upper).at("open", upper)?;
    let mut made = Collection { from: &from, to: &to, directories: Vec::new(), links: HashMap::new() };
    for (path, kind) in differences.into_kinds() {
        match made.take(&path, kind) {
            // A container that goes on has removed it since it was compared.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            taken => taken.at("take", &path)?,
        }
    }
    made.finish()
}

struct Collection<'a> {
    from: &'a Root,
    to: &'a Root,
    /// All that were made, for their times.
    directories: Vec<PathBuf>,
    links: HashMap<(u64, u64), PathBuf>,
}

impl Collection<'_> {
    fn take(&mut self, path: &Path, kind: ChangeKind) -> Result<(), Errno> {
        if let Some(parent) = path.parent() {
            self.have_directory(parent)?;
        }
        match kind {
            ChangeKind::Deleted => {
                let whiteout = self.to.entry(path)?;
                attrs::make_whiteout(&whiteout)?;
                // The same time whenever it is collected, so that it is the same layer.
                let dir = self.from.stat(path.parent().unwrap_or(Path::new("")))?;
                whiteout.utimens(&attrs::modified(attrs::mtime(&dir)))
            }
            ChangeKind::Added | ChangeKind::Modified => self.copy(path),
        }
    }

    /// The directory with all above it, looking as in the container.
    fn have_directory(&mut self, path: &Path) -> Result<(), Errno> {
        if path.as_os_str().is_empty() || self.to.entry(path)?.file_type()?.is_some() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.have_directory(parent)?;
        }
        self.copy(path)
    }

    fn copy(&mut self, path: &Path) -> Result<(), Errno> {
        let entry = self.from.entry(path)?;
        let stat = entry.stat()?;
        let node = Node { path: path.to_owned(), entry, stat };
        if node.kind() == FileType::Socket || attrs::is_whiteout(&node.stat) {
            return Ok(());
        }
        let target = self.to.entry(path)?;
        if node.is_dir() {
            if target.file_type()?.is_some() {
                return Ok(());
            }
            self.directories.push(path.to_owned());
        }
        copy_node(&node, &target, self.to, Marks::None, &mut self.links).map(drop)
    }

    /// Times last, because every entry in a directory changes its time.
    fn finish(self) -> Result<(), IoFailure> {
        for path in self.directories.iter().rev() {
            let stat = self.from.stat(path).at("look at", path)?;
            let entry = self.to.entry(path).at("open", path)?;
            entry.utimens(&attrs::modified(attrs::mtime(&stat))).at("set the times of", path)?;
        }
        let top = self.from.stat(Path::new(".")).at("look at", "the root")?;
        let entry = self.to.entry(Path::new(".")).at("open", "the copy")?;
        entry.chmod(Mode::from_raw_mode(top.st_mode & 0o7777)).at("set the mode of", "the copy")
    }
}
