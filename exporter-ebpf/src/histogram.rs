//! Observations into histograms that several CPUs write at once.

use podmeter_common::histogram::{Histogram, bucket_index};

use crate::counter;

/// Counts one value.
///
/// # Safety
/// `histogram` points at a live map value.
#[inline(always)]
pub unsafe fn observe<const BUCKETS: usize, const BOUNDS: usize>(
    histogram: *mut Histogram<BUCKETS>,
    bounds: &[u64; BOUNDS],
    value: u64,
) {
    const { assert!(BUCKETS == BOUNDS + 1) };
    // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers, never by reference.
    // SAFETY: the caller gives a pointer to a live map value.
    let (buckets, sum) =
        (unsafe { &raw mut (*histogram).buckets }, unsafe { &raw mut (*histogram).sum });
    let bucket_idx = bucket_index(bounds, value);
    if bucket_idx < BUCKETS {
        // JUSTIFICATION: an index into the array would make a reference to it.
        // SAFETY: the index is below the length.
        let bucket = unsafe { buckets.cast::<u64>().add(bucket_idx) };
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(bucket, 1) };
    }
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value, whose fields are aligned.
    unsafe { counter::add(sum, value) };
}
