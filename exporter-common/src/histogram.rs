//! Which bucket of a histogram a value falls into; the same answer in the kernel and in user space.

/// Index of the first bound that `value` does not exceed, or `bounds.len()` for the bucket without a bound.
///
/// `bounds` rise; a bound belongs to its bucket, as Prometheus' `le` (less or equal) says.
/// The loop has one compare per bound and no early way out, which the verifiers of all kernels from 5.10 accept.
#[must_use]
#[inline(always)]
pub fn bucket_index<const N: usize>(bounds: &[u64; N], value: u64) -> usize {
    let mut index = 0;
    for bound in bounds {
        if value > *bound {
            index += 1;
        }
    }
    index
}

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
