//! How long tasks that could run waited for a CPU, per cgroup.
//!
//! Hook: the tracepoint `sched_switch`, with types (`tp_btf`), or raw, where the types of the kernel's fields do not fit.
//! Where it has the two tasks among its arguments differs: behind `preempt` up to 5.17 and since 6.0, behind `prev_state`
//! as well in between.
//!
//! Minimum kernel: 5.10 (tested).
//!
//! Reads: `sched_info` of the task that is switched in, which is the kernel's own account behind `/proc/<pid>/schedstat`.
//! The event comes before the kernel closes the wait there, so `last_queued` still says since when the task waits on this
//! run queue, `run_delay` has its waits up to then, and `pcount` says how many they were.
//! A wait during which the task was moved to another run queue is in `run_delay` for its part before the move: a wait is
//! what has come to `run_delay` since the task last got a CPU, which is noted in an array.
//! The time is that of the run queue (`rq->clock`), which the kernel takes as well, and counts for the cgroup that the task
//! is in when it gets the CPU.
//! Time behind a CPU quota is in it, as it is in `/proc/<pid>/schedstat`.
//!
//! Cost: O(1) per event, without a hash map but for the cgroup's histogram
//! (docs/decisions/0006-run-queue-latency.md).
//! An event is one context switch: up to some hundred thousand per second and machine, which is why this probe is off
//! unless it is asked for.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{btf_tracepoint, map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use podmeter_common::{
    owner::REMAINDER,
    run_queue::{Account, BOUNDS_NS, MAX_CGROUPS, N_SLOTS, Noted, Waited, Waits},
    skip::Skip,
};
use podmeter_ebpf::{
    histogram,
    kernel::{self, Any, Arguments, Memory, Typed},
    offsets, owner, table,
};

offsets! {
    /// `task_struct.pid`: the number of the thread.
    TASK_PID;
    /// `task_struct.sched_info.pcount`: how often it got a CPU after a wait.
    TASK_PCOUNT;
    /// `task_struct.sched_info.run_delay`: for how long it has waited, but for the time since `last_queued`.
    TASK_RUN_DELAY;
    /// `task_struct.sched_info.last_queued`: since when it waits on its run queue; 0 if it does not.
    TASK_LAST_QUEUED;
    /// `task_struct.se.cfs_rq`: the queue of its cgroup on its CPU, whatever class the task is of.
    TASK_CFS_RQ;
    /// `cfs_rq.rq`: the CPU's run queue.
    CFS_RQ_RQ;
    /// `rq.clock`.
    RQ_CLOCK;
    /// Not an offset: which argument of `sched_switch` is the task that is switched in.
    SWITCH_NEXT;
}

/// Waits by cgroup id.
#[map]
static WAITS: HashMap<u64, Waits> = HashMap::with_max_entries(MAX_CGROUPS, 0);

/// What each task's account was when it last got a CPU, by [`Account::slot`].
#[map]
static NOTED: Array<Noted> = Array::with_max_entries(N_SLOTS, 0);

/// Waits that are in no histogram, by [`Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(context: BtfTracePointContext) -> i32 {
    switch::<Typed>(&context)
}

#[raw_tracepoint(tracepoint = "sched_switch")]
fn raw_sched_switch(context: RawTracePointContext) -> i32 {
    switch::<Any>(&context)
}

#[inline(always)]
fn switch<M: Memory>(context: &impl Arguments) -> i32 {
    let next = kernel::third_or_fourth(context, &SWITCH_NEXT);
    let pid: u32 = M::read(next, &TASK_PID);
    let last_queued: u64 = M::read(next, &TASK_LAST_QUEUED);
    // The idle tasks are all 0, one per CPU; the kernel counts no wait where it noted no beginning.
    if pid == 0 || last_queued == 0 {
        return 0;
    }
    let account = Account {
        pid,
        n_arrivals: (M::read::<u64>(next, &TASK_PCOUNT) & 0xffff_ffff) as u32,
        run_delay_ns: M::read(next, &TASK_RUN_DELAY),
        waiting_ns: now::<M>(next).saturating_sub(last_queued),
    };
    if let Some(waited) = arrive(&account) {
        count(owner::of_task::<M>(next), &waited);
    }
    0
}

/// What a task that gets a CPU has waited since it last got one, which is noted again.
#[inline(always)]
fn arrive(account: &Account) -> Option<Waited> {
    let slot = NOTED.get_ptr_mut(account.slot())?;
    // JUSTIFICATION: map values are reached by pointer, and other CPUs may write this one.
    // SAFETY: the map has just given it; words that two CPUs mixed do not pass for a note.
    let noted = unsafe { slot.read_volatile() };
    // JUSTIFICATION: as above.
    // SAFETY: as above.
    unsafe { slot.write_volatile(account.note()) };
    Some(account.waited(noted))
}

/// The time of the run queue of the task's CPU, in nanoseconds: the kernel has just brought it up to date, and takes it for
/// its own account.
#[inline(always)]
fn now<M: Memory>(task: usize) -> u64 {
    let rq = M::read(M::read(task, &TASK_CFS_RQ), &CFS_RQ_RQ);
    M::read(rq, &RQ_CLOCK)
}

#[inline(always)]
fn count(cgroup_id: u64, waited: &Waited) {
    if cgroup_id == REMAINDER {
        table::skip(&SKIPPED, Skip::NoOwner);
    }
    let Some(waits) = table::entry(&WAITS, &cgroup_id, &SKIPPED) else { return };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the map has just given it.
    unsafe { histogram::observe(waits, &BOUNDS_NS, waited.last_ns) };
    if waited.n_unseen > 0 {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it.
        unsafe { histogram::observe_many(waits, &BOUNDS_NS, waited.n_unseen, waited.unseen_ns) };
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
