//! The drivers `overlay` and `reflink`: `snapshots/<key>/{upper,work}` over the layers' directories.
//!
//! They are the same but for the file system below: where it shares extents, overlayfs copies a file
//! up without its data, and 4 KiB written into a file of a gigabyte take 4 KiB. Which of the two it
//! is, is told to the user and asked about at open; the snapshots are the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use seacow_spec::ChainId;
use seacow_spec::shim::{Lower, OverlayUpper, Rootfs};
use seacow_sys::rooted::Root;

use super::driver::DriverKind;
use super::shelf::Shelf;
use super::{
    Change, PrepareOptions, SnapshotDriver, SnapshotError, SnapshotInfo, SnapshotKey, Usage, changes, init,
    resolve, usage,
};
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::copy::{Marks, copy_tree};
use crate::fsutil::lower::{LowerDir, Lowers};
use crate::layer::{Layer, LayerKind, Layers, UpperMode};
use crate::shared::Shared;

/// The overlay driver.
#[derive(Debug)]
pub(super) struct OverlayDriver {
    pub(super) shelf: Shelf,
    kind: Kind,
}

/// What it is on this data root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// By which of its names.
    pub(super) kind: DriverKind,
    /// Extents are shared.
    pub(super) shares: bool,
    /// New snapshots leave content below that was not written to.
    pub(super) metacopy: bool,
}

impl OverlayDriver {
    pub(super) fn open(shared: Arc<Shared>, layers: Layers, kind: Kind) -> Result<Self, SnapshotError> {
        init::make(&shared.layout.init())?;
        Ok(Self { shelf: Shelf::open(shared, layers)?, kind })
    }

    pub(super) fn upper(&self, key: &SnapshotKey) -> PathBuf {
        self.shelf.dir(key).join("upper")
    }

    /// Topmost first, `init` at the bottom.
    fn lowers(&self, parent: Option<&ChainId>) -> Result<Vec<Lower>, SnapshotError> {
        let layout = &self.shelf.shared.layout;
        let stack = parent.map(|parent| self.shelf.layers.stack(parent)).transpose()?.unwrap_or_default();
        let mut lowers = Vec::with_capacity(stack.len() + 1);
        for layer in stack {
            lowers.push(match layer.kind {
                LayerKind::Files => Lower::Dir(layout.layer_fs(&layer.chain_id)),
                LayerKind::Host => {
                    let (mask, root) =
                        crate::host::view_of(layout).map_err(crate::layer::LayerError::from)?;
                    Lower::HostView { mask, root }
                }
            });
        }
        lowers.push(Lower::Dir(layout.init()));
        Ok(lowers)
    }

    fn rootfs(&self, key: &SnapshotKey, info: &SnapshotInfo) -> Result<Rootfs, SnapshotError> {
        let dir = self.shelf.dir(key);
        Ok(Rootfs::Overlay {
            lowers: self.lowers(info.parent.as_ref())?,
            upper: Some(OverlayUpper {
                upper: dir.join("upper"),
                work: dir.join("work"),
                volatile: info.volatile,
                metacopy: info.metacopy,
            }),
        })
    }

    /// The layers below as directories, for looking at without mounting.
    pub(super) fn merged(&self, info: &SnapshotInfo) -> Result<Lowers, SnapshotError> {
        let lowers = self.shelf.layers.lowers(info.parent.as_ref())?;
        let mut roots = lowers.roots().to_vec();
        roots.push(LowerDir::layer(self.shelf.shared.layout.init()));
        Ok(Lowers::new(roots))
    }

    /// Directories that are nobody's snapshot yet.
    pub(super) fn make_dirs(&self, dir: &Path) -> Result<(), IoFailure> {
        let upper = dir.join("upper");
        self.shelf.shared.disk.mkdir(&upper)?;
        if self.kind.shares {
            // Overlayfs notes it with the first file that it copies up: a tenth of what that takes here.
            attrs::set_impure(&upper).at("mark", &upper)?;
        }
        self.shelf.shared.disk.mkdir(&dir.join("work"))
    }

    /// A copy of an upper directory that is understood without the layers below.
    pub(super) fn copy_resolved(
        &self,
        info: &SnapshotInfo,
        upper: &Path,
        to: &Path,
    ) -> Result<PathBuf, SnapshotError> {
        crate::layout::mkdir(to, 0o700)?;
        let (from, copy) = (Root::open(upper).at("open", upper)?, Root::open(to).at("open", to)?);
        copy_tree(&from, Path::new(""), &copy, Marks::Keep)?;
        resolve::resolve(to, self.merged(info)?, &self.shelf.shared.disk)?;
        Ok(to.to_owned())
    }

    /// Overlayfs shows the upper directory's own attributes as the root's.
    pub(super) fn copy_root_look(&self, info: &SnapshotInfo, upper: &Path) -> Result<(), IoFailure> {
        let (mut mode, mut owner) = (0o755, (0, 0));
        if let Some(parent) = &info.parent {
            let top = self.shelf.shared.layout.layer_fs(parent);
            let top = if top.exists() { top } else { PathBuf::from("/") };
            let stat = rustix::fs::stat(&top).at("look at", &top)?;
            (mode, owner) = (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid));
        }
        rustix::fs::chmod(upper, Mode::from_raw_mode(mode)).at("set the mode of", upper)?;
        if owner != (0, 0) || !rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(upper, Some(owner.0), Some(owner.1)).at("set the owner of", upper)?;
        }
        Ok(())
    }
}

