//! Steps that must survive a crash, each behind one seam where a test can make it fail.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{At, IoFailure};
use crate::fsutil::copy::Content;

/// Called before every durable step with its name; an error makes that step fail, and a test may
/// as well kill its own process there.
pub type FaultHook = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// The steps: sync, rename, commit.
#[derive(Clone)]
pub(crate) struct Disk {
    faults: Option<FaultHook>,
    /// The file system has one journal for all metadata: what was renamed or made before a sync of
    /// any file is on the disk with it.
    one_journal: bool,
    is_xfs: bool,
    /// Directories with names that must be on the disk before the metadata that tells of them.
    owed: Arc<Mutex<BTreeSet<PathBuf>>>,
}

const EXT4_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;
/// How many files are synced at the same time: the journal then commits once for them all.
const SYNCERS: usize = 4;

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("faults", &self.faults.is_some()).finish()
    }
}

impl Disk {
    /// For everything below `root`.
    pub(crate) fn new(root: &Path, faults: Option<FaultHook>) -> Result<Self, IoFailure> {
        let magic = rustix::fs::statfs(root).at("look at", root)?.f_type as u64;
        let one_journal = matches!(magic, EXT4_MAGIC | XFS_MAGIC);
        Ok(Self { faults, one_journal, is_xfs: magic == XFS_MAGIC, owed: Arc::default() })
    }

    /// A step that happens elsewhere (a metadata commit) passes through here first.
    pub(crate) fn step(&self, name: &'static str) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |hook| hook(name))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), IoFailure> {
        self.step("rename").and_then(|()| std::fs::rename(from, to)).at("rename to", to)
    }

    /// Each of two paths becomes the other's, in one step.
    pub(crate) fn exchange(&self, one: &Path, other: &Path) -> Result<(), IoFailure> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let swap = || Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?);
        self.step("exchange").and_then(|()| swap()).at("exchange with", other)
    }

    pub(crate) fn mkdir(&self, path: &Path) -> Result<(), IoFailure> {
        self.step("mkdir").and_then(|()| std::fs::create_dir(path)).at("make directory", path)
    }

    /// Contents and attributes of files.
    pub(crate) fn sync_files(&self, files: &[(File, PathBuf)]) -> Result<(), IoFailure> {
        let sync = |(file, path): &(File, PathBuf)| {
            self.step("sync file").and_then(|()| file.sync_all()).at("sync", path)
        };
        let [first, rest @ ..] = files else { return Ok(()) };
        std::thread::scope(|scope| {
            let parts = rest.chunks(rest.len().div_ceil(SYNCERS - 1).max(1));
            let others: Vec<_> =
                parts.map(|part| scope.spawn(move || part.iter().try_for_each(sync))).collect();
            let own = sync(first);
            let joined = others.into_iter().map(|other| {
                let broken = || IoFailure::new("sync", &first.1, io::Error::other("a thread panicked"));
                other.join().unwrap_or_else(|_| Err(broken()))
            });
            joined.fold(own, Result::and)
        })
    }

    /// Names in directories that are on the disk before the next durable metadata is. Several callers'
    /// are synced together; where there is one journal, one sync carries all.
    pub(crate) fn sync_dirs_before_metadata(&self, dirs: &[PathBuf]) {
        self.owed().extend(dirs.iter().cloned());
    }

    /// Syncs what is owed. A sync of the metadata's file would not: it is overwritten in place, and then
    /// the journal has nothing to do with it.
    pub(crate) fn sync_owed(&self) -> Result<(), IoFailure> {
        let owed = std::mem::take(&mut *self.owed());
        for dir in &owed {
            if let Err(error) = self.sync_dir(dir)
                && error.source.kind() != io::ErrorKind::NotFound
            {
                self.owed().extend(owed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn owed(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names in directories that are on their way to a sync of a new file: only where that does not carry
    /// them along.
    pub(crate) fn sync_dirs_on_the_way(&self, dirs: &[PathBuf]) -> Result<(), IoFailure> {
        if self.one_journal {
            return Ok(());
        }
        dirs.iter().try_for_each(|dir| self.sync_dir(dir))
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), IoFailure> {
        self.step("sync directory").and_then(|()| File::open(path)?.sync_all()).at("sync directory", path)
    }

    /// Writes out a copy below `path` that is to be renamed, and its directory synced then. Where extents
    /// were shared their data are on the device already, and on xfs the log has everything that came before
    /// a sync of that directory, in order: nothing is to be done, and nobody else's files are waited for.
    pub(crate) fn sync_copy(&self, path: &Path, content: Content) -> Result<(), IoFailure> {
        if self.is_xfs && content == Content::Shared { Ok(()) } else { self.sync_fs(path) }
    }

    /// Writes out the whole file system that holds `path`.
    pub(crate) fn sync_fs(&self, path: &Path) -> Result<(), IoFailure> {
        self.step("sync file system")
            .and_then(|()| Ok(rustix::fs::syncfs(File::open(path)?.as_fd())?))
            .at("sync the file system of", path)
    }
}
