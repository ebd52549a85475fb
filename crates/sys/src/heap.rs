//! The heap of programs that live as long as a container and do little.
//!
//! musl's allocator returns memory to the kernel as soon as it can: a shim whose requests take a few
//! kilobytes each maps and unmaps single pages dozens of times in one start, a tenth of its processor
//! time. dlmalloc keeps what it ever had, which a shim that idles for months must not. So small
//! pieces, which come and go with every request, are dlmalloc's, and large ones, which are buffers of
//! somebody's output, are musl's.

use std::alloc::{GlobalAlloc, Layout, System};

use dlmalloc::GlobalDlmalloc;

/// Pieces from here on are given back when they are freed.
const LARGE: usize = 1024;

/// The allocator, for `#[global_allocator]`.
#[derive(Debug)]
pub struct Heap;

/// Whose a piece of this size is.
fn keeper(size: usize) -> &'static dyn GlobalAlloc {
    if size >= LARGE { &System } else { &GlobalDlmalloc }
}

// SAFETY: both allocators keep the contract, and the size in the layout, which the caller has to pass
// as it was, tells whose a piece is.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { keeper(layout.size()).alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { keeper(layout.size()).alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on, to the allocator that made the piece.
        unsafe { keeper(layout.size()).dealloc(piece, layout) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if (layout.size() >= LARGE) == (size >= LARGE) {
            // SAFETY: the caller's promises are passed on, to the allocator that made the piece.
            return unsafe { keeper(size).realloc(piece, layout, size) };
        }
        // SAFETY: the caller promises that `size` with this alignment is a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: it is not empty either.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both pieces have this many bytes, and the new one is no part of the old one.
            unsafe { std::ptr::copy_nonoverlapping(piece, moved, layout.size().min(size)) };
            // SAFETY: the piece is the caller's, with this layout, and not used any more.
            unsafe { self.dealloc(piece, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_move_between_the_two() {
        let sizes = [1, 100, LARGE - 1, LARGE, 3 * LARGE, LARGE - 1, 64, 5 * LARGE, 2 * LARGE];
        for align in [1, 8, 64] {
            let mut piece = Piece::new(8, align);
            for size in sizes {
                piece.bytes().fill(7);
                piece.resize(size);
                assert_eq!(piece.at.addr() % align, 0);
            }
        }
    }

    /// A piece of this heap and of nobody else.
    struct Piece {
        at: *mut u8,
        layout: Layout,
    }

    impl Piece {
        fn new(size: usize, align: usize) -> Self {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: it is not empty.
            let mut piece = Self { at: unsafe { Heap.alloc_zeroed(layout) }, layout };
            assert!(piece.bytes().iter().all(|byte| *byte == 0));
            piece
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: it was zeroed when made or copied, so every byte of it is initialised.
            unsafe { std::slice::from_raw_parts_mut(self.at, self.layout.size()) }
        }

        /// Keeps the contents as far as there is room for them; the rest is zeros.
        fn resize(&mut self, size: usize) {
            let kept = self.layout.size().min(size);
            let layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            // SAFETY: the piece is this heap's with this layout, and the new size is not 0.
            self.at = unsafe { Heap.realloc(self.at, self.layout, size) };
            self.layout = layout;
            for at in kept..size {
                // SAFETY: it lies within the piece.
                unsafe { self.at.wrapping_add(at).write(0) };
            }
            assert!(self.bytes()[..kept].iter().all(|byte| *byte == 7));
        }
    }

    impl Drop for Piece {
        fn drop(&mut self) {
            // SAFETY: it is this heap's with this layout, and nobody else has it.
            unsafe { Heap.dealloc(self.at, self.layout) }
        }
    }
}
