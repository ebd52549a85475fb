//! A frozen copy of the source's memory: a child of its that never runs.

use std::ops::Range;
use std::time::Instant;

use crate::batch::{Area, Batch};
use crate::error::{Error, Result};
use crate::procfs::{self, Fields, Mapping};
use crate::puppet::{self, Puppet};
use crate::source::Source;

/// What it is called, so that it can be told from the source's own children.
const NAME: &str = "seacow-snapshot";

/// The child. Dropped, it is killed; its parent, the source, has to take note of it
/// ([`bury`]).
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) puppet: Puppet,
    /// Ranges that no fork inherits (MADV_DONTFORK), inherited by this one all the same.
    pub(crate) not_forked: Vec<Range<u64>>,
}

/// Copies the memory, copy-on-write.
pub(crate) fn take(source: &mut Source, mappings: &[Mapping], deadline: Instant) -> Result<Snapshot> {
    source.follow_forks(true)?;
    let taken = take_followed(source, mappings, deadline);
    source.follow_forks(false)?;
    taken
}

fn take_followed(source: &mut Source, mappings: &[Mapping], deadline: Instant) -> Result<Snapshot> {
    let first = fork(source, &[], deadline)?;
    // The size is told at once; the list takes its time.
    if size(first.puppet.pid)? == size(source.pid)? {
        return Ok(first);
    }
    let not_forked = missing(first.puppet.pid, mappings)?;
    if not_forked.is_empty() {
        return Ok(first);
    }
    // V8 keeps its heap out of forks. Once more, with that lifted.
    drop(first);
    fork(source, &not_forked, deadline)
}

fn fork(source: &mut Source, lifted: &[Range<u64>], deadline: Instant) -> Result<Snapshot> {
    let area = source.area()?;
    let mut batch = Batch::new(area);
    lift(&mut batch, lifted);
    // No signal at its end: the program must not hear of it.
    batch.fork("copy the memory", libc::SYS_clone, &[0, 0, 0, 0, 0]);
    put_back(&mut batch, lifted);
    let answers = source.run(0, batch)?;
    let [pid] = answers.children[..] else {
        return Err(Error::Astray { tid: source.pid, what: "no child".into(), step: "copy the memory" });
    };
    puppet::settle(pid, deadline).inspect_err(|_| puppet::end(pid))?;
    let puppet = Puppet::adopt(pid, Area::small(area.base))?;
    // Else the source could close neither pipes nor connections while this one has them too.
    let mut batch = Batch::new(puppet.area);
    batch.call("close descriptors", libc::SYS_close_range, &[0, u64::from(u32::MAX), 0]);
    let name = batch.text(NAME);
    batch.call("name", libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name, 0, 0, 0]);
    puppet.run(&batch, deadline)?;
    Ok(Snapshot { puppet, not_forked: lifted.to_vec() })
}

/// Has forks inherit these ranges.
pub(crate) fn lift(batch: &mut Batch, ranges: &[Range<u64>]) {
    for range in ranges {
        let arguments = [range.start, range.end - range.start, libc::MADV_DOFORK as u64];
        batch.attempt("lift MADV_DONTFORK", libc::SYS_madvise, &arguments);
    }
}

/// Has forks leave them out again.
pub(crate) fn put_back(batch: &mut Batch, ranges: &[Range<u64>]) {
    for range in ranges {
        let arguments = [range.start, range.end - range.start, libc::MADV_DONTFORK as u64];
        batch.attempt("put MADV_DONTFORK back", libc::SYS_madvise, &arguments);
    }
}

/// All that a process has mapped, in pages.
pub(crate) fn size(pid: i32) -> Result<u64> {
    let text = procfs::read(pid, "statm")?;
    text.split(' ').next().and_then(|word| word.parse().ok()).ok_or_else(|| Error::proc(pid, "statm"))
}

/// Ranges of the source that its child lacks.
pub(crate) fn missing(child: i32, mappings: &[Mapping]) -> Result<Vec<Range<u64>>> {
    let inherited = procfs::mappings(child)?;
    let mut missing: Vec<Range<u64>> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| !mapping.is_kernels()) {
        if inherited.iter().any(|other| other.start <= mapping.start && mapping.start < other.end) {
            continue;
        }
        match missing.last_mut() {
            Some(last) if last.end == mapping.start => last.end = mapping.end,
            _ => missing.push(mapping.start..mapping.end),
        }
    }
    Ok(missing)
}

/// Whether it is a snapshot of this source that has ended and that the source has not taken note of, be it
/// that we are about to, be it that whoever made it was killed: before it could name it, perhaps.
pub(crate) fn is_left_over(source: i32, pid: i32) -> bool {
    let Some(zombie) = procfs::zombie(pid) else { return false };
    let own_name = || procfs::read(source, "comm").is_ok_and(|name| name.trim_end() == zombie.name);
    zombie.signal == 0 && (zombie.name == NAME || own_name())
}

/// Has the source take note of snapshots that have ended: it knows nothing of them, nor do its own waits.
pub(crate) fn bury(source: &mut Source) -> Result<()> {
    let mut left = procfs::children(source.pid)?;
    left.retain(|pid| is_left_over(source.pid, *pid));
    if left.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new(source.area()?);
    for pid in left {
        let inner = Fields::read(pid, "status")?.innermost("NSpid")?;
        let options = (libc::__WALL | libc::WNOHANG) as u64;
        batch.attempt("bury a snapshot", libc::SYS_wait4, &[inner as u64, 0, options, 0]);
    }
    source.run(0, batch).map(drop)
}
