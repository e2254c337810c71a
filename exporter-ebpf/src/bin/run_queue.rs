//! How long tasks that could run waited for a CPU, per cgroup.
//!
//! Hooks: the tracepoints `sched_switch`, `sched_wakeup` and `sched_wakeup_new`, in this order, so that no task is noted
//! as waiting whose start nobody sees: with types (`tp_btf`), or raw, where the types of the kernel's fields do not fit.
//! Where `sched_switch` has the two tasks among its arguments differs: behind `preempt` up to 5.17 and since 6.0, behind
//! `prev_state` as well in between.
//!
//! Minimum kernel: 5.10 (tested).
//!
//! Reads: a task begins to wait when it is woken, or when it is switched out and could go on (it was preempted, or its
//! `__state` is running); it ends when it is switched in.
//! `sched_wakeup` is also given for a task that already waits, and for one that runs, both of which begin nothing.
//! The argument `prev_state` is not used: older kernels say "sleeping" there of a task that found a signal and goes on.
//! The time is that of the run queue (`rq->clock`), and counts for the cgroup that the task is in when it gets the CPU.
//! Time behind a CPU quota is in it, as it is in `/proc/<pid>/schedstat`.
//!
//! Cost: O(1) per event, without a hash map but for the cgroup's histogram: who waits since when stands in an array,
//! one word for each task (docs/decisions/0006-run-queue-latency.md).
//! An event is one context switch or one wakeup: up to some hundred thousand per second and machine, which is why this
//! probe is off unless it is asked for.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{btf_tracepoint, map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use podmeter_common::{
    owner::REMAINDER,
    run_queue::{BOUNDS_NS, MAX_CGROUPS, N_SLOTS, Waiting, Waits},
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
    /// `task_struct.__state`, `state` before 5.14: 0 where it could run; the upper half of the older one is not used.
    TASK_STATE;
    /// `task_struct.on_cpu`: 1 while it runs; an int in 6.18, of which the lowest byte is used, and a byte in 7.3.
    TASK_ON_CPU;
    /// `task_struct.se.cfs_rq`: the queue of its cgroup on its CPU, whatever class the task is of.
    TASK_CFS_RQ;
    /// `cfs_rq.rq`: the CPU's run queue.
    CFS_RQ_RQ;
    /// `rq.clock`.
    RQ_CLOCK;
    /// Not an offset: which argument of `sched_switch` is the task that is switched out; the next one is switched in.
    SWITCH_PREV;
}

/// Waits by cgroup id.
#[map]
static WAITS: HashMap<u64, Waits> = HashMap::with_max_entries(MAX_CGROUPS, 0);

/// Who waits since when, as [`Waiting`], by [`Waiting::slot`].
#[map]
static WAITING: Array<u64> = Array::with_max_entries(N_SLOTS, 0);

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

#[btf_tracepoint(function = "sched_wakeup")]
fn sched_wakeup(context: BtfTracePointContext) -> i32 {
    woken::<Typed>(context.get(0))
}

#[raw_tracepoint(tracepoint = "sched_wakeup")]
fn raw_sched_wakeup(context: RawTracePointContext) -> i32 {
    woken::<Any>(context.get(0))
}

#[btf_tracepoint(function = "sched_wakeup_new")]
fn sched_wakeup_new(context: BtfTracePointContext) -> i32 {
    woken::<Typed>(context.get(0))
}

#[raw_tracepoint(tracepoint = "sched_wakeup_new")]
fn raw_sched_wakeup_new(context: RawTracePointContext) -> i32 {
    woken::<Any>(context.get(0))
}

