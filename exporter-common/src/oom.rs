//! Keys and values of the `oom` probe: processes that the kernel killed because memory ran out.

use crate::owner::{Counts, Key, REMAINDER};

/// Whose limit was reached when a process was killed.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// That of the victim's own cgroup.
    Own = 0,
    /// That of a cgroup above the victim's.
    Above = 1,
    /// None: the machine had no memory left, or the part of it that the process may use.
    Node = 2,
    /// The hook in use does not see it.
    Unknown = 3,
}

impl Limit {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Own, Self::Above, Self::Node, Self::Unknown];

    /// The value of the label `limit`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Above => "above",
            Self::Node => "node",
            Self::Unknown => "unknown",
        }
    }
}

/// The key of the map `KILLS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// The victim's cgroup.
    pub cgroup_id: u64,
    /// A [`Limit`].
    pub limit: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<Victim>() == 16);

impl Victim {
    /// The key of a victim.
    #[must_use]
    #[inline(always)]
    pub const fn new(cgroup_id: u64, limit: Limit) -> Self {
        Self { cgroup_id, limit: limit as u32, padding: 0 }
    }
}

impl Key for Victim {
    const REMAINDERS: &'static [Self] = &[
        Self::new(REMAINDER, Limit::Own),
        Self::new(REMAINDER, Limit::Above),
        Self::new(REMAINDER, Limit::Node),
        Self::new(REMAINDER, Limit::Unknown),
    ];

    #[inline(always)]
    fn owner(&self) -> u64 {
        self.cgroup_id
    }

    #[inline(always)]
    fn remainder(&self) -> Self {
        Self { cgroup_id: REMAINDER, ..*self }
    }
}

/// What the maps `KILLS` and `LIMITS` (key: the limit's cgroup) hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kills {
    /// Processes killed.
    pub n: u64,
}

const _: () = assert!(size_of::<Kills>() == 8);

impl Counts for Kills {
    const ZERO: Self = Self { n: 0 };
}

/// Most victims' cgroups, times limits, and most limits' cgroups that are counted at once: far more than a node has
/// containers that are killed in ten minutes.
pub const MAX_CGROUPS: u32 = 4096;

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map keys only into types that are marked as plain data.
// SAFETY: repr(C), only integers, no implicit padding (asserted above), and every bit pattern is a value.
unsafe impl aya::Pod for Victim {}

#[cfg(feature = "user")]
// JUSTIFICATION: aya reads map values only into types that are marked as plain data.
// SAFETY: repr(C), one integer, and every bit pattern is a value.
unsafe impl aya::Pod for Kills {}

#[cfg(test)]
mod tests {
    use super::{Limit, Victim};
    use crate::owner::Key as _;

    #[test]
    fn there_is_a_remainder_for_each_limit() {
        for (idx, limit) in (0..).zip(Limit::ALL) {
            assert_eq!(limit as u32, idx);
            assert!(Victim::REMAINDERS.contains(&Victim::new(7, limit).remainder()));
        }
    }
}
