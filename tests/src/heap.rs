//! Every byte that a process has on its heap, counted by its allocator: what is resident rises and falls by what an
//! allocator keeps for each thread, what was asked for does not.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The system's allocator, and a sum; a program has it as its `global_allocator`.
#[derive(Debug)]
pub struct Counting;

/// Bytes that were asked for and not given back.
static LIVE: AtomicUsize = AtomicUsize::new(0);

// JUSTIFICATION: an allocator cannot be made without; the standard library has no count of its own.
// SAFETY: every call is handed on to the system's allocator as it came, and its answer is given back as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`, which are the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System` with this layout, as all do here.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes that this process has asked for and not given back, where [`Counting`] is its allocator; 0 elsewhere.
#[must_use]
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}
