//! Keys and values of the `drops` probe: packets that the kernel threw away, by owner of the socket and reason.

use crate::owner::{Counts, Key, REMAINDER};

/// What the kernel gave as its reason, as far as it is counted apart: one of [`N_REASONS`] numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(u32);

/// Reasons of `enum skb_drop_reason` that are counted apart; 7.3 has 126.
pub const N_CORE: u32 = 200;

/// Subsystems whose reasons are counted as one, each; 7.3 has three.
pub const N_SUBSYSTEMS: u32 = 15;

/// All reasons: those of the kernel's core, the subsystems, and one for all others.
pub const N_REASONS: u32 = N_CORE + N_SUBSYSTEMS + 1;

impl Reason {
    /// Any that is neither among the first of the core nor of the first subsystems.
    pub const OTHER: Self = Self(N_REASONS - 1);

    /// The number of a value of `enum skb_drop_reason`, whose upper half is the number of a subsystem; the core is 0.
    #[must_use]
    #[inline(always)]
    pub const fn of(value: u32) -> Self {
        let subsystem = value >> 16;
        if value < N_CORE {
            Self(value)
        } else if subsystem > 0 && subsystem <= N_SUBSYSTEMS {
            Self(N_CORE + subsystem - 1)
        } else {
            Self::OTHER
        }
    }

    /// The number of a value of `enum skb_drop_reason_subsys`.
    #[must_use]
    pub const fn of_subsystem(value: u32) -> Self {
        Self::of(value.saturating_mul(1 << 16))
    }

    /// The number.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The key of the map `DROPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The owner of the socket; the remainder where there is none.
    pub owner: u64,
    /// A [`Reason`].
    pub reason: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<Drop>() == 16);

impl Drop {
    /// The key of an owner and a reason.
    #[must_use]
    #[inline(always)]
    pub const fn new(owner: u64, reason: Reason) -> Self {
        Self { owner, reason: reason.0, padding: 0 }
    }
}

impl Key for Drop {
    const REMAINDERS: &'static [Self] = &REMAINDERS;

    #[inline(always)]
    fn owner(&self) -> u64 {
        self.owner
    }

    #[inline(always)]
    fn remainder(&self) -> Self {
        Self { owner: REMAINDER, ..*self }
    }
}

/// Packets that belong to no socket are counted here, so these are no rare case.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, below the length")]
static REMAINDERS: [Drop; N_REASONS as usize] = {
    let mut keys = [Drop::new(REMAINDER, Reason(0)); N_REASONS as usize];
    let mut reason = 0;
    while reason < N_REASONS {
        keys[reason as usize] = Drop::new(REMAINDER, Reason(reason));
        reason += 1;
    }
    keys
};

/// The value of the map `DROPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Packets as the kernel holds them: one that is to be cut into segments is one.
    pub n_packets: u64,
}

const _: () = assert!(size_of::<Dropped>() == 8);

impl Counts for Dropped {
    const ZERO: Self = Self { n_packets: 0 };
}

/// Most pairs of an owner and a reason that are counted at once; the map is allocated when it is created.
///
/// A node runs at most a few hundred pods of a few containers, whose packets are dropped for a handful of reasons.
pub const MAX_DROPS: u32 = 16_384;

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads maps only into types that are marked as plain data.
// SAFETY: repr(C), only integers, no padding but a field of its own (asserted above), and every bit pattern is a value.
unsafe impl aya::Pod for Drop {}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads maps only into types that are marked as plain data.
// SAFETY: repr(C), one integer, so no padding (asserted above), and every bit pattern is a value.
unsafe impl aya::Pod for Dropped {}

#[cfg(test)]
mod tests {
    use super::{Drop, N_CORE, N_REASONS, REMAINDERS, Reason};
    use crate::owner::Key as _;

    #[test]
    fn every_value_has_one_number_within_the_bound() {
        let check = |value, expected| assert_eq!(Reason::of(value).number(), expected);
        check(0, 0);
        check(N_CORE - 1, N_CORE - 1);
        check(N_CORE, N_REASONS - 1);
        check(0xffff, N_REASONS - 1);
        check(0x1_0000, N_CORE);
        check(0x1_0007, N_CORE);
        check(0xf_0000, N_REASONS - 2);
        check(0x10_0000, N_REASONS - 1);
        check(u32::MAX, N_REASONS - 1);
        assert_eq!(Reason::of_subsystem(2), Reason::of(0x2_0001));
        assert_eq!(Reason::of_subsystem(0), Reason::of(0));
        assert_eq!(Reason::of_subsystem(u32::MAX), Reason::OTHER);
    }

    #[test]
    fn every_reason_has_a_remainder() {
        for value in [0, 5, N_CORE, 0x2_0000] {
            let key = Drop::new(77, Reason::of(value));
            assert!(REMAINDERS.contains(&key.remainder()));
        }
    }
}
