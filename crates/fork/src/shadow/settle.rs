//! Huge pages for a program that has settled, so that its forks are cheap.
//!
//! A fork copies one entry for every page; a program with 90 MB in small ones stands still for 2 ms longer than
//! with large ones, and so does every clone on its way. The kernel can gather a block of small pages in place
//! (MADV_COLLAPSE, Linux 6.1), also from outside (`process_madvise`): half a millisecond for each. It does so
//! before the first fork: later it would be a copy of what is shared.

use std::ops::Range;
use std::os::fd::AsFd;

use seacow_sys::{inspect, process};

use super::Shadow;
use crate::error::{Error, Result};
use crate::procfs;
use crate::template::{dense_blocks, is_own};

/// Bytes that are gathered at a time: some 5 ms, in which nobody else is served.
const AT_A_TIME: u64 = 16 << 20;
/// Pages by which memory has to have grown to be looked at again.
const GROWN: u64 = 512;

/// What is known about a program's memory from one look to the next.
#[derive(Debug, Default)]
pub struct Settling {
    /// Pages that it had at the last look.
    last: u64,
    /// Pages that it had when it was last looked for blocks.
    gathered: u64,
    /// Blocks that are still to be gathered.
    left: Vec<Range<u64>>,
}

impl Settling {
    /// Looks whether the memory has stopped growing since the last look, and has a part of it gathered into
    /// huge pages then, where it is nearly full of small ones. Tells whether there is more to be done at once.
    pub fn look(&mut self, shadow: &Shadow) -> Result<bool> {
        if self.left.is_empty() {
            let pages = resident(shadow.pid())?;
            let settled = pages < self.last + GROWN / 2;
            self.last = pages;
            if !settled || pages < self.gathered + GROWN {
                return Ok(false);
            }
            self.gathered = pages;
            self.left = blocks(shadow.pid())?;
        }
        self.gather(shadow)?;
        Ok(!self.left.is_empty())
    }

    fn gather(&mut self, shadow: &Shadow) -> Result<()> {
        let handle = process::pidfd_open(shadow.pid()).map_err(Error::own("open the shadow"))?;
        let mut room = AT_A_TIME;
        while let Some(range) = self.left.pop() {
            let end = range.end.min(range.start + room);
            // What the kernel has no memory for, or may not be huge, stays as it is.
            let _ = inspect::gather(handle.as_fd(), range.start..end);
            room -= end - range.start;
            if end < range.end {
                self.left.push(end..range.end);
            }
            if room == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Pages in memory.
fn resident(pid: i32) -> Result<u64> {
    let text = procfs::read(pid, "statm")?;
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| Error::proc(pid, "statm"))
}

/// Where it is nearly full.
fn blocks(pid: i32) -> Result<Vec<Range<u64>>> {
    let pagemap = procfs::open(pid, "pagemap", false)?;
    let mut found = Vec::new();
    for mapping in procfs::mappings(pid)?.iter().filter(|mapping| mapping.inode == 0 && is_own(mapping)) {
        let own = inspect::own_pages(pagemap.as_fd(), mapping.start..mapping.end)
            .map_err(Error::own("list the program's pages"))?;
        found.extend(dense_blocks(mapping, &own));
    }
    Ok(found)
}
