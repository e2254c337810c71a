//! Map values of the `tcp` probe: what became of handshakes, and what connections suffered, per owner of the socket.

use crate::{histogram::Histogram, owner::Counts};

/// Who began a handshake.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The owner did, by `connect`.
    Client = 0,
    /// A peer did, and the owner listens.
    Server = 1,
}

/// How a handshake ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In a connection.
    Established = 0,
    /// The peer answered with a reset, or a router with "port unreachable" (`ECONNREFUSED`).
    Refused = 1,
    /// No answer (`ETIMEDOUT`).
    TimedOut = 2,
    /// A router or the neighbour lookup said that there is no way (`EHOSTUNREACH`, `ENETUNREACH`).
    Unreachable = 3,
    /// A reset came after the answer (`ECONNRESET`).
    Reset = 4,
    /// No local port was free (`EADDRNOTAVAIL`); nothing was sent.
    NoPort = 5,
    /// The owner closed the socket before there was an answer, or had it closed.
    Aborted = 6,
    /// By an error that is none of these.
    Other = 7,
}

/// Number of roles.
pub const N_ROLES: usize = 2;
/// Number of outcomes.
pub const N_OUTCOMES: usize = 8;

impl Role {
    /// Every role, in the order of the slots.
    pub const ALL: [Self; N_ROLES] = [Self::Client, Self::Server];

    /// The value of the label `role`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl Outcome {
    /// Every outcome, in the order of the slots.
    pub const ALL: [Self; N_OUTCOMES] = [
        Self::Established,
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::Reset,
        Self::NoPort,
        Self::Aborted,
        Self::Other,
    ];

    /// The value of the label `result`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::NoPort => "no_port",
            Self::Aborted => "aborted",
            Self::Other => "other",
        }
    }

    /// Why a handshake failed, by the socket's error (`sock.sk_err`) and whether the socket has a local port.
    #[must_use]
    #[inline(always)]
    pub fn of_failure(error: i32, has_port: bool) -> Self {
        match error {
            0 if !has_port => Self::NoPort,
            0 | ECONNABORTED => Self::Aborted,
            ECONNREFUSED => Self::Refused,
            ETIMEDOUT => Self::TimedOut,
            ENETUNREACH | EHOSTUNREACH => Self::Unreachable,
            ECONNRESET => Self::Reset,
            _ => Self::Other,
        }
    }
}

const ENETUNREACH: i32 = 101;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

/// What the map `TRAFFIC` holds for one owner.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Segments that were sent again.
    pub retransmitted: u64,
    /// Resets sent.
    pub resets_sent: u64,
    /// Resets received for a socket.
    pub resets_received: u64,
    /// Handshakes that ended, at `role * N_OUTCOMES + outcome`.
    pub handshakes: [u64; N_ROLES * N_OUTCOMES],
}

const _: () = assert!(size_of::<Traffic>() == 8 * (3 + N_ROLES * N_OUTCOMES));

impl Counts for Traffic {
    const ZERO: Self = Self {
        retransmitted: 0,
        resets_sent: 0,
        resets_received: 0,
        handshakes: [0; N_ROLES * N_OUTCOMES],
    };
}

/// Where `Traffic::handshakes` counts this.
#[must_use]
#[inline(always)]
pub const fn handshake_idx(role: Role, outcome: Outcome) -> usize {
    role as usize * N_OUTCOMES + outcome as usize
}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map values only into types that are marked as plain data.
// SAFETY: repr(C), only integers of one size, so no padding (asserted above), and every bit pattern is a value.
unsafe impl aya::Pod for Traffic {}

/// Upper bounds of the time that a handshake takes, in nanoseconds.
///
/// Within a machine it takes tens of microseconds, within a data centre less than a millisecond, around the world 300 ms.
/// Whoever is not answered sends a SYN again after 1, 3 and 7 s, so what is above 1 s has lost one, and so on.
pub const CONNECT_BOUNDS_NS: [u64; 15] = [
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
    3_000_000_000,
    7_000_000_000,
];

/// Upper bounds of the smoothed round-trip time, in nanoseconds; the kernel keeps it in microseconds.
pub const RTT_BOUNDS_NS: [u64; 15] = [
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

/// What the map `CONNECT` holds for one owner: how long handshakes took, in nanoseconds.
pub type Connect = Histogram<{ CONNECT_BOUNDS_NS.len() + 1 }>;

/// What the map `RTT` holds for one owner: smoothed round-trip times, in nanoseconds.
pub type Rtt = Histogram<{ RTT_BOUNDS_NS.len() + 1 }>;

/// Most owners that are counted at once; the maps are allocated when they are created.
///
/// A node runs at most a few hundred pods, of a few containers each.
pub const MAX_OWNERS: u32 = 4096;

/// Most handshakes of clients that can be under way at once.
///
/// One whose peer does not answer takes two minutes, so this is more than a hundred of those in each second.
pub const MAX_IN_FLIGHT: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::{N_OUTCOMES, N_ROLES, Outcome, Role, handshake_idx};

    #[test]
    fn each_role_and_outcome_has_a_slot_of_its_own() {
        let pairs = Role::ALL.iter().flat_map(|role| Outcome::ALL.map(|outcome| (*role, outcome)));
        for (slot, (role, outcome)) in pairs.enumerate() {
            assert_eq!(handshake_idx(role, outcome), slot);
            assert!(slot < N_ROLES * N_OUTCOMES);
        }
    }

    #[test]
    fn an_error_becomes_what_an_operator_calls_it() {
        let check = |error, has_port, expected: &str| {
            assert_eq!(Outcome::of_failure(error, has_port).as_str(), expected);
        };
        check(0, true, "aborted");
        check(0, false, "no_port");
        check(101, true, "unreachable");
        check(103, true, "aborted");
        check(104, true, "reset");
        check(110, true, "timed_out");
        check(111, true, "refused");
        check(113, true, "unreachable");
        check(71, true, "other");
    }
}
