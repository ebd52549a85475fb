//! A template from an earlier one: only pages that are different are copied.

use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use seacow_sys::inspect;

use super::{Channel, Flags, Template, space, spill};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::procfs::{self, Mapping};
use crate::puppet::{self, Puppet};
use crate::snapshot::Snapshot;
use crate::source::Source;

const PAGE: u64 = 4096;
/// Which page frame, present or swapped; the rest of an entry says how it is mapped.
const IDENTITY: u64 = 0xc07f_ffff_ffff_ffff;
/// No other process maps it.
const EXCLUSIVE: u64 = 1 << 56;
/// What may be copied while the source stands still: half a millisecond.
const AT_ONCE: u64 = 1 << 20;
/// Pages looked at at a time.
const STEP: u64 = 4096;

/// Pages of the newer snapshot that are not the older one's: as long as a page is shared copy-on-write
/// by both it is the same frame, and a frame that one of them holds cannot become another page.
/// `None` when the mappings are not the same.
pub(super) fn compare(
    earlier: &Template,
    before: &Snapshot,
    now: &Snapshot,
    flags: &[(Mapping, Flags)],
) -> Result<Option<Vec<Range<u64>>>> {
    if earlier.flags != flags || before.not_forked != now.not_forked {
        return Ok(None);
    }
    let old = procfs::open(before.puppet.pid, "pagemap", false)?;
    let new = procfs::open(now.puppet.pid, "pagemap", false)?;
    let mut different: Vec<Range<u64>> = Vec::new();
    for (mapping, _) in flags.iter().filter(|(mapping, _)| space::is_own(mapping)) {
        let list = |file: &std::fs::File| {
            inspect::own_pages(file.as_fd(), mapping.start..mapping.end)
                .map_err(Error::own("list the source's pages"))
        };
        let (had, has) = (list(&old)?, list(&new)?);
        // A page that was given back would have to become zero, or the file's: not by copying.
        if had.iter().any(|range| !covered(range, &has)) {
            return Ok(None);
        }
        for range in has {
            differing(&old, &new, range, &mut different)?;
        }
    }
    Ok(Some(different))
}

fn covered(range: &Range<u64>, by: &[Range<u64>]) -> bool {
    by.iter().any(|other| other.start <= range.start && range.end <= other.end)
}

fn differing(
    old: &std::fs::File,
    new: &std::fs::File,
    range: Range<u64>,
    different: &mut Vec<Range<u64>>,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let pages = ((range.end - at) / PAGE).min(STEP);
        let (before, now) = (entries(old, at, pages)?, entries(new, at, pages)?);
        for (index, (before, now)) in before.iter().zip(&now).enumerate() {
            if before & IDENTITY == now & IDENTITY {
                continue;
            }
            push_page(different, at + PAGE * index as u64);
        }
        at += PAGE * pages;
    }
    Ok(())
}

/// Which frame each page of a snapshot was in, mapping by mapping.
#[derive(Debug)]
pub(crate) struct Frames(Vec<Vec<u64>>);

impl Frames {
    /// Of all that a source has mapped for itself.
    pub(crate) fn of(snapshot: &Snapshot, mappings: &[Mapping]) -> Result<Self> {
        let pagemap = procfs::open(snapshot.puppet.pid, "pagemap", false)?;
        let own = mappings.iter().filter(|mapping| space::is_own(mapping));
        own.map(|mapping| entries(&pagemap, mapping.start, mapping.length() / PAGE))
            .collect::<Result<_>>()
            .map(Self)
    }
}

/// Pages that a source has changed since a snapshot, with what is in them now.
#[derive(Debug)]
pub(crate) struct Changes(Vec<(u64, Vec<u8>)>);

