//! Map values of the `network` probe: what each owner of sockets received and sent.

use crate::owner::Counts;

/// Which way a packet goes, as the socket sees it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the socket.
    Receive = 0,
    /// From the socket.
    Transmit = 1,
}

/// The version of IP that a packet has, whatever the socket was made for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// Version 4.
    V4 = 0,
    /// Version 6.
    V6 = 1,
}

/// What passed in one direction with one version of IP.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Bytes of all packets, with the IP header of each and without link headers.
    pub bytes: u64,
    /// Socket buffers that carried the packets; one may hold many packets of one TCP connection.
    pub buffers: u64,
    /// Packets of the wire that buffers held beyond their first; few buffers have any.
    pub more_packets: u64,
}

impl Flow {
    /// Packets as they are on the wire.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.buffers + self.more_packets
    }
}

/// What the map `TRAFFIC` holds for one owner (key: a cgroup's 64-bit id, or a network namespace's inode number).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// By [`flow_idx`].
    pub flows: [Flow; N_FLOWS],
}

const _: () = assert!(size_of::<Traffic>() == 8 * 3 * N_FLOWS);

/// Number of flows: two directions of two versions.
pub const N_FLOWS: usize = 4;

/// Most owners that are counted at once; the map is allocated when it is created.
///
/// Every container that has sockets is one, and a node runs at most a few hundred pods.
pub const MAX_OWNERS: u32 = 8192;

/// The place of a flow in [`Traffic::flows`].
#[must_use]
#[inline(always)]
pub fn flow_idx(direction: Direction, family: IpFamily) -> usize {
    2 * direction as usize + family as usize
}

impl Direction {
    /// Both, in the order of the flows.
    pub const ALL: [Self; 2] = [Self::Receive, Self::Transmit];

    /// The value of the label `direction`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Transmit => "transmit",
        }
    }
}

impl IpFamily {
    /// Both, in the order of the flows.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The value of the label `ip_family`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

impl Counts for Traffic {
    const ZERO: Self = Self { flows: [Flow { bytes: 0, buffers: 0, more_packets: 0 }; N_FLOWS] };
}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map values only into types that are marked as plain data.
// SAFETY: repr(C), only integers of one size, so no padding (asserted above), and every bit pattern is a value.
unsafe impl aya::Pod for Traffic {}

#[cfg(test)]
mod tests {
    use super::{Direction, IpFamily, N_FLOWS, flow_idx};

    #[test]
    fn every_flow_has_a_place_of_its_own() {
        let kinds = Direction::ALL.map(|direction| IpFamily::ALL.map(|family| (direction, family)));
        let places =
            kinds.map(|kinds| kinds.map(|(direction, family)| flow_idx(direction, family)));
        assert_eq!(places, [[0, 1], [2, N_FLOWS - 1]]);
    }
}
