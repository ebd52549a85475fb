//! The first content of a volume: what the image has where it is mounted.

use std::path::Path;

use seacow_spec::ChainId;
use seacow_spec::shim::Rootfs;
use seacow_sys::rooted::Root;

use crate::Store;
use crate::error::{At, IoFailure};
use crate::fsutil::copy::{Marks, copy_tree};
use crate::fsutil::lower::LowerDir;
use crate::fsutil::merged::copy_merged;
use crate::snapshot::SnapshotError;
use crate::store::names;

impl Store {
    /// Copies what an image has at a mount point into an empty volume, with owners, modes and attributes,
    /// those of the top directory too; extents are shared where the file system can. `volume` is where its
    /// data are, `path` the mount point in the image. A volume that has anything in it stays as it is
    /// (false); so does one where the image has no directory.
    ///
    /// # Errors
    /// There is no such image or volume, or the disk failed.
    pub fn populate(
        &self,
        volume: &Path,
        image: Option<&ChainId>,
        path: &Path,
    ) -> Result<bool, SnapshotError> {
        if !names(volume)?.is_empty() {
            return Ok(false);
        }
        let target = Root::open(volume).at("open", volume)?;
        match self.snapshots().view(image)? {
            Rootfs::Directory(tree) => Ok(copy_tree_below(&tree, path, &target)?),
            Rootfs::Overlay { .. } => self.copy_layers(image, path, &target),
        }
    }

    fn copy_layers(
        &self,
        image: Option<&ChainId>,
        path: &Path,
        target: &Root,
    ) -> Result<bool, SnapshotError> {
        let mut lowers = self.layers().lowers(image)?;
        lowers.append(LowerDir::layer(self.shared.layout.init()));
        let Some(base) = lowers.resolve_dir(path).at("look at", path)? else { return Ok(false) };
        Ok(copy_merged(&mut lowers, &base, target)?)
    }
}

fn copy_tree_below(tree: &Path, path: &Path, target: &Root) -> Result<bool, IoFailure> {
    let Ok(source) = Root::open(tree).and_then(|root| root.locate_dir(path)) else { return Ok(false) };
    copy_tree(&Root::from_fd(source), Path::new(""), target, Marks::None)?;
    Ok(true)
}
