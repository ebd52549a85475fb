//! The address space of a template: mappings, and the pages in them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Instant;

use seacow_sys::inspect;

use super::{Channel, spill};
use crate::batch::Batch;
use crate::capture::State;
use crate::error::{Error, Result};
use crate::procfs::{self, Mapping};
use crate::puppet::Puppet;
use crate::reason::{Mapped, Reason};

/// From the kernel's `mman-common.h`; musl's headers, and with them the libc crate, do not know it.
const MADV_COLLAPSE: u64 = 25;

/// What a mapping has been advised of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    grows_down: bool,
    not_forked: bool,
    /// MADV_* numbers.
    advice: [Option<i32>; 3],
}

/// At most so many bytes by one call: a larger one would not be interrupted for long.
const CHUNK: u64 = 256 << 20;
/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;
/// A huge page is worth its while from so many bytes on: at most an eighth is memory for nothing.
const DENSE: u64 = HUGE / 8 * 7;
const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;

/// Reads the flags of all mappings, from the snapshot: that takes its time.
pub(super) fn flags(snapshot: i32, mappings: &[Mapping]) -> Result<Vec<(Mapping, Flags)>> {
    let text = procfs::read_bytes(snapshot, "smaps")?;
    let text = String::from_utf8_lossy(&text);
    let mut known: BTreeMap<u64, (Flags, bool)> = BTreeMap::new();
    let mut at = 0;
    for line in text.lines() {
        let start = line.split_once('-').and_then(|(start, _)| procfs::hex(start));
        if let (Some(start), Some(' ')) = (start, line.chars().find(|c| !c.is_ascii_hexdigit() && *c != '-'))
        {
            at = start;
            known.insert(at, Default::default());
        } else if let (Some(rest), Some(found)) = (line.strip_prefix("VmFlags:"), known.get_mut(&at)) {
            found.0 = parse_flags(rest);
        } else if let (Some(rest), Some(found)) = (line.strip_prefix("ProtectionKey:"), known.get_mut(&at)) {
            found.1 = rest.trim() != "0";
        }
    }
    let mut all = Vec::new();
    for mapping in mappings {
        // The one that begins here, or before where two were joined.
        let found = known.range(..=mapping.start).next_back().map(|(_, found)| *found).unwrap_or_default();
        if found.1 {
            let (address, what) = (mapping.start, Mapped::ProtectionKey);
            return Err(Error::Refused(vec![Reason::Mapping { address, what }]));
        }
        all.push((mapping.clone(), found.0));
    }
    Ok(all)
}

fn parse_flags(text: &str) -> Flags {
    let has = |flag| text.split_whitespace().any(|word| word == flag);
    let pages = if has("hg") {
        Some(libc::MADV_HUGEPAGE)
    } else if has("nh") {
        Some(libc::MADV_NOHUGEPAGE)
    } else {
        None
    };
    let dump = has("dd").then_some(libc::MADV_DONTDUMP);
    let wipe = has("wf").then_some(libc::MADV_WIPEONFORK);
    Flags { grows_down: has("gd"), not_forked: has("dc"), advice: [pages, dump, wipe] }
}

/// Has a copy of an earlier template be advised as the source is by now; the mappings are the same. Gives
/// the ranges that no fork inherits.
pub(super) fn advise_anew(
    puppet: &Puppet,
    before: &[(Mapping, Flags)],
    now: &[(Mapping, Flags)],
    deadline: Instant,
) -> Result<Vec<Range<u64>>> {
    // What takes each advice back; there is nothing that makes huge pages as usual again.
    const BACK: [i32; 3] = [libc::MADV_NOHUGEPAGE, libc::MADV_DODUMP, libc::MADV_KEEPONFORK];
    let mut batch = Batch::new(puppet.area);
    for ((mapping, old), (_, new)) in before.iter().zip(now).filter(|((mapping, _), _)| is_own(mapping)) {
        for ((old, new), back) in old.advice.into_iter().zip(new.advice).zip(BACK) {
            if old != new {
                spill(puppet, &mut batch, 1, 0, deadline)?;
                let advice = new.unwrap_or(back) as u64;
                batch.attempt("advise", libc::SYS_madvise, &[mapping.start, mapping.length(), advice]);
            }
        }
    }
    puppet.run(&batch, deadline)?;
    let kept_out = now.iter().filter(|(mapping, flags)| is_own(mapping) && flags.not_forked);
    Ok(kept_out.map(|(mapping, _)| mapping.start..mapping.end).collect())
}

