//! Whose an event is: the first eight bytes of every key of a map of counts.

/// The owner that no cgroup and no network namespace has: the remainder of all that found no room in a map, and of
/// events whose owner the kernel does not name.
pub const REMAINDER: u64 = 0;

/// What the owner of a socket is, as the global `SOCKET_OWNER` says it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOwner {
    /// The id of its cgroup in the cgroup2 hierarchy.
    Cgroup = 0,
    /// The inode number of its network namespace, where processes are in no cgroup2 hierarchy (cgroup v1).
    NetworkNamespace = 1,
}

/// How much of a socket is read at once where a packet's owner is its network namespace: up to the cache line's end,
/// and past `skc_net`.
pub const SOCK_HEAD_BYTES: u32 = 64;

/// A key of a map of counts.
pub trait Key: Copy + PartialEq + 'static {
    /// One for each remainder that there is; user space makes their entries before the first event.
    const REMAINDERS: &'static [Self];

    /// Whose the counts are.
    fn owner(&self) -> u64;

    /// The key under which an event is counted where the map has no room; one of [`Self::REMAINDERS`].
    #[must_use]
    fn remainder(&self) -> Self;
}

impl Key for u64 {
    const REMAINDERS: &'static [Self] = &[REMAINDER];

    #[inline(always)]
    fn owner(&self) -> u64 {
        *self
    }

    #[inline(always)]
    fn remainder(&self) -> Self {
        REMAINDER
    }
}

/// A value of a map of counts.
pub trait Counts: Copy + PartialEq + 'static {
    /// Nothing counted yet.
    const ZERO: Self;
}
