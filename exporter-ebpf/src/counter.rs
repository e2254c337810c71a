//! Adding to 64-bit counters in maps that several CPUs write at once.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds `amount` to `*counter`, atomically; on every BPF instruction set, because the old value is not used.
///
/// # Safety
/// `counter` is a valid, aligned pointer into a map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // JUSTIFICATION: core's AtomicU64 has no fetch_add on a target without compare-and-swap.
    // SAFETY: the caller gives a pointer that is valid and aligned.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, amount) };
}
