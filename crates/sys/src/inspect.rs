//! Looking into another process: what it shares, which of its pages are its own.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Errno;

/// What two processes or descriptors may have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Common {
    /// An open file: one offset, one set of flags.
    File,
    /// Memory.
    Memory,
    /// The table of descriptors.
    Files,
}

/// Whether they share it. For [`Common::File`] the numbers are descriptors, else they count for nothing.
/// Needs the right to trace both.
pub fn shared(kind: Common, a: (i32, i32), b: (i32, i32)) -> Result<bool, Errno> {
    let kind: libc::c_int = match kind {
        Common::File => 0,
        Common::Memory => 1,
        Common::Files => 2,
    };
    let (one, two) = (i64::from(a.1), i64::from(b.1));
    // SAFETY: kcmp takes integers only.
    crate::raw::check(unsafe { libc::syscall(libc::SYS_kcmp, a.0, b.0, kind, one, two) })
        .map(|order| order == 0)
}

/// Address and length of a thread's list of robust futexes.
pub fn robust_list(tid: i32) -> Result<(u64, u64), Errno> {
    let (mut head, mut length) = (0u64, 0u64);
    // SAFETY: the kernel writes one pointer and one size, both eight bytes, which live across the call.
    let done = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut length) };
    crate::raw::check(done).map(|_| (head, length))
}

/// Has the kernel gather the small pages of a range of another process into huge ones, where a huge one finds
/// room (MADV_COLLAPSE, Linux 6.1). Needs the right to trace it and CAP_SYS_NICE.
pub fn gather(process: BorrowedFd<'_>, range: Range) -> Result<(), Errno> {
    // From the kernel's `mman-common.h`; musl's headers, and with them the libc crate, do not know it.
    const MADV_COLLAPSE: libc::c_int = 25;
    let part = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(range.start as usize),
        iov_len: (range.end - range.start) as usize,
    };
    // SAFETY: the kernel reads one iovec, which lives across the call; what that names is another process's
    // memory, whose contents do not change.
    let done = unsafe {
        libc::syscall(libc::SYS_process_madvise, process.as_raw_fd(), &raw const part, 1, MADV_COLLAPSE, 0)
    };
    crate::raw::check(done).map(drop)
}

/// A range of addresses.
pub type Range = std::ops::Range<u64>;

/// `struct pm_scan_arg` (Linux 6.7).
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vector: u64,
    vector_length: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    any_of: u64,
    returned: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// Pages of `range` that hold data of the process itself: present or swapped, not a file's, not the zero
/// page. `pagemap` is an open `/proc/PID/pagemap`. `ENOTTY` before Linux 6.7.
pub fn own_pages(pagemap: BorrowedFd<'_>, range: Range) -> Result<Vec<Range>, Errno> {
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
    const FILE: u64 = 4;
    const PRESENT: u64 = 8;
    const SWAPPED: u64 = 16;
    const ZERO: u64 = 32;
    let mut regions = vec![Region::default(); 512];
    let mut found: Vec<Range> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: at,
            end: range.end,
            vector: regions.as_mut_ptr() as u64,
            vector_length: regions.len() as u64,
            inverted: FILE | ZERO,
            mask: FILE | ZERO,
            any_of: PRESENT | SWAPPED,
            returned: PRESENT,
            ..Scan::default()
        };
        // SAFETY: scan has the kernel's layout and size; its vector is regions, of the length that it says.
        let done = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as libc::Ioctl, &raw mut scan) };
        let count = crate::raw::check(done.into())? as usize;
        for region in regions.iter().take(count) {
            match found.last_mut() {
                Some(last) if last.end == region.start => last.end = region.end,
                _ => found.push(region.start..region.end),
            }
        }
        if scan.walk_end <= at {
            break;
        }
        at = scan.walk_end;
    }
    Ok(found)
}
