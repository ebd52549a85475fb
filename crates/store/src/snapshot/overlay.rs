//! The overlay driver: `snapshots/<key>/{upper,work}` over the layers' directories.
//!
//! `parent` beside them is a symlink whose text describes the snapshot, `<chain or scratch>` and
//! `+volatile`: one system call writes it whole, and the file system journals it with the
//! directories. The chain is in base64, 43 characters: a text of up to 59 lies in ext4's inode, a
//! longer one takes a block of its own, to be allocated and freed.
//!
//! Below all layers lies `init`, shared by all containers: the mount points that an image may lack
//! (`/proc`, `/etc/hosts`, …). An image's own files hide it, and containers never write to it, so
//! it costs nothing and shows up in no diff.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Mode;
use seacow_spec::ChainId;
use seacow_spec::shim::{Lower, OverlayUpper, Rootfs};

use super::{
    Change, PrepareOptions, SnapshotDriver, SnapshotError, SnapshotInfo, SnapshotKey, Usage, changes, usage,
};
use crate::error::{At, IoFailure};
use crate::fsutil::attrs;
use crate::fsutil::lower::{LowerDir, Lowers};
use crate::hash::base64;
use crate::layer::{Layer, LayerKind, Layers, UpperMode};
use crate::layout::mkdir;
use crate::shared::Shared;

const DESCRIPTION: &str = "parent";
const SCRATCH: &str = "scratch";
const VOLATILE: &str = "+volatile";

/// The overlay driver.
#[derive(Debug)]
pub struct OverlayDriver {
    shared: Arc<Shared>,
    layers: Layers,
    /// Keeps the parents of all snapshots.
    pins: Mutex<HashMap<SnapshotKey, Option<Layer>>>,
    /// Directories that wait for their parent.
    reserved: Mutex<HashSet<SnapshotKey>>,
}

impl OverlayDriver {
    /// Finds the snapshots that are there and pins their layers.
    pub(crate) fn open(shared: Arc<Shared>, layers: Layers) -> Result<Self, SnapshotError> {
        make_init(&shared.layout.init())?;
        let driver = Self { shared, layers, pins: Mutex::default(), reserved: Mutex::default() };
        for key in driver.list()? {
            // One without description or layer was never whole; it goes with the first `retain`.
            let Ok(info) = driver.info(&key) else { continue };
            let pin = info.parent.as_ref().map(|parent| driver.layers.pin(parent)).transpose();
            if let Ok(pin) = pin {
                driver.pins().insert(key, pin);
            }
        }
        Ok(driver)
    }

