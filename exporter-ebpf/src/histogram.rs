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
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the caller gives a pointer to a live map value.
    unsafe { add(histogram, bucket_index(bounds, value), 1, value) };
}

/// Counts so many values of which only the sum is known, each as their mean; `n_values` is not 0.
///
/// # Safety
/// `histogram` points at a live map value.
#[inline(always)]
pub unsafe fn observe_many<const BUCKETS: usize, const BOUNDS: usize>(
    histogram: *mut Histogram<BUCKETS>,
    bounds: &[u64; BOUNDS],
    n_values: u64,
    sum: u64,
) {
    const { assert!(BUCKETS == BOUNDS + 1) };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the caller gives a pointer to a live map value.
    unsafe { add(histogram, bucket_index(bounds, sum / n_values), n_values, sum) };
}

/// # Safety
/// `histogram` points at a live map value.
#[inline(always)]
unsafe fn add<const BUCKETS: usize>(
    histogram: *mut Histogram<BUCKETS>,
    bucket_idx: usize,
    n_values: u64,
    sum_of_values: u64,
) {
    // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers, never by reference.
    // SAFETY: the caller gives a pointer to a live map value.
    let (buckets, sum) =
        (unsafe { &raw mut (*histogram).buckets }, unsafe { &raw mut (*histogram).sum });
    if bucket_idx < BUCKETS {
        // JUSTIFICATION: an index into the array would make a reference to it.
        // SAFETY: the index is below the length.
        let bucket = unsafe { buckets.cast::<u64>().add(bucket_idx) };
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(bucket, n_values) };
    }
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value, whose fields are aligned.
    unsafe { counter::add(sum, sum_of_values) };
}
