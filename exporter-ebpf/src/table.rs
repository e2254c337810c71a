//! Maps of counts: one entry per owner, made by its first event, and a remainder for those that find no room.

use aya_ebpf::maps::{HashMap, PerCpuArray};
use podmeter_common::{
    owner::{Counts, Key, REMAINDER},
    skip::{N_SKIPS, Skip},
};

use crate::{counter, diagnostic};

/// The per-CPU array `SKIPPED` that every object has: events that are not where they belong, by [`Skip`].
pub type Skipped = PerCpuArray<u64>;

/// An empty `SKIPPED`.
#[must_use]
pub const fn skipped() -> Skipped {
    PerCpuArray::with_max_entries(N_SKIPS, 0)
}

/// Counts an event that is not where it belongs.
#[inline(always)]
pub fn skip(skipped: &Skipped, reason: Skip) {
    skip_of(skipped, reason, REMAINDER);
}

/// Counts an event of a known owner that is not where it belongs.
#[inline(always)]
fn skip_of(skipped: &Skipped, reason: Skip, owner: u64) {
    if let Some(count) = skipped.get_ptr_mut(reason as u32) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the slot is this CPU's; programs of packets may be interrupted by others, so the addition is atomic.
        unsafe { counter::add(count, 1) };
    }
    diagnostic::skipped(reason as u32, owner);
}

/// The entry of a key, which its first event makes; where the map is full, that of the key's remainder, which user
/// space has made.
#[inline(always)]
pub fn entry<K: Key, V: Counts>(map: &HashMap<K, V>, key: &K, skipped: &Skipped) -> Option<*mut V> {
    if let Some(value) = map.get_ptr_mut(key) {
        return Some(value);
    }
    // Another CPU may make the entry first; then this insert fails, and the second look finds that one.
    let _already_there = map.insert(key, V::ZERO, BPF_NOEXIST);
    if let Some(value) = map.get_ptr_mut(key) {
        return Some(value);
    }
    let folded = map.get_ptr_mut(key.remainder());
    let reason = if folded.is_some() { Skip::Folded } else { Skip::Lost };
    skip_of(skipped, reason, key.owner());
    folded
}

const BPF_NOEXIST: u64 = 1;
