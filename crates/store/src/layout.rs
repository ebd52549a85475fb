//! Where everything lies below the data root.
//!
//! ```text
//! <data root>/
//!   lock              held by the one daemon that may use it; its pid inside
//!   meta.redb         the truth: what is not named there is garbage
//!   layers/<hex>/     fs/  recipe  [moves]  [extra/]  [tree/]
//!   blobs/<hex>       packed layers as registries have them; <hex>.part: the beginning of one
//!   drafts/<random>/  layers and archives in the making; emptied at open
//!   snapshots/<key>/  upper/  work/, or root/; parent (a symlink's text)
//!   volumes/<name>/   _data/
//!   init/             bottom of every container: mount points that an image may lack
//!   trash/<random>/   renamed away, being removed
//! <exec root>/
//!   host-mask/        what the host image hides (where the exec root is not on the root's file system)
//!   mnt/{root,host}   mount points in private namespaces
//! ```

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use seacow_spec::ChainId;

use crate::error::{At, IoFailure};

/// In a snapshot's directory, its whole tree.
pub(crate) const ROOT: &str = "root";
/// In a layer's directory, the layer with all below it as one plain tree.
pub(crate) const TREE: &str = "tree";

/// In a volume's directory, what containers get.
pub(crate) const DATA: &str = "_data";

/// The paths.
#[derive(Debug)]
pub(crate) struct Layout {
    data: PathBuf,
    exec: PathBuf,
}

impl Layout {
    /// Makes the directories that are always there.
    pub(crate) fn create(data: PathBuf, exec: PathBuf) -> Result<Self, IoFailure> {
        let layout = Self { data, exec };
        // Nobody else may pass: set-id programs of containers would run for them (CVE-2021-41091).
        mkdir(&layout.data, 0o710)?;
        mkdir(&layout.exec, 0o711)?;
        let private = [
            layout.layers(),
            layout.blobs(),
            layout.drafts(),
            layout.snapshots(),
            layout.volumes(),
            layout.trash(),
        ];
        for private in private {
            mkdir(&private, 0o700)?;
            // A data root that is older, or was made by hand.
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&private, mode).at("set the mode of", &private)?;
        }
        for mount_point in ["root", "host"] {
            mkdir(&layout.mnt().join(mount_point), 0o700)?;
        }
        Ok(layout)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn exec(&self) -> &Path {
        &self.exec
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.data.join("meta.redb")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    pub(crate) fn layer(&self, chain: &ChainId) -> PathBuf {
        self.layers().join(chain.hex())
    }

    pub(crate) fn layer_fs(&self, chain: &ChainId) -> PathBuf {
        self.layer(chain).join("fs")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.data.join("blobs")
    }

    pub(crate) fn drafts(&self) -> PathBuf {
        self.data.join("drafts")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.data.join("snapshots")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    pub(crate) fn init(&self) -> PathBuf {
        self.data.join("init")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.data.join("trash")
    }

    pub(crate) fn mnt(&self) -> PathBuf {
        self.exec.join("mnt")
    }

    /// A new private directory below `drafts`.
    pub(crate) fn new_draft(&self) -> Result<PathBuf, IoFailure> {
        let path = self.drafts().join(random()?);
        std::fs::DirBuilder::new().mode(0o700).create(&path).at("make directory", &path)?;
        Ok(path)
    }

    /// Moves something out of sight, and says where; `None` when there is nothing of that name.
    pub(crate) fn hide(&self, path: &Path) -> Result<Option<PathBuf>, IoFailure> {
        let hidden = self.trash().join(random()?);
        match std::fs::rename(path, &hidden) {
            Ok(()) => Ok(Some(hidden)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IoFailure::new("move to the trash", path, error)),
        }
    }
}

/// Removes a directory with everything in it; not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), IoFailure> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    // As a whole where the file system can; one that holds another, made by a container, is emptied.
    for whole in [ROOT, TREE, DATA] {
        destroy_subvolume(path, std::ffi::OsStr::new(whole));
    }
    destroy_subvolume(parent, name);
    if !path.exists() {
        return Ok(());
    }
    let root = seacow_sys::rooted::Root::open(parent).at("open", parent)?;
    seacow_sys::rooted::remove_tree(std::os::fd::AsFd::as_fd(&root), name).at("remove", path)
}

fn destroy_subvolume(dir: &Path, name: &std::ffi::OsStr) {
    use seacow_sys::btrfs;
    let Ok(dir) = std::fs::File::open(dir) else { return };
    let dir = std::os::fd::AsFd::as_fd(&dir);
    if btrfs::is_subvolume(dir, name).unwrap_or(false) {
        // What is left is removed file by file, which reports why that fails.
        let _ = btrfs::destroy(dir, name);
    }
}

pub(crate) fn mkdir(path: &Path, mode: u32) -> Result<(), IoFailure> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).at("make directory", path)
}

/// A name nobody else has.
pub(crate) fn random() -> Result<String, IoFailure> {
    let hex = seacow_spec::id::random_hex().at("draw random numbers for", "a name")?;
    Ok(hex[..24].to_owned())
}