/// Maps everything that the source has for itself and copies its pages. Gives the bytes copied.
pub(super) fn fill(
    puppet: &Puppet,
    state: &State,
    flags: &[(Mapping, Flags)],
    snapshot: i32,
    channel: Channel,
    deadline: Instant,
) -> Result<u64> {
    debug_assert_eq!(state.mappings.len(), flags.len());
    let pagemap = procfs::open(snapshot, "pagemap", false)?;
    let mut batch = Batch::new(puppet.area);
    let (mut ranges, mut protections, mut dense) = (Vec::new(), Vec::new(), Vec::new());
    for (mapping, flags) in flags.iter().filter(|(mapping, _)| is_own(mapping)) {
        let own = inspect::own_pages(pagemap.as_fd(), mapping.start..mapping.end)
            .map_err(Error::own("list the source's pages"))?;
        let writable = if own.is_empty() { mapping.protection } else { mapping.protection | READ_WRITE };
        spill(puppet, &mut batch, 8, 256, deadline)?;
        map(&mut batch, mapping, flags, writable, snapshot, channel);
        if writable != mapping.protection {
            protections.push(mapping);
        }
        if mapping.inode == 0 {
            dense.extend(dense_blocks(mapping, &own));
        }
        ranges.extend(own);
    }
    puppet.run(&batch, deadline)?;
    prepare_huge(puppet, &dense, deadline)?;
    let copied = copy(puppet, &ranges, snapshot, channel, deadline)?;
    let mut batch = Batch::new(puppet.area);
    for mapping in protections {
        spill(puppet, &mut batch, 1, 0, deadline)?;
        protect(&mut batch, mapping, mapping.protection);
    }
    puppet.run(&batch, deadline)?;
    Ok(copied)
}

/// Where huge pages are worth their while: whole ones within the mapping that are nearly full of the
/// source's pages. What is not its own is zero in the source and in the huge page.
pub(crate) fn dense_blocks(mapping: &Mapping, own: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut filled: BTreeMap<u64, u64> = BTreeMap::new();
    for range in own {
        let mut at = range.start;
        while at < range.end {
            let block = at / HUGE * HUGE;
            let end = range.end.min(block + HUGE);
            *filled.entry(block).or_default() += end - at;
            at = end;
        }
    }
    let whole = |block: u64| mapping.start <= block && block + HUGE <= mapping.end;
    let mut dense: Vec<Range<u64>> = Vec::new();
    for (block, _) in filled.into_iter().filter(|(block, bytes)| whole(*block) && *bytes >= DENSE) {
        match dense.last_mut() {
            Some(last) if last.end == block => last.end += HUGE,
            _ => dense.push(block..block + HUGE),
        }
    }
    dense
}

/// Has huge pages where the source has data all over: they are filled faster, and a fork copies one
/// entry for each instead of 512. A clone that writes to one gets 4 KiB of its own, as ever. By
/// MADV_COLLAPSE (Linux 6.1), which leaves the mapping's own advice alone; it wants one page to be there.
fn prepare_huge(puppet: &Puppet, dense: &[Range<u64>], deadline: Instant) -> Result<()> {
    let mut batch = Batch::new(puppet.area);
    for range in dense {
        for block in range.clone().step_by(HUGE as usize) {
            spill(puppet, &mut batch, 2, 16, deadline)?;
            // A call that writes to its argument: the set of pending signals.
            batch.attempt("touch a page", libc::SYS_rt_sigpending, &[block, 8]);
        }
        let arguments = [range.start, range.end - range.start, MADV_COLLAPSE];
        batch.attempt("huge pages", libc::SYS_madvise, &arguments);
    }
    puppet.run(&batch, deadline).map(drop)
}