impl OverlayDriver {
    /// Whether extents are shared.
    pub(super) fn shares(&self) -> bool {
        self.kind.shares
    }

    fn make(
        &self,
        key: &SnapshotKey,
        mut info: SnapshotInfo,
        limit: Option<u64>,
    ) -> Result<Rootfs, SnapshotError> {
        let pin = self.shelf.pin(info.parent.as_ref())?;
        let mut rootfs = self.rootfs(key, &info)?;
        if let Rootfs::Overlay { lowers, upper: Some(upper) } = &mut rootfs
            && lowers.iter().any(|lower| matches!(lower, Lower::HostView { .. }))
        {
            // What is below changes with the machine: a file's content must not be left there.
            (info.metacopy, upper.metacopy) = (false, false);
        }
        self.shelf.prepare(
            key,
            &info,
            limit,
            pin,
            |dir| self.make_dirs(dir),
            |dir| self.copy_root_look(&info, &dir.join("upper")),
        )?;
        Ok(rootfs)
    }
}

impl SnapshotDriver for OverlayDriver {
    fn kind(&self) -> DriverKind {
        self.kind.kind
    }

    fn status(&self) -> Vec<[String; 2]> {
        let copied_up = if self.kind.shares { "extents shared" } else { "whole files" };
        [
            ("Supports d_type", "true"),
            ("Using metacopy", if self.kind.metacopy { "true" } else { "false" }),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
            ("Copies", copied_up),
        ]
        .map(|(name, value)| [name.to_owned(), value.to_owned()])
        .into()
    }

    fn prepare(
        &self,
        key: &SnapshotKey,
        parent: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError> {
        self.make(key, self.shelf.info_of(parent, parent, options, self.kind.metacopy), options.size)
    }

    fn branch(
        &self,
        key: &SnapshotKey,
        from: &ChainId,
        base: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError> {
        self.make(key, self.shelf.info_of(Some(from), base, options, self.kind.metacopy), options.size)
    }

    fn reserve(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.shelf.reserve(key, |dir| self.make_dirs(dir))
    }

    fn get(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        let info = self.info(key)?;
        if info.volatile {
            // Overlayfs leaves a mark that forbids a second mount: after a crash of the machine the
            // files may be torn. The machine did not crash, or the container would be gone.
            let mark = self.shelf.dir(key).join("work/work/incompat/volatile");
            if mark.exists() {
                crate::layout::remove_tree(&mark)?;
            }
        }
        self.rootfs(key, &info)
    }

    fn look(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        self.rootfs(key, &self.info(key)?)
    }

    fn view(&self, parent: Option<&ChainId>) -> Result<Rootfs, SnapshotError> {
        let lowers = self.lowers(parent)?;
        // Overlayfs wants two layers where there is no upper one.
        match lowers.as_slice() {
            [Lower::Dir(only)] => Ok(Rootfs::Directory(only.clone())),
            _ => Ok(Rootfs::Overlay { lowers, upper: None }),
        }
    }

    fn info(&self, key: &SnapshotKey) -> Result<SnapshotInfo, SnapshotError> {
        self.shelf.info(key)
    }

    fn remove(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.shelf.remove(key)
    }

    fn list(&self) -> Result<Vec<SnapshotKey>, SnapshotError> {
        self.shelf.list()
    }

    fn changes(&self, key: &SnapshotKey) -> Result<Vec<Change>, SnapshotError> {
        Ok(changes::told(self.kinds(key)?))
    }

    fn usage(&self, key: &SnapshotKey) -> Result<Usage, SnapshotError> {
        let info = self.info(key)?;
        Ok(usage::usage(&self.upper(key), &mut self.merged(&info)?, self.kind.shares)?)
    }

    fn freeze(&self, key: &SnapshotKey, mode: UpperMode) -> Result<Layer, SnapshotError> {
        self.freeze_upper(key, mode)
    }

    fn reset(&self, key: &SnapshotKey, to: &ChainId) -> Result<(), SnapshotError> {
        self.begin_again(key, to)
    }

    fn frozen_usage(&self, layer: &ChainId) -> Result<Usage, SnapshotError> {
        self.usage_of_layer(layer)
    }

    fn commit(&self, key: &SnapshotKey, mode: UpperMode) -> Result<Layer, SnapshotError> {
        let info = self.info(key)?;
        let (parent, upper) = (info.parent.as_ref(), self.upper(key));
        if !info.metacopy {
            return Ok(self.shelf.layers.commit_upper(parent, &upper, mode)?);
        }
        // A layer stands for itself.
        if mode == UpperMode::Move {
            resolve::resolve(&upper, self.merged(&info)?, &self.shelf.shared.disk)?;
            return Ok(self.shelf.layers.commit_upper(parent, &upper, mode)?);
        }
        let draft = self.shelf.shared.layout.new_draft()?;
        let made = self
            .copy_resolved(&info, &upper, &draft.join("upper"))
            .and_then(|copy| Ok(self.shelf.layers.commit_upper(parent, &copy, UpperMode::Move)?));
        // What cannot be removed now is removed at the next open.
        let _ = self.shelf.shared.discard(&draft);
        made
    }
}