#[inline(always)]
fn switch<M: Memory>(context: &impl Arguments) -> i32 {
    // The verifier takes no index that is not in the program's text, and the tracepoint none that it does not have.
    let (first, second) = (context.get(1), context.get(2));
    let (prev, next) =
        if kernel::global(&SWITCH_PREV) == 1 { (first, second) } else { (second, context.get(3)) };
    let is_preempted = context.get(0) & 0xff != 0;
    let now = now::<M>(next);
    let goes_on = is_preempted || M::read::<u32>(prev, &TASK_STATE) == TASK_RUNNING;
    let prev_pid = M::read(prev, &TASK_PID);
    if goes_on {
        begin(prev_pid, now);
    } else {
        sleep(prev_pid);
    }
    end::<M>(next, now);
    0
}

/// A task begins to wait, if it does not wait already.
///
/// The kernel says the same of a task that runs, when it was about to sleep and need not any more; whoever says so holds
/// the lock under which the task would have left its CPU, or is that task.
#[inline(always)]
fn woken<M: Memory>(task: usize) -> i32 {
    if M::read::<u8>(task, &TASK_ON_CPU) != 0 {
        return 0;
    }
    begin(M::read(task, &TASK_PID), now::<M>(task));
    0
}

/// Notes that a task waits; of one that waits already, the first moment stays.
#[inline(always)]
fn begin(pid: u32, now: u64) {
    let Some(slot) = slot(pid) else {
        return;
    };
    let found = read(slot);
    if found == Waiting::NOBODY {
        write(slot, Waiting::since(pid, now).word());
    } else if !Waiting::of(found).is(pid) {
        table::skip(&SKIPPED, Skip::InFlightFull);
    }
}

/// A task gives its CPU back and sleeps: whatever was noted of it is over.
#[inline(always)]
fn sleep(pid: u32) {
    if let Some(slot) = slot(pid)
        && Waiting::of(read(slot)).is(pid)
    {
        write(slot, Waiting::NOBODY);
    }
}

/// A task gets a CPU.
#[inline(always)]
fn end<M: Memory>(task: usize, now: u64) {
    let pid: u32 = M::read(task, &TASK_PID);
    let Some(slot) = slot(pid) else {
        return;
    };
    let waiting = Waiting::of(read(slot));
    if !waiting.is(pid) {
        table::skip(&SKIPPED, Skip::NoEntry);
        return;
    }
    write(slot, Waiting::NOBODY);
    count(owner::of_task::<M>(task), waiting.duration_ns(now));
}

/// The time of the run queue of the task's CPU, in nanoseconds: the kernel has just brought it up to date, and takes it for
/// its own account.
#[inline(always)]
fn now<M: Memory>(task: usize) -> u64 {
    let rq = M::read(M::read(task, &TASK_CFS_RQ), &CFS_RQ_RQ);
    M::read(rq, &RQ_CLOCK)
}

/// The word of a task; none of the idle tasks, which are all 0, one per CPU, and wait for nothing.
///
/// Whoever is given it is on a CPU that holds the lock of the task's run queue, so nobody else changes what is known of
/// this task; another one with the same word may.
#[inline(always)]
fn slot(pid: u32) -> Option<*mut u64> {
    if pid == 0 {
        return None;
    }
    WAITING.get_ptr_mut(Waiting::slot(pid))
}

#[inline(always)]
fn read(slot: *mut u64) -> u64 {
    // JUSTIFICATION: map values are reached by pointer, and other CPUs may write this one.
    // SAFETY: the map has just given it, and an aligned word is read at once.
    unsafe { slot.read_volatile() }
}

#[inline(always)]
fn write(slot: *mut u64, word: u64) {
    // JUSTIFICATION: map values are reached by pointer, and other CPUs may write this one.
    // SAFETY: the map has just given it, and an aligned word is written at once.
    unsafe { slot.write_volatile(word) };
}

#[inline(always)]
fn count(cgroup_id: u64, duration_ns: u64) {
    if cgroup_id == REMAINDER {
        table::skip(&SKIPPED, Skip::NoOwner);
    }
    if let Some(waits) = table::entry(&WAITS, &cgroup_id, &SKIPPED) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it.
        unsafe { histogram::observe(waits, &BOUNDS_NS, duration_ns) };
    }
}

const TASK_RUNNING: u32 = 0;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
