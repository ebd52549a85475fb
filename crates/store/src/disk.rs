//! Steps that must survive a crash, each behind one seam where a test can make it fail.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use crate::error::{At, IoFailure};

/// Called before every durable step with its name; an error makes that step fail, and a test may
/// as well kill its own process there.
pub type FaultHook = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// The steps: sync, rename, commit.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    faults: Option<FaultHook>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("faults", &self.faults.is_some()).finish()
    }
}

impl Disk {
    pub(crate) fn new(faults: Option<FaultHook>) -> Self {
        Self { faults }
    }

    /// A step that happens elsewhere (a metadata commit) passes through here first.
    pub(crate) fn step(&self, name: &'static str) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |hook| hook(name))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        self.step("rename").and_then(|()| std::fs::rename(from, to)).at("rename to", to)
    }

    pub(crate) fn mkdir(&self, path: &Path) -> Result<(), IoFailure> {
        self.step("mkdir").and_then(|()| std::fs::create_dir(path)).at("make directory", path)
    }

    pub(crate) fn sync_file(&self, file: &File, path: &Path) -> Result<(), IoFailure> {
        self.step("sync file").and_then(|()| file.sync_all()).at("sync", path)
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), IoFailure> {
        self.step("sync directory").and_then(|()| File::open(path)?.sync_all()).at("sync directory", path)
    }

    /// Writes out the whole file system that holds `path`.
    pub(crate) fn sync_fs(&self, path: &Path) -> Result<(), IoFailure> {
        self.step("sync file system")
            .and_then(|()| Ok(rustix::fs::syncfs(File::open(path)?.as_fd())?))
            .at("sync the file system of", path)
    }
}
