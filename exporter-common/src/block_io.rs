//! Keys and values of the `block_io` probe: how long block requests took, and what they moved, per cgroup, disk and
//! operation.

use crate::{
    histogram::Histogram,
    owner::{Counts, Key, REMAINDER},
};

/// Upper bounds of both histograms, in nanoseconds: from what a fast flash disk takes to what a task notices as a hang.
pub const BOUNDS_NS: [u64; 14] = [
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
    1_000_000_000,
    5_000_000_000,
];

/// Number of buckets: one per bound, and the one without a bound.
pub const N_BUCKETS: usize = BOUNDS_NS.len() + 1;

/// Durations in nanoseconds.
pub type Durations = Histogram<N_BUCKETS>;

/// Most combinations of cgroup, disk and operation that are counted at once; the map is allocated when it is created.
///
/// A node runs a few hundred containers, and each reads and writes one or two disks.
pub const MAX_SERIES: u32 = 8192;

/// Most requests that can be between insertion and completion at once: sixteen disks with a queue of 1024 requests.
pub const MAX_IN_FLIGHT: u32 = 16_384;

/// Most entries that stay for the next request at the same address: the other half is for what is under way at once.
pub const MAX_KEPT: u32 = MAX_IN_FLIGHT / 2;

/// What a request does, as `io.stat` tells it apart, with the flushes beside it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Data comes from the disk.
    Read = 0,
    /// Data goes to the disk, or its blocks are zeroed, erased or reset.
    Write = 1,
    /// Blocks are given back to the disk.
    Discard = 2,
    /// The disk empties its volatile cache.
    Flush = 3,
}

impl Operation {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Discard, Self::Flush];

    /// The operation of a request by its `cmd_flags`; none for a command that a driver makes for itself or passes
    /// through, which is no block IO.
    ///
    /// The numbers of `enum req_op` that are named here have been the same since 4.10, and every operation that
    /// changes the disk is odd: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/blk_types.h>, `op_is_write`.
    #[must_use]
    #[inline(always)]
    pub fn of_request(cmd_flags: u32) -> Option<Self> {
        match cmd_flags & 0xff {
            0 => Some(Self::Read),
            2 => Some(Self::Flush),
            3 => Some(Self::Discard),
            // REQ_OP_SCSI_IN, up to 5.15, is the first that is passed through.
            operation if operation < 32 && operation & 1 == 1 => Some(Self::Write),
            _ => None,
        }
    }

    /// The value of the label `operation`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Discard => "discard",
            Self::Flush => "flush",
        }
    }
}

/// A disk's number, as the kernel keeps it: twelve bits of major and twenty of minor number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device(pub u32);

impl Device {
    /// No disk.
    pub const NONE: Self = Self(0);

    /// The disk with these numbers.
    #[must_use]
    #[inline(always)]
    pub fn new(major: u32, minor: u32) -> Self {
        Self(major << MINOR_BITS | minor)
    }

    /// The major number.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 >> MINOR_BITS
    }

    /// The minor number.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.0 & ((1 << MINOR_BITS) - 1)
    }
}

const MINOR_BITS: u32 = 20;

/// The key of the map `IO`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoKey {
    /// The cgroup's id in the hierarchy that has the io controller.
    pub cgroup: u64,
    /// The disk.
    pub device: Device,
    /// An [`Operation`].
    pub operation: u32,
}

const _: () = assert!(size_of::<IoKey>() == 16);

impl IoKey {
    /// The key of these.
    #[must_use]
    #[inline(always)]
    pub const fn new(cgroup: u64, device: Device, operation: Operation) -> Self {
        Self { cgroup, device, operation: operation as u32 }
    }
}

impl Key for IoKey {
    const REMAINDERS: &'static [Self] = &[
        Self::new(REMAINDER, Device::NONE, Operation::Read),
        Self::new(REMAINDER, Device::NONE, Operation::Write),
        Self::new(REMAINDER, Device::NONE, Operation::Discard),
        Self::new(REMAINDER, Device::NONE, Operation::Flush),
    ];

    #[inline(always)]
    fn owner(&self) -> u64 {
        self.cgroup
    }

    #[inline(always)]
    fn remainder(&self) -> Self {
        Self { cgroup: REMAINDER, device: Device::NONE, operation: self.operation }
    }
}

/// What the map `IO` holds for one key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoCounts {
    /// From issue to completion.
    pub latency: Durations,
    /// From insertion to issue.
    pub queue: Durations,
    /// Bytes of what completed.
    pub n_bytes: u64,
    /// Requests that failed.
    pub n_errors: u64,
}

const _: () = assert!(size_of::<IoCounts>() == 2 * size_of::<Durations>() + 16);

impl Counts for IoCounts {
    const ZERO: Self =
        Self { latency: Durations::ZERO, queue: Durations::ZERO, n_bytes: 0, n_errors: 0 };
}

/// What the map `IN_FLIGHT` holds for one request (key: its address), in nanoseconds of the monotonic clock.
///
/// A request that has ended has neither time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// When it began to wait; 0 where it went straight to the driver.
    pub queued_ns: u64,
    /// When the driver was given it last; 0 while it waits.
    pub issued_ns: u64,
    /// Whether a part of it has failed: 1, else 0.
    pub has_failed: u64,
}

const _: () = assert!(size_of::<InFlight>() == 24);

impl InFlight {
    /// No request is under way at the address.
    pub const ENDED: Self = Self { queued_ns: 0, issued_ns: 0, has_failed: 0 };
}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map keys only into types that are marked as plain data.
// SAFETY: repr(C), only integers, no padding (asserted above), and every bit pattern is a value.
unsafe impl aya::Pod for IoKey {}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map values only into types that are marked as plain data.
// SAFETY: repr(C), only integers of one size, so no padding (asserted above), and every bit pattern is a value.
unsafe impl aya::Pod for IoCounts {}

#[cfg(test)]
mod tests {
    use super::{Device, Operation};

    #[test]
    fn operations_are_told_apart_as_io_stat_does() {
        let check = |flags, expected| assert_eq!(Operation::of_request(flags), expected);
        check(0, Some(Operation::Read));
        check(1, Some(Operation::Write));
        check(2, Some(Operation::Flush));
        check(3, Some(Operation::Discard));
        // Erasing, zeroing, appending to a zone.
        for operation in [5, 7, 9, 21] {
            check(operation, Some(Operation::Write));
        }
        // Passed through, by its numbers up to 5.15 and since.
        for operation in [32, 33, 34, 35] {
            check(operation, None);
        }
        // Flags stand above the operation: REQ_SYNC, REQ_FUA and others.
        check(0x0008_8801, Some(Operation::Write));
    }

    #[test]
    fn operations_stand_at_their_numbers() {
        for (number, operation) in (0..).zip(Operation::ALL) {
            assert_eq!(operation as u32, number);
        }
    }

    #[test]
    fn a_device_has_its_numbers() {
        let device = Device::new(259, 1_048_575);
        assert_eq!((device.major(), device.minor()), (259, 1_048_575));
    }
}
