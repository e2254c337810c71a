//! Histograms as maps hold them, and which bucket a value falls into; the same answer in the kernel and in user space.

use crate::owner::Counts;

/// A histogram with `N` buckets: one per bound, and the last one without a bound.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// Sum of the observations.
    pub sum: u64,
    /// Observations per bucket, not cumulative.
    pub buckets: [u64; N],
}

const _: () = assert!(size_of::<Histogram<3>>() == 8 * (1 + 3));

impl<const N: usize> Counts for Histogram<N> {
    const ZERO: Self = Self { sum: 0, buckets: [0; N] };
}

/// Index of the first bound that `value` does not exceed, or `bounds.len()` for the bucket without a bound.
///
/// `bounds` rise; a bound belongs to its bucket, as Prometheus' `le` (less or equal) says.
/// The compiler unrolls the loop to one comparison per bound, which the verifiers of all kernels from 5.10 accept; most
/// values are small and leave it early.
#[must_use]
#[inline(always)]
pub fn bucket_index<const N: usize>(bounds: &[u64; N], value: u64) -> usize {
    let mut index = 0;
    for bound in bounds {
        if value <= *bound {
            break;
        }
        index += 1;
    }
    index
}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map values only into types that are marked as plain data.
// SAFETY: repr(C), only integers of one size, so no padding (asserted above), and every bit pattern is a value.
unsafe impl<const N: usize> aya::Pod for Histogram<N> {}

#[cfg(test)]
mod tests {
    use super::bucket_index;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let check = |value, expected| assert_eq!(bucket_index(&[10, 20, 30], value), expected);
        check(0, 0);
        check(10, 0);
        check(11, 1);
        check(20, 1);
        check(30, 2);
        check(31, 3);
        check(u64::MAX, 3);
    }
}