    fn pins(&self) -> MutexGuard<'_, HashMap<SnapshotKey, Option<Layer>>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, key: &SnapshotKey) -> PathBuf {
        self.shared.layout.snapshots().join(key.as_str())
    }

    fn upper(&self, key: &SnapshotKey) -> PathBuf {
        self.dir(key).join("upper")
    }

    /// Topmost first, `init` at the bottom.
    fn lowers(&self, parent: Option<&ChainId>) -> Result<Vec<Lower>, SnapshotError> {
        let stack = parent.map(|parent| self.layers.stack(parent)).transpose()?.unwrap_or_default();
        let mut lowers = Vec::with_capacity(stack.len() + 1);
        for layer in stack {
            lowers.push(match layer.kind {
                LayerKind::Files => Lower::Dir(self.shared.layout.layer_fs(&layer.chain_id)),
                LayerKind::Host => {
                    let (mask, root) =
                        crate::host::view_of(&self.shared.layout).map_err(crate::layer::LayerError::from)?;
                    Lower::HostView { mask, root }
                }
            });
        }
        lowers.push(Lower::Dir(self.shared.layout.init()));
        Ok(lowers)
    }

    fn rootfs(&self, key: &SnapshotKey, info: &SnapshotInfo) -> Result<Rootfs, SnapshotError> {
        let dir = self.dir(key);
        Ok(Rootfs::Overlay {
            lowers: self.lowers(info.parent.as_ref())?,
            upper: Some(OverlayUpper {
                upper: dir.join("upper"),
                work: dir.join("work"),
                volatile: info.volatile,
            }),
        })
    }

    /// The layers below as directories, for looking at without mounting.
    fn merged(&self, info: &SnapshotInfo) -> Result<Lowers, SnapshotError> {
        let lowers = self.layers.lowers(info.parent.as_ref())?;
        let mut roots = lowers.roots().to_vec();
        roots.push(LowerDir::layer(self.shared.layout.init()));
        Ok(Lowers::new(roots))
    }

    fn reserved(&self) -> MutexGuard<'_, HashSet<SnapshotKey>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole snapshot, or what is missing of a reserved one.
    fn make(&self, key: &SnapshotKey, info: &SnapshotInfo) -> Result<(), SnapshotError> {
        if !self.reserved().remove(key) {
            self.make_dirs(key)?;
        }
        self.complete(key, |dir| self.describe(dir, info))
    }

    /// Directories that are nobody's snapshot yet.
    fn make_dirs(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        let dir = self.dir(key);
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(SnapshotError::Exists(key.clone()));
            }
            done => done.at("make directory", &dir)?,
        }
        self.complete(key, |dir| {
            self.shared.disk.mkdir(&dir.join("upper"))?;
            self.shared.disk.mkdir(&dir.join("work"))
        })
    }

    /// Takes the next step towards a snapshot, or everything back.
    fn complete(
        &self,
        key: &SnapshotKey,
        step: impl FnOnce(&Path) -> Result<(), IoFailure>,
    ) -> Result<(), SnapshotError> {
        let dir = self.dir(key);
        let made = step(&dir);
        if made.is_err() {
            // What stays is found by `retain`.
            let _ = self.shared.discard(&dir);
        }
        Ok(made?)
    }

    fn describe(&self, dir: &Path, info: &SnapshotInfo) -> Result<(), IoFailure> {
        self.copy_root_look(info, &dir.join("upper"))?;
        let parent =
            info.parent.as_ref().map_or_else(|| SCRATCH.to_owned(), |chain| base64::encode(&chain.0));
        let text = format!("{parent}{}", if info.volatile { VOLATILE } else { "" });
        // The last step: without it there is no snapshot.
        std::os::unix::fs::symlink(text, dir.join(DESCRIPTION)).at("describe", dir)
    }

    /// Overlayfs shows the upper directory's own attributes as the root's.
    fn copy_root_look(&self, info: &SnapshotInfo, upper: &Path) -> Result<(), IoFailure> {
        let (mut mode, mut owner) = (0o755, (0, 0));
        if let Some(parent) = &info.parent {
            let top = self.shared.layout.layer_fs(parent);
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

impl SnapshotDriver for OverlayDriver {
    fn name(&self) -> &'static str {
        "overlay2"
    }

    fn prepare(
        &self,
        key: &SnapshotKey,
        parent: Option<&ChainId>,
        options: &PrepareOptions,
    ) -> Result<Rootfs, SnapshotError> {
        let pin = parent.map(|parent| self.layers.pin(parent)).transpose()?;
        let info = SnapshotInfo { parent: parent.cloned(), volatile: options.volatile };
        let rootfs = self.rootfs(key, &info)?;
        self.make(key, &info)?;
        self.pins().insert(key.clone(), pin);
        Ok(rootfs)
    }

    fn reserve(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.make_dirs(key)?;
        self.reserved().insert(key.clone());
        Ok(())
    }

    fn get(&self, key: &SnapshotKey) -> Result<Rootfs, SnapshotError> {
        let info = self.info(key)?;
        if info.volatile {
            // Overlayfs leaves a mark that forbids a second mount: after a crash of the machine the
            // files may be torn. The machine did not crash, or the container would be gone.
            let mark = self.dir(key).join("work/work/incompat/volatile");
            if mark.exists() {
                crate::layout::remove_tree(&mark)?;
            }
        }
        self.rootfs(key, &info)
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
        let text = match std::fs::read_link(self.dir(key).join(DESCRIPTION)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SnapshotError::NotFound(key.clone()));
            }
            text => text.at("read the description of", self.dir(key))?,
        };
        let text = text.to_string_lossy();
        let (parent, volatile) = match text.strip_suffix(VOLATILE) {
            Some(parent) => (parent, true),
            None => (&*text, false),
        };
        let damaged =
            || SnapshotError::Damaged { key: key.clone(), reason: format!("described as {text:?}") };
        let parent = match parent {
            SCRATCH => None,
            chain => Some(ChainId(base64::decode(chain).ok_or_else(damaged)?)),
        };
        Ok(SnapshotInfo { parent, volatile })
    }

    fn remove(&self, key: &SnapshotKey) -> Result<(), SnapshotError> {
        self.reserved().remove(key);
        self.shared.discard(&self.dir(key))?;
        let pin = self.pins().remove(key).flatten();
        if let Some(layer) = pin {
            let parent = layer.chain_id().clone();
            drop(layer);
            // The image may have been removed by force while the container was there.
            self.layers.release_if_unused(&parent)?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<SnapshotKey>, SnapshotError> {
        let dir = self.shared.layout.snapshots();
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(&dir).at("list", &dir)? {
            let name = entry.at("list", &dir)?.file_name();
            if let Some(key) = name.to_str().and_then(|name| name.parse().ok()) {
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn changes(&self, key: &SnapshotKey) -> Result<Vec<Change>, SnapshotError> {
        let info = self.info(key)?;
        Ok(changes::changes(&self.upper(key), &mut self.merged(&info)?)?)
    }

    fn usage(&self, key: &SnapshotKey) -> Result<Usage, SnapshotError> {
        let info = self.info(key)?;
        Ok(usage::usage(&self.upper(key), &mut self.merged(&info)?)?)
    }

    fn commit(&self, key: &SnapshotKey, mode: UpperMode) -> Result<Layer, SnapshotError> {
        let info = self.info(key)?;
        Ok(self.layers.commit_upper(info.parent.as_ref(), &self.upper(key), mode)?)
    }
}

/// Directories and files that something is mounted on in every container.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "etc"];
const MOUNTED_FILES: [&str; 4] = [".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

fn make_init(init: &Path) -> Result<(), IoFailure> {
    mkdir(init, 0o755)?;
    let root = seacow_sys::rooted::Root::open(init).at("open", init)?;
    for dir in MOUNT_POINTS {
        mkdir(&init.join(dir), 0o755)?;
    }
    for file in MOUNTED_FILES {
        let path = Path::new(file);
        let entry = root.entry(path).at("open", path)?;
        if entry.file_type().at("look at", path)?.is_none() {
            entry.create(Mode::from_raw_mode(0o644)).at("create", path)?;
            entry.chmod(Mode::from_raw_mode(0o644)).at("set the mode of", path)?;
        }
    }
    // The daemon's umask must not show in containers.
    for dir in [".", "dev", "proc", "sys", "etc"] {
        let entry = root.entry(Path::new(dir)).at("open", dir)?;
        entry.chmod(Mode::from_raw_mode(0o755)).at("set the mode of", dir)?;
        // Their times are the same on every machine.
        let epoch = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        entry.utimens(&attrs::modified(epoch)).at("set the times of", dir)?;
    }
    Ok(())
}
