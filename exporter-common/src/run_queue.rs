//! Map values of the `run_queue` probe: how long tasks that could run waited for a CPU, per cgroup; and how the moment
//! at which a task began to wait is packed into one word.

use crate::histogram::Histogram;

/// Upper bounds of the histogram, in nanoseconds.
///
/// On an idle machine a task waits for some microseconds, on a busy one for whole slices of a few milliseconds, and
/// behind a CPU quota for up to a period of 100 ms.
pub const BOUNDS_NS: [u64; 17] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
];

/// Number of buckets: one per bound, and the one without a bound.
pub const N_BUCKETS: usize = BOUNDS_NS.len() + 1;

/// What the map `WAITS` holds for one cgroup (key: the cgroup's 64-bit id).
pub type Waits = Histogram<N_BUCKETS>;

/// Most cgroups that are counted at once; the map is allocated when it is created.
///
/// Every cgroup with a task gets an entry; a node runs at most a few hundred pods.
pub const MAX_CGROUPS: u32 = 8192;

/// Slots of the array `WAITING`, which a task finds by the low bits of its number: 512 KiB.
///
/// The kernel gives numbers in turn, so two tasks meet in a slot only if 65,535 were begun between them and both wait
/// at the same time.
pub const N_SLOTS: u32 = 1 << 16;

/// The largest number of a task is below this (`PID_MAX_LIMIT` on 64 bits).
const PID_BITS: u32 = 22;

const SLOT_BITS: u32 = N_SLOTS.trailing_zeros();

/// The bits of a slot that hold the time: nanoseconds for nine years of uptime, and around again.
const TIME_BITS: u32 = u64::BITS - (PID_BITS - SLOT_BITS);

const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Who waits, and since when: one word, so that CPUs which write a slot at once leave one of their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting(u64);

impl Waiting {
    /// What a slot holds of which no task waits.
    pub const NOBODY: u64 = 0;

    /// A task that began to wait at a time.
    #[must_use]
    #[inline(always)]
    pub const fn since(pid: u32, now_ns: u64) -> Self {
        // A time of 0 would look like nobody.
        Self(tag(pid) << TIME_BITS | (now_ns & TIME_MASK | 1))
    }

    /// What a slot holds.
    #[must_use]
    #[inline(always)]
    pub const fn of(word: u64) -> Self {
        Self(word)
    }

    /// The word for the slot.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The slot of a task.
    #[must_use]
    #[inline(always)]
    pub const fn slot(pid: u32) -> u32 {
        pid & (N_SLOTS - 1)
    }

    /// Whether it is this task that waits, and not another one with the same slot.
    #[must_use]
    #[inline(always)]
    pub const fn is(self, pid: u32) -> bool {
        self.0 != Self::NOBODY && self.0 >> TIME_BITS == tag(pid)
    }

    /// For how long it has waited; 0 if that seems to end before it began, which takes clocks of CPUs that differ.
    #[must_use]
    #[inline(always)]
    pub const fn duration_ns(self, now_ns: u64) -> u64 {
        let duration_ns = (now_ns | 1).wrapping_sub(self.0) & TIME_MASK;
        if duration_ns > TIME_MASK / 2 { 0 } else { duration_ns }
    }
}

/// What the slot does not say of a task's number.
#[inline(always)]
const fn tag(pid: u32) -> u64 {
    (pid >> SLOT_BITS) as u64 & ((1 << (PID_BITS - SLOT_BITS)) - 1)
}

#[cfg(test)]
mod tests {
    use super::{TIME_MASK, Waiting};

    #[test]
    fn a_word_knows_its_task_and_its_time() {
        let check = |pid, began, now, expected| {
            let waiting = Waiting::of(Waiting::since(pid, began).word());
            assert!(waiting.is(pid));
            assert_eq!(Waiting::slot(pid), pid % 65_536);
            // The last bit marks a slot that is in use.
            assert_eq!(waiting.duration_ns(now), expected);
        };
        check(1, 0, 1_000_000, 1_000_000);
        check(4_194_303, 1_000, 3_000, 2_000);
        check(65_537, TIME_MASK, TIME_MASK + 12, 12);
        check(65_536, u64::MAX, u64::MAX, 0);
        check(1, 3_000, 1_000, 0);
    }

    #[test]
    fn tasks_with_one_slot_are_told_apart() {
        let (one, other) = (70_000, 70_000 + 65_536);
        assert_eq!(Waiting::slot(one), Waiting::slot(other));
        assert!(!Waiting::since(one, 5).is(other));
        assert!(!Waiting::of(Waiting::NOBODY).is(0));
        assert!(!Waiting::of(Waiting::NOBODY).is(one));
    }
}