/// Whether a template holds it: shared files are mapped by each clone from its own root.
pub(crate) fn is_own(mapping: &Mapping) -> bool {
    !mapping.is_kernels() && !mapping.shared
}

pub(super) fn protect(batch: &mut Batch, mapping: &Mapping, protection: u64) {
    let arguments = [mapping.start, mapping.length(), protection];
    batch.call("protect memory", libc::SYS_mprotect, &arguments);
}

fn map(
    batch: &mut Batch,
    mapping: &Mapping,
    flags: &Flags,
    protection: u64,
    snapshot: i32,
    channel: Channel,
) {
    let (start, length) = (mapping.start, mapping.length());
    let private = (libc::MAP_FIXED | libc::MAP_PRIVATE) as u64;
    if mapping.inode == 0 {
        let mut how = private | (libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
        if flags.grows_down {
            how |= libc::MAP_GROWSDOWN as u64;
        }
        batch.call("map memory", libc::SYS_mmap, &[start, length, protection, how, u64::MAX, 0]);
    } else {
        let path = batch.text(format!("{snapshot}/map_files/{start:x}-{:x}", mapping.end));
        let open = [channel.proc as u64, path, (libc::O_RDONLY | libc::O_CLOEXEC) as u64, 0];
        batch.call("open a mapped file", libc::SYS_openat, &open);
        batch.call("map a file", libc::SYS_mmap, &[start, length, protection, private, 0, mapping.offset]);
        batch.call("close a mapped file", libc::SYS_close, &[0]);
    }
    for advice in flags.advice.into_iter().flatten() {
        batch.attempt("advise", libc::SYS_madvise, &[start, length, advice as u64]);
    }
}

/// Has the template read these ranges out of the snapshot's memory into its own.
pub(super) fn copy(
    puppet: &Puppet,
    ranges: &[Range<u64>],
    snapshot: i32,
    channel: Channel,
    deadline: Instant,
) -> Result<u64> {
    let mut batch = Batch::new(puppet.area);
    let path = batch.text(format!("{snapshot}/mem"));
    let open = [channel.proc as u64, path, (libc::O_RDONLY | libc::O_CLOEXEC) as u64, 0];
    batch.call("open the snapshot's memory", libc::SYS_openat, &open);
    puppet.run(&batch, deadline)?;
    let mut pieces = Vec::new();
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let length = CHUNK.min(range.end - start);
            pieces.push((start, length));
            start += length;
        }
    }
    // Few at a time: the answers are checked.
    for some in pieces.chunks(1024) {
        let mut batch = Batch::new(puppet.area);
        for (start, length) in some {
            batch.call("copy pages", libc::SYS_pread64, &[0, *start, *length, *start]);
        }
        let answers = puppet.run(&batch, deadline)?;
        for (index, (start, length)) in some.iter().enumerate() {
            if answers.get(index) as u64 != *length {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(Error::Memory { pid: snapshot, address: *start, source });
            }
        }
    }
    let mut batch = Batch::new(puppet.area);
    batch.call("close the snapshot's memory", libc::SYS_close, &[0]);
    puppet.run(&batch, deadline)?;
    Ok(pieces.iter().map(|(_, length)| length).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_and_nearly_full_huge_pages() {
        let line = "00100000-00a00000 rw-p 00000000 00:00 0";
        let mapping = Mapping::parse(line).unwrap();
        // The first block begins before the mapping; the second has a hole of a page; the third is half full.
        let own = [0x10_0000..0x30_0000, 0x30_1000..0x50_0000, 0x60_0000..0x80_0000];
        assert_eq!(dense_blocks(&mapping, &own), [0x20_0000..0x40_0000, 0x60_0000..0x80_0000]);
        assert_eq!(dense_blocks(&mapping, &[]), []);
    }

    #[test]
    fn flags_are_read() {
        let stack = parse_flags(" rd wr mr mw me gd ac");
        assert!(stack.grows_down && stack.advice == [None; 3]);
        let huge = parse_flags(" rd wr mr mw me ac dd hg wf");
        let advice = [libc::MADV_HUGEPAGE, libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK];
        assert_eq!(huge.advice, advice.map(Some));
    }
}
