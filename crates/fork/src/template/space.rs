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

/// What a mapping has been advised of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    grows_down: bool,
    /// MADV_* numbers.
    advice: [Option<i32>; 3],
}

/// At most so many bytes by one call: a larger one would not be interrupted for long.
const CHUNK: u64 = 256 << 20;
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
    Flags { grows_down: has("gd"), advice: [pages, dump, wipe] }
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
    let (mut ranges, mut protections) = (Vec::new(), Vec::new());
    for (mapping, flags) in flags.iter().filter(|(mapping, _)| is_own(mapping)) {
        let own = inspect::own_pages(pagemap.as_fd(), mapping.start..mapping.end)
            .map_err(Error::own("list the source's pages"))?;
        let writable = if own.is_empty() { mapping.protection } else { mapping.protection | READ_WRITE };
        spill(puppet, &mut batch, 8, 256, deadline)?;
        map(&mut batch, mapping, flags, writable, snapshot, channel);
        if writable != mapping.protection {
            protections.push(mapping);
        }
        ranges.extend(own);
    }
    puppet.run(&batch, deadline)?;
    let copied = copy(puppet, &ranges, snapshot, channel, deadline)?;
    let mut batch = Batch::new(puppet.area);
    for mapping in protections {
        spill(puppet, &mut batch, 1, 0, deadline)?;
        protect(&mut batch, mapping, mapping.protection);
    }
    puppet.run(&batch, deadline)?;
    Ok(copied)
}

/// Whether a template holds it: shared files are mapped by each clone from its own root.
pub(super) fn is_own(mapping: &Mapping) -> bool {
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
    fn flags_are_read() {
        let stack = parse_flags(" rd wr mr mw me gd ac");
        assert!(stack.grows_down && stack.advice == [None; 3]);
        let huge = parse_flags(" rd wr mr mw me ac dd hg wf");
        let advice = [libc::MADV_HUGEPAGE, libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK];
        assert_eq!(huge.advice, advice.map(Some));
    }
}
