//! The files that a client sends to be built from.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use seacow_store::archive::{ContainerRoot, PutOptions};

use super::BuildFailure;
use crate::Engine;
use crate::pipe::UploadReader;

/// Where contexts are, below the data root: they may be large, and the exec root is memory.
pub(crate) const DIRECTORY: &str = "build";

/// An unpacked context, removed when dropped.
pub(super) struct Files(PathBuf);

impl Files {
    /// Unpacks an upload into a private directory.
    pub(super) fn receive(engine: &Engine, upload: UploadReader) -> Result<Self, BuildFailure> {
        let name = seacow_spec::id::random_hex().map_err(BuildFailure::Directory)?;
        let files = Self(engine.config().data_root.join(DIRECTORY).join(&name[..16]));
        let make = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&files.0).map_err(BuildFailure::Directory)?;
        ContainerRoot::of_directory(&files.0)?.put_tar(Path::new("/"), upload, &PutOptions::default())?;
        Ok(files)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove the build context {}: {error}", self.0.display());
        }
    }
}
