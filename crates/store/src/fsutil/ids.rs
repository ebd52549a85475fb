//! Ids of a process in a user namespace, seen from outside.

use std::io;

use seacow_sys::Errno;

/// What the kernel shows for an id that has no place in a namespace (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65_534;

/// Both maps of a user namespace. Empty: ids are the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl Ids {
    /// Those of a running process.
    pub(crate) fn of_process(pid: i32) -> io::Result<Self> {
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).map(|text| ranges(&text));
        Ok(Self { uids: read("uid_map")?, gids: read("gid_map")? })
    }

    /// Whether nothing is mapped.
    pub(crate) fn is_host(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// What the namespace calls an owner.
    pub(crate) fn inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let one = |ranges: &[Range], id| shift(ranges, id, |r| (r.outside, r.inside)).unwrap_or(NOBODY);
        (one(&self.uids, uid), one(&self.gids, gid))
    }

    /// What the host calls an owner.
    ///
    /// # Errors
    /// `EOVERFLOW`: he has no place outside.
    pub(crate) fn outside(&self, (uid, gid): (u32, u32)) -> Result<(u32, u32), Errno> {
        let one = |ranges: &[Range], id| shift(ranges, id, |r| (r.inside, r.outside)).ok_or(Errno::OVERFLOW);
        Ok((one(&self.uids, uid)?, one(&self.gids, gid)?))
    }
}

/// An id through a map; `from` says which side is which.
fn shift(ranges: &[Range], id: u32, sides: impl Fn(&Range) -> (u32, u32)) -> Option<u32> {
    if ranges.is_empty() {
        return Some(id);
    }
    ranges.iter().find_map(|range| {
        let (from, to) = sides(range);
        let offset = id.checked_sub(from).filter(|offset| *offset < range.count)?;
        to.checked_add(offset)
    })
}

/// A map as the kernel prints it; one that changes nothing is none.
fn ranges(text: &str) -> Vec<Range> {
    let lines = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Range { inside: next()?, outside: next()?, count: next()? })
    });
    let ranges: Vec<Range> = lines.collect();
    match ranges.as_slice() {
        [Range { inside: 0, outside: 0, count: u32::MAX }] => Vec::new(),
        _ => ranges,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let ids = Ids {
            uids: ranges("         0     100000      1000\n      1000       5          1\n"),
            gids: ranges("0 300000 10\n"),
        };
        assert_eq!(ids.inside((100_000, 300_009)), (0, 9));
        assert_eq!(ids.inside((5, 300_000)), (1000, 0));
        assert_eq!(ids.inside((0, 300_010)), (NOBODY, NOBODY));
        assert_eq!(ids.outside((1000, 3)), Ok((5, 300_003)));
        assert_eq!(ids.outside((1001, 3)), Err(Errno::OVERFLOW));
        assert!(!ids.is_host());
    }

    #[test]
    fn the_host_s_own() {
        let ids = Ids::of_process(seacow_sys::process::own_pid()).unwrap();
        let host = Ids { uids: ranges("         0          0 4294967295\n"), gids: Vec::new() };
        assert!(host.is_host() && ids.is_host());
        assert_eq!((host.inside((7, 8)), host.outside((7, 8))), ((7, 8), Ok((7, 8))));
    }
}
