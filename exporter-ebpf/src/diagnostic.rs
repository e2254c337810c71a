//! What programs say of single events, by aya-log's ring buffer: only of such as are not where they belong, and only
//! when asked (`podmeter run --ebpf-log`).
//!
//! The level is a read-only global; where it is off, the verifier sees that no branch leads here and removes the calls.

use aya_log_ebpf::debug;

/// Says that an event was skipped: the number of the reason, and the owner, or 0. User space makes words of it.
///
/// A function of its own, so that what formatting takes of the stack does not count against the programs.
#[inline(never)]
pub fn skipped(reason: u32, owner: u64) {
    debug!((), "{} {}", reason, owner);
}
