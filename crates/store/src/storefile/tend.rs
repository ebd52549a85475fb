//! Growing, giving back, holding back.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use seacow_sys::loopdev::Device;
use seacow_sys::{Errno, space};

use super::{Room, StoreFile, StoreFileError, open};
use crate::error::At;

/// In the store, as large as what the host could not provide.
const BALLAST: &str = ".ballast";
/// The ballast follows the host in steps: a smaller change is not worth a transaction.
const STEP: u64 = 32 << 20;
/// Of the host's disk, at least this is left to others: metadata of its file system, and what they
/// write between two looks.
const MARGIN_MIN: u64 = 64 << 20;
const MARGIN_MAX: u64 = 1 << 30;
/// Least growth of the file.
const GROWTH: u64 = 256 << 20;
/// Blocks that nobody uses any more are worth a trim from here on.
const TRIM_FROM: u64 = 64 << 20;
/// A trim looks at all free space, so it has its time.
const TRIM_PAUSE: Duration = Duration::from_secs(60);
/// While the host frees the blocks of a gigabyte, some 0.3 s, whoever syncs waits: a trim is for a moment in
/// which nobody writes. It is not put off for longer than this.
const TRIM_LATEST: Duration = Duration::from_secs(300);

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub(super) struct Memory {
    trimmed: Option<Instant>,
    /// Since when one is worth it.
    wanted: Option<Instant>,
    /// Requests to write that the device had seen.
    writes: Option<u64>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Bytes that the file system grew by.
    pub grown: u64,
    /// Bytes of the free space that the trim went over, if there was one.
    pub trimmed: Option<u64>,
    /// Bytes that are held back now.
    pub held_back: u64,
    /// Bytes that can be written now.
    pub free: u64,
}

impl StoreFile {
    /// Looks at the room of host and store, and does what is due. To be called every few seconds.
    ///
    /// # Errors
    /// The disk failed.
    pub fn tend(&self) -> Result<Tended, StoreFileError> {
        let mut done = Tended { trimmed: self.trim_if_worth_it()?, ..Tended::default() };
        let available = self.available()?;
        done.grown = self.grow_if_filling(available)?;
        done.held_back = self.hold_back(available)?;
        done.free = Room::of(&self.root())?.free;
        Ok(done)
    }

    /// Gives blocks that nobody uses back to the host, now; says how much free space it went over.
    ///
    /// # Errors
    /// The host's file system cannot.
    pub fn trim(&self) -> Result<u64, StoreFileError> {
        let root = self.root();
        let top = File::open(&root).at("open", &root)?;
        // What is not written yet may be of files that are gone.
        rustix::fs::syncfs(top.as_fd()).at("sync the file system of", &root)?;
        Ok(space::trim(top.as_fd()).at("trim", &root)?)
    }

    fn trim_if_worth_it(&self) -> Result<Option<u64>, StoreFileError> {
        let writes = self.writes()?;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = memory.writes.replace(writes) == Some(writes);
        if memory.trimmed.is_some_and(|last| last.elapsed() < TRIM_PAUSE) {
            return Ok(None);
        }
        let root = self.root();
        let used = Room::of(&root)?.used().saturating_sub(ballast(&root));
        let file = self.file();
        let taken = std::fs::metadata(&file).at("look at", &file)?.blocks() * 512;
        let freed = taken.saturating_sub(used);
        if freed < TRIM_FROM.max(used / 8) {
            memory.wanted = None;
            return Ok(None);
        }
        let waits = memory.wanted.get_or_insert_with(Instant::now).elapsed();
        let host_needs_it = self.available()? < freed;
        if !is_quiet && !host_needs_it && waits < TRIM_LATEST {
            return Ok(None);
        }
        (memory.trimmed, memory.wanted) = (Some(Instant::now()), None);
        self.trim().map(Some)
    }

    /// Requests to write that the device has seen since it was attached.
    fn writes(&self) -> Result<u64, StoreFileError> {
        let file = self.file();
        let Some(device) = Device::of(&open(&file)?).at("find the device of", &file)? else { return Ok(0) };
        let name = device.path().file_name().unwrap_or_default();
        // Where nobody tells, no moment is better than another.
        let stat = Path::new("/sys/class/block").join(name).join("stat");
        let text = std::fs::read_to_string(&stat).unwrap_or_default();
        // The fifth number: Documentation/block/stat.rst.
        Ok(text.split_whitespace().nth(4).and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// Bytes that the host can still provide.
    fn available(&self) -> Result<u64, StoreFileError> {
        let host = Room::of(&self.home)?;
        Ok(host.free.saturating_sub((host.total / 100).clamp(MARGIN_MIN, MARGIN_MAX)))
    }

    /// Less than an eighth is free, and the host has more: a quarter more.
    fn grow_if_filling(&self, available: u64) -> Result<u64, StoreFileError> {
        let room = Room::of(&self.root())?;
        let free = room.free.saturating_add(ballast(&self.root()));
        let more = (room.total / 4).max(GROWTH).min(available.saturating_sub(free));
        if free > room.total / 8 || more < GROWTH {
            return Ok(0);
        }
        let file = self.file();
        let opened = open(&file)?;
        let len = opened.metadata().at("look at", &file)?.len();
        opened.set_len(len + more).at("enlarge", &file)?;
        self.fill_file()?;
        Ok(Room::of(&self.root())?.total.saturating_sub(room.total))
    }

    /// Has device and file system take all of the file.
    pub(super) fn fill_file(&self) -> Result<(), StoreFileError> {
        let (file, root) = (self.file(), self.root());
        let opened = open(&file)?;
        let len = opened.metadata().at("look at", &file)?.len();
        if let Some(device) = Device::of(&opened).at("find the device of", &file)? {
            device.refresh_size().at("enlarge the device of", &file)?;
        }
        let top = File::open(&root).at("open", &root)?;
        Ok(space::grow_xfs(top.as_fd(), len).at("enlarge the file system of", &root)?)
    }

    /// Makes the ballast as large as the free space that the host could not provide.
    fn hold_back(&self, available: u64) -> Result<u64, StoreFileError> {
        let root = self.root();
        let held = ballast(&root);
        let free = Room::of(&root)?.free.saturating_add(held);
        let wanted = free.saturating_sub(available);
        if wanted.abs_diff(held) < STEP && !(wanted == 0 && held > 0) {
            return Ok(held);
        }
        let path = root.join(BALLAST);
        let file = File::options().write(true).create(true).truncate(false).open(&path).at("open", &path)?;
        if wanted < held {
            file.set_len(wanted).at("shorten", &path)?;
        } else {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), held, wanted - held) {
                // Somebody was quicker with the last free blocks; there is nothing left to hold back.
                Ok(()) | Err(Errno::NOSPC) => {}
                Err(errno) => {
                    return Err(crate::error::IoFailure::new("hold back room in", path, errno).into());
                }
            }
        }
        Ok(ballast(&root))
    }
}

/// Bytes that are held back. It has blocks, but nothing was ever written to them.
pub(super) fn ballast(root: &Path) -> u64 {
    std::fs::metadata(root.join(BALLAST)).map_or(0, |meta| meta.blocks() * 512)
}
