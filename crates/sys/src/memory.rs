//! Giving memory back to the kernel.

use rustix::process::getpid;
use rustix::thread::gettid;

use crate::Errno;

/// How far below the caller pages are given back. The kernel keeps a megabyte below the main
/// thread's stack free of other mappings, and a fresh stack is 132 KiB, so that whatever is mapped
/// in this range is the stack.
const DEPTH: usize = 128 << 10;
const PAGE: usize = 4096;
/// What this function and the C library's wrapper need of the stack, generously: both only pass
/// a few integers on.
const OWN_FRAMES: usize = 1024;

/// Gives back the pages of the main thread's stack that deeper calls have used and the present one
/// does not: a long-lived process keeps the deepest stack it ever had otherwise. Refused with
/// `EINVAL` on any other thread, whose stack lies among other mappings.
#[inline(never)]
pub fn release_stack() -> Result<(), Errno> {
    if gettid() != getpid() {
        return Err(Errno::INVAL);
    }
    let here = 0u8;
    // Room for the rest of this frame and for those of the call below.
    let end = ((&raw const here).addr() - OWN_FRAMES) & !(PAGE - 1);
    let start = std::ptr::without_provenance_mut(end - DEPTH);
    // SAFETY: the range lies well below this function's frame and its callee's on the main thread's
    // stack, where no live value can be: stacks grow down and everything deeper has returned.
    // Unmapped pages in it are skipped, and DEPTH keeps other mappings out of it.
    let done = crate::raw::check(unsafe { libc::madvise(start, DEPTH, libc::MADV_DONTNEED) }.into());
    match done {
        // Part of the range was not mapped; the rest was given back.
        Ok(_) | Err(Errno::NOMEM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn other_threads_are_refused() {
        // Tests run on threads of their own.
        assert_eq!(super::release_stack(), Err(crate::Errno::INVAL));
    }
}
