//! Why an event is in no family of its probe, or not where it belongs: slots of each object's per-CPU array `SKIPPED`.

/// The reasons of all probes; each probe's table row names those that it can give.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The map of counts was full, so the event is in the remainder of all that have no entry of their own.
    Folded = 0,
    /// The map of what has begun and not ended was full: the beginning could not be kept.
    InFlightFull = 1,
    /// The end was before the beginning, by the clock that both are taken from.
    ClockBackwards = 2,
    /// The end of something whose beginning was not seen: it was under way when the probe attached.
    NoEntry = 3,
    /// `unthrottle_cfs_rq` put the unthrottle off, so no throttle ended (6.18 and later).
    ReturnedEarly = 4,
    /// The throttle has no start time, because no task was waiting: the kernel gives it no duration either.
    NoDuration = 5,
    /// The map of counts was full and had not even a remainder.
    Lost = 6,
    /// Whose it was could not be found out.
    NoOwner = 7,
}

/// Number of slots of `SKIPPED`.
pub const N_SKIPS: u32 = 8;

impl Skip {
    /// Every reason, in the order of the slots.
    pub const ALL: [Self; N_SKIPS as usize] = [
        Self::Folded,
        Self::InFlightFull,
        Self::ClockBackwards,
        Self::NoEntry,
        Self::ReturnedEarly,
        Self::NoDuration,
        Self::Lost,
        Self::NoOwner,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Folded => "folded",
            Self::InFlightFull => "in_flight_full",
            Self::ClockBackwards => "clock_backwards",
            Self::NoEntry => "no_entry",
            Self::ReturnedEarly => "returned_early",
            Self::NoDuration => "no_duration",
            Self::Lost => "lost",
            Self::NoOwner => "no_owner",
        }
    }
}
