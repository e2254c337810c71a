//! Map values of the `cpu_throttle` probe: how long each CFS throttle lasted, per cgroup.

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

/// Most cgroups that are counted at once; the map is allocated when it is created.
///
/// A node runs at most a few hundred pods, and only a cgroup that has a quota of its own ever gets an entry.
pub const MAX_CGROUPS: u32 = 8192;

/// Most unthrottles that can be between entry and exit at once: one per CPU, with room for nesting.
pub const MAX_IN_FLIGHT: u32 = 4096;

/// What the map `THROTTLES` holds for one cgroup (key: the cgroup's 64-bit id).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttles {
    /// Sum of the durations in nanoseconds, by the kernel's own clock of the run queue.
    pub sum_ns: u64,
    /// Throttles by duration, not cumulative.
    pub buckets: [u64; N_BUCKETS],
}

const _: () = assert!(size_of::<Throttles>() == 8 * (1 + N_BUCKETS));

/// Slots of the per-CPU array `SKIPPED`: ends of `unthrottle_cfs_rq` that are not in `THROTTLES`, by reason.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// `THROTTLES` was full: a throttle of a cgroup that has no entry.
    MapFull = 0,
    /// `IN_FLIGHT` was full: the start of an unthrottle could not be kept.
    InFlightFull = 1,
    /// The run queue's clock was behind the start of the throttle.
    ClockBackwards = 2,
    /// The unthrottle ended without its entry having been seen: it was running when the probe attached.
    NoEntry = 3,
    /// No throttle ended: the kernel put the unthrottle off (6.18 and later).
    ReturnedEarly = 4,
    /// The throttle has no start time, because no task was waiting: the kernel gives it no duration either.
    NoDuration = 5,
}

/// Number of slots of `SKIPPED`.
pub const N_SKIPS: u32 = 6;

const _: () = assert!(Skip::ALL.len() == N_SKIPS as usize);

impl Skip {
    /// Every reason, in the order of the slots.
    pub const ALL: [Self; 6] = [
        Self::MapFull,
        Self::InFlightFull,
        Self::ClockBackwards,
        Self::NoEntry,
        Self::ReturnedEarly,
        Self::NoDuration,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MapFull => "map_full",
            Self::InFlightFull => "in_flight_full",
            Self::ClockBackwards => "clock_backwards",
            Self::NoEntry => "no_entry",
            Self::ReturnedEarly => "returned_early",
            Self::NoDuration => "no_duration",
        }
    }
}

impl Throttles {
    /// A cgroup with no throttle yet.
    pub const ZERO: Self = Self { sum_ns: 0, buckets: [0; N_BUCKETS] };
}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map values only into types that are marked as plain data.
// SAFETY: repr(C), only integers, no padding (asserted above), every bit pattern is a value.
unsafe impl aya::Pod for Throttles {}
