//! How long each CFS throttle lasted, per cgroup that owns the quota.
//!
//! Hooks: entry and exit of `unthrottle_cfs_rq`, by fentry and fexit, or by kprobe and kretprobe where the kernel
//! refuses those.
//! The function is not static and has had one argument, `struct cfs_rq *`, since CFS bandwidth control exists.
//! `throttle_cfs_rq` is not hooked: it is entered without a throttle, and on 7.3 two to three times for each.
//!
//! Minimum kernel: 5.10 (tested); fentry needs 5.5 and `CONFIG_FUNCTION_TRACER`, the kprobe needs `CONFIG_KPROBES`.
//!
//! Reads: at entry `cfs_rq->throttled_clock`, at exit `cfs_rq->rq->clock`, whose difference is what the kernel itself
//! adds to `cpu.stat`'s `throttled_usec`, because the function brings `rq->clock` up to date before it subtracts.
//! At entry `rq->clock` is stale, and after the function `throttled_clock` is cleared (seen on 6.12) or already the start
//! of the next throttle (seen on 6.18), so neither end alone has both.
//! Since 6.18 the function returns at once while the `cfs_rq` has no runtime; such a call ends no throttle.
//!
//! Cost: O(1) per event: four operations on preallocated hash maps and seven to nine reads of kernel memory at fixed
//! offsets, which take 0.5 to 1 times what reading one `cpu.stat` takes (docs/overhead.md has the runs).
//! An event is one unthrottle of one cgroup on one CPU, so there are at most ten per second, CPU and cgroup with the
//! default period of 100 ms.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe, map},
    maps::{HashMap, PerCpuArray},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use podmeter_common::{
    cpu_throttle::{BOUNDS_NS, MAX_CGROUPS, MAX_IN_FLIGHT, Throttles},
    skip::Skip,
};
use podmeter_ebpf::{histogram, kernel, offsets, owner, table};

offsets! {
    /// `cfs_rq.tg`: the task group, and so the cgroup, that the run queue belongs to.
    CFS_RQ_TG;
    /// `cfs_rq.rq`: the CPU's run queue.
    CFS_RQ_RQ;
    /// `cfs_rq.throttled_clock`: when the throttle began, by `rq->clock`.
    CFS_RQ_THROTTLED_CLOCK;
    /// `cfs_rq.runtime_enabled`: whether a quota is set.
    CFS_RQ_RUNTIME_ENABLED;
    /// `cfs_rq.runtime_remaining`: what is left of the slice, in nanoseconds.
    CFS_RQ_RUNTIME_REMAINING;
    /// `rq.clock`.
    RQ_CLOCK;
    /// Not an offset: 1 where `unthrottle_cfs_rq` returns early without runtime (6.18 and later), else 0.
    RETURNS_EARLY;
}

/// Throttles by cgroup id.
#[map]
static THROTTLES: HashMap<u64, Throttles> = HashMap::with_max_entries(MAX_CGROUPS, 0);

/// The start of the throttle that is being ended, by the address of its `cfs_rq`.
#[map]
static IN_FLIGHT: HashMap<u64, u64> = HashMap::with_max_entries(MAX_IN_FLIGHT, 0);

/// The `cfs_rq` of the kprobe that was entered last on this CPU: a kretprobe has no arguments.
///
/// Callers hold the run queue's lock with interrupts off, so one CPU is in at most one unthrottle at a time.
#[map]
static ENTERED: PerCpuArray<usize> = PerCpuArray::with_max_entries(1, 0);

/// Calls that are in no histogram, by [`Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

/// In `IN_FLIGHT`: this call ends no throttle.
const RETURNED_EARLY: u64 = u64::MAX;

#[fentry(function = "unthrottle_cfs_rq")]
fn fentry_unthrottle(context: FEntryContext) -> i32 {
    enter(context.arg(0));
    0
}

#[fexit(function = "unthrottle_cfs_rq")]
fn fexit_unthrottle(context: FExitContext) -> i32 {
    leave(context.arg(0));
    0
}

#[kprobe(function = "unthrottle_cfs_rq")]
fn kprobe_unthrottle(context: ProbeContext) -> u32 {
    let Some(cfs_rq) = context.arg::<usize>(0) else {
        return 0;
    };
    if let Some(entered) = ENTERED.get_ptr_mut(0) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the slot is this CPU's, and nothing else writes it before the kretprobe.
        unsafe { *entered = cfs_rq };
    }
    enter(cfs_rq);
    0
}

#[kretprobe(function = "unthrottle_cfs_rq")]
fn kretprobe_unthrottle(_context: RetProbeContext) -> u32 {
    let Some(entered) = ENTERED.get_ptr_mut(0) else {
        return 0;
    };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the slot is this CPU's, and nothing else writes it between kprobe and kretprobe.
    let cfs_rq = unsafe { entered.replace(0) };
    if cfs_rq == 0 {
        skip(Skip::NoEntry);
    } else {
        leave(cfs_rq);
    }
    0
}

#[inline(always)]
fn enter(cfs_rq: usize) {
    let started = if returns_early(cfs_rq) {
        RETURNED_EARLY
    } else {
        kernel::read(cfs_rq, &CFS_RQ_THROTTLED_CLOCK)
    };
    if IN_FLIGHT.insert(cfs_rq as u64, started, 0).is_err() {
        skip(Skip::InFlightFull);
    }
}

/// The condition with which `unthrottle_cfs_rq` itself returns, where it does so.
#[inline(always)]
fn returns_early(cfs_rq: usize) -> bool {
    kernel::global(&RETURNS_EARLY) == 1
        && kernel::read::<i32>(cfs_rq, &CFS_RQ_RUNTIME_ENABLED) != 0
        && kernel::read::<i64>(cfs_rq, &CFS_RQ_RUNTIME_REMAINING) <= 0
}

#[inline(always)]
fn leave(cfs_rq: usize) {
    let key = cfs_rq as u64;
    // JUSTIFICATION: map values are reached by reference into the map.
    // SAFETY: the value is copied at once, and only this CPU, which holds the run queue's lock, uses this key.
    let Some(started) = (unsafe { IN_FLIGHT.get(key) }).copied() else {
        skip(Skip::NoEntry);
        return;
    };
    if IN_FLIGHT.remove(key).is_err() {
        skip(Skip::NoEntry);
    }
    if started == RETURNED_EARLY {
        skip(Skip::ReturnedEarly);
        return;
    }
    if started == 0 {
        skip(Skip::NoDuration);
        return;
    }
    let rq: usize = kernel::read(cfs_rq, &CFS_RQ_RQ);
    let clock: u64 = kernel::read(rq, &RQ_CLOCK);
    if clock < started {
        skip(Skip::ClockBackwards);
        return;
    }
    let task_group = kernel::read(cfs_rq, &CFS_RQ_TG);
    count(owner::of_task_group::<kernel::Any>(task_group), clock - started);
}

#[inline(always)]
fn count(cgroup_id: u64, duration_ns: u64) {
    if let Some(throttles) = table::entry(&THROTTLES, &cgroup_id, &SKIPPED) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it.
        unsafe { histogram::observe(throttles, &BOUNDS_NS, duration_ns) };
    }
}

#[inline(always)]
fn skip(reason: Skip) {
    table::skip(&SKIPPED, reason);
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
