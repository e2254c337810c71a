//! Sums that do not depend on the order of what is added: whole numbers and nanoseconds in integers. Pure.

use std::ops::AddAssign;

const PER_UNIT: i128 = 1_000_000_000;

/// A number in parts of 10^-9, which is as exact as the kernel counts time, and holds every whole number that an `f64`
/// holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exact(i128);

impl Exact {
    /// The nearest one.
    #[expect(clippy::cast_possible_truncation, reason = "a cast of what is too large saturates")]
    pub(super) fn of(number: f64) -> Self {
        // Each half by itself, so that a large whole number stays what it is.
        let parts = (number.fract() * 1e9).round() as i128;
        Self((number.trunc() as i128).saturating_mul(PER_UNIT).saturating_add(parts))
    }

    /// The number again; of two, never a smaller one for the larger.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
    pub(super) fn value(self) -> f64 {
        (self.0 / PER_UNIT) as f64 + (self.0 % PER_UNIT) as f64 / 1e9
    }
}

impl AddAssign for Exact {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::ProptestConfig, proptest};

    use super::Exact;

    #[test]
    fn numbers_come_back_as_they_were() {
        let check = |number: f64| assert_eq!(Exact::of(number).value().to_bits(), number.to_bits());
        check(0.0);
        check(1.5);
        check(0.000_000_001);
        check(57.765_678);
        check(123_456_789_012.0);
        check(9_007_199_254_740_991.0);
        check(18_446_744_073_709_551_615.0);
        check(1e27);
    }

    #[test]
    fn what_is_no_number_counts_for_nothing() {
        assert_eq!(Exact::of(f64::NAN), Exact(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn order_does_not_matter(numbers in vec(0.0..1e6_f64, 1..20), turn in 0_usize..20) {
            let sum = |numbers: &[f64]| {
                let mut sum = Exact(0);
                for number in numbers {
                    sum += Exact::of(*number);
                }
                sum.value()
            };
            let mut turned = numbers.clone();
            turned.rotate_left(turn % numbers.len());
            assert_eq!(sum(&numbers).to_bits(), sum(&turned).to_bits());
        }

        #[test]
        fn the_larger_is_never_the_smaller(a in 0.0..1e6_f64, b in 0.0..1e6_f64) {
            let (low, high) = (a.min(b), a.max(b));
            assert!(Exact::of(low).value() <= Exact::of(high).value());
        }
    }
}