impl Changes {
    /// Of a source that stands still and has the same mappings still. `None` when there are too many to be
    /// copied while it does, or when pages were given back: they would have to become zero, or the file's.
    ///
    /// A page is the snapshot's as long as it is shared with it. Its frame tells, but for one that both have
    /// left (memory is compacted) and the source has come back to with a copy of its own; that one it has for
    /// itself.
    pub(crate) fn of(source: &Source, mappings: &[Mapping], frames: &Frames) -> Result<Option<Self>> {
        let pagemap = procfs::open(source.pid, "pagemap", false)?;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let own = mappings.iter().filter(|mapping| space::is_own(mapping));
        for (mapping, old) in own.zip(&frames.0) {
            let now = entries(&pagemap, mapping.start, mapping.length() / PAGE)?;
            for (index, (now, old)) in (0u64..).zip(now.iter().zip(old)) {
                match (is_own_page(*old), is_own_page(*now)) {
                    (true, false) => return Ok(None),
                    (_, true) if now & EXCLUSIVE != 0 || (now ^ old) & IDENTITY != 0 => {
                        push_page(&mut ranges, mapping.start + PAGE * index);
                    }
                    (_, _) => {}
                }
            }
        }
        if ranges.iter().map(|range| range.end - range.start).sum::<u64>() > AT_ONCE {
            return Ok(None);
        }
        let read = |range: Range<u64>| {
            let bytes = source.memory.read(range.start, (range.end - range.start) as usize)?;
            Ok((range.start, bytes))
        };
        ranges.into_iter().map(read).collect::<Result<_>>().map(|pages| Some(Self(pages)))
    }

    /// Puts them into a copy of the earlier template. Gives the bytes.
    pub(super) fn put_into(&self, puppet: &Puppet) -> Result<u64> {
        for (start, bytes) in &self.0 {
            puppet.memory.write(*start, bytes)?;
        }
        Ok(self.0.iter().map(|(_, bytes)| bytes.len() as u64).sum())
    }
}

/// Present or swapped, and no file's.
fn is_own_page(entry: u64) -> bool {
    const THERE: u64 = 3 << 62;
    const OF_FILE: u64 = 1 << 61;
    entry & THERE != 0 && entry & OF_FILE == 0
}

fn push_page(ranges: &mut Vec<Range<u64>>, start: u64) {
    match ranges.last_mut() {
        Some(last) if last.end == start => last.end += PAGE,
        _ => ranges.push(start..start + PAGE),
    }
}

fn entries(pagemap: &std::fs::File, start: u64, pages: u64) -> Result<Vec<u64>> {
    let mut bytes = vec![0; pages as usize * 8];
    pagemap.read_exact_at(&mut bytes, start / PAGE * 8).map_err(|source| Error::Memory {
        pid: 0,
        address: start,
        source,
    })?;
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    Ok(bytes.chunks_exact(8).map(word).collect())
}

/// A fork of the earlier template.
pub(super) fn duplicate(earlier: &Template, deadline: Instant) -> Result<Puppet> {
    let puppet = &earlier.puppet;
    let mut batch = Batch::new(puppet.area);
    let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;
    batch.fork("copy the template", libc::SYS_clone, &[flags, 0, 0, 0, 0]);
    let answers = puppet.run(&batch, deadline)?;
    let [pid] = answers.children[..] else {
        return Err(Error::Astray { tid: puppet.pid, what: "no child".into(), step: "copy the template" });
    };
    puppet::settle(pid, deadline).inspect_err(|_| puppet::end(pid))?;
    Puppet::adopt(pid, puppet.area)
}

/// Copies the pages. Gives the bytes.
pub(super) fn copy(
    puppet: &Puppet,
    flags: &[(Mapping, Flags)],
    snapshot: i32,
    channel: Channel,
    different: &[Range<u64>],
    deadline: Instant,
) -> Result<u64> {
    let read_write = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let touched = |mapping: &&Mapping| {
        let meets = |range: &Range<u64>| range.start < mapping.end && mapping.start < range.end;
        mapping.protection & read_write != read_write && different.iter().any(meets)
    };
    let closed: Vec<&Mapping> = flags.iter().map(|(mapping, _)| mapping).filter(touched).collect();
    let set = |bits: u64| -> Result<()> {
        let mut batch = Batch::new(puppet.area);
        for mapping in &closed {
            spill(puppet, &mut batch, 1, 0, deadline)?;
            space::protect(&mut batch, mapping, mapping.protection | bits);
        }
        puppet.run(&batch, deadline).map(drop)
    };
    set(read_write)?;
    let copied = space::copy(puppet, different, snapshot, channel, deadline)?;
    set(0)?;
    Ok(copied)
}
