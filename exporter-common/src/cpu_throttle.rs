//! Map values of the `cpu_throttle` probe: how long each CFS throttle lasted, per cgroup.

use crate::histogram::Histogram;

/// Upper bounds of the histogram, in nanoseconds.
///
/// A throttle ends at the latest when the next period refills the quota, so with the default period of 100 ms nearly
/// all of them last between 10 and 100 ms: the bounds are ten milliseconds apart there, and coarse elsewhere.
pub const BOUNDS_NS: [u64; 17] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    40_000_000,
    50_000_000,
    60_000_000,
    70_000_000,
    80_000_000,
    90_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// Number of buckets: one per bound, and the one without a bound.
pub const N_BUCKETS: usize = BOUNDS_NS.len() + 1;

/// What the map `THROTTLES` holds for one cgroup (key: the cgroup's 64-bit id): durations in nanoseconds, by the
/// kernel's own clock of the run queue.
pub type Throttles = Histogram<N_BUCKETS>;

/// Most cgroups that are counted at once; the map is allocated when it is created.
///
/// A node runs at most a few hundred pods, and only a cgroup that has a quota of its own ever gets an entry.
pub const MAX_CGROUPS: u32 = 8192;

/// Most unthrottles that can be between entry and exit at once: one per CPU, with room for nesting.
pub const MAX_IN_FLIGHT: u32 = 4096;
