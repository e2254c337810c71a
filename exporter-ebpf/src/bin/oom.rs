//! Processes that the kernel killed because memory ran out, by the victim's cgroup and by that of the limit.
//!
//! Hooks: entry of `oom_kill_process`, which knows whose limit was reached (`oom_control.memcg`), and of
//! `__oom_kill_process`, which it calls for each process that it kills: more than one where `memory.oom.group` is set.
//! By fentry, or by kprobe where the kernel refuses it.
//! Where neither is to be had, the raw tracepoint `mark_victim` gives the victim but not the limit; it has the victim
//! itself as its argument since 6.9, and before that only a process id, which is of no use.
//! It is also given for a process that was ending already, which the kernel does not count as killed.
//!
//! Minimum kernel: 5.10 (tested).
//!
//! Reads: the victim's cgroup from the victim, never from the task that happened to ask for memory.
//! All of it runs under the kernel's `oom_lock`, so there is one such call at a time on the whole machine.
//!
//! Cost: of no weight; an event is one killed process.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{fentry, kprobe, map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use podmeter_common::{
    oom::{Kills, Limit, MAX_CGROUPS, Victim},
    owner::REMAINDER,
    skip::Skip,
};
use podmeter_ebpf::{counter, kernel, offsets, owner, table};

offsets! {
    /// `oom_control.memcg`: whose limit was reached; 0 where the machine has no memory left.
    OOM_CONTROL_MEMCG;
    /// `mem_cgroup.css.cgroup`.
    MEM_CGROUP_CGROUP;
    /// `css_set.subsys[memory_cgrp_id]`: the state of the memory controller, which is the beginning of a `mem_cgroup`.
    CSS_SET_MEMORY;
    /// `task_struct.mm`: 0 of a process that has given its memory back already.
    TASK_MM;
}

/// Killed processes by victim.
#[map]
static KILLS: HashMap<Victim, Kills> = HashMap::with_max_entries(MAX_CGROUPS, 0);

/// Killed processes by the cgroup of the limit.
#[map]
static LIMITS: HashMap<u64, Kills> = HashMap::with_max_entries(MAX_CGROUPS, 0);

/// The `mem_cgroup` of the call of `oom_kill_process` that is under way.
#[map]
static UNDER_WAY: Array<usize> = Array::with_max_entries(1, 0);

/// Kills that are not where they belong, by [`Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

#[fentry(function = "oom_kill_process")]
fn fentry_decide(context: FEntryContext) -> i32 {
    decide(context.arg(0));
    0
}

#[fentry(function = "__oom_kill_process")]
fn fentry_kill(context: FEntryContext) -> i32 {
    kill(context.arg(0));
    0
}

#[kprobe(function = "oom_kill_process")]
fn kprobe_decide(context: ProbeContext) -> u32 {
    if let Some(oom_control) = context.arg(0) {
        decide(oom_control);
    }
    0
}

#[kprobe(function = "__oom_kill_process")]
fn kprobe_kill(context: ProbeContext) -> u32 {
    if let Some(victim) = context.arg(0) {
        kill(victim);
    }
    0
}

#[raw_tracepoint(tracepoint = "mark_victim")]
fn mark_victim(context: RawTracePointContext) -> i32 {
    count_victim(context.arg(0), Limit::Unknown);
    0
}

#[inline(always)]
fn decide(oom_control: usize) {
    if let Some(under_way) = UNDER_WAY.get_ptr_mut(0) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it, and the caller holds the lock under which all of them are called.
        unsafe { *under_way = kernel::read(oom_control, &OOM_CONTROL_MEMCG) };
    }
}

#[inline(always)]
fn kill(victim: usize) {
    // The kernel leaves such a one alone, and counts nothing.
    if kernel::read::<usize>(victim, &TASK_MM) == 0 {
        return;
    }
    let Some(under_way) = UNDER_WAY.get_ptr(0) else {
        return;
    };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the map has just given it, and the caller holds the lock under which all of them are called.
    let mem_cgroup = unsafe { *under_way };
    if mem_cgroup == 0 {
        count_victim(victim, Limit::Node);
        return;
    }
    let limit = owner::of_cgroup::<kernel::Any>(kernel::read(mem_cgroup, &MEM_CGROUP_CGROUP));
    let is_own = if owner::is_v1() {
        // The ids of the memory and the cpu hierarchies have nothing to do with each other.
        owner::css_of_task::<kernel::Any>(victim, &CSS_SET_MEMORY) == mem_cgroup
    } else {
        owner::of_task::<kernel::Any>(victim) == limit
    };
    count_victim(victim, if is_own { Limit::Own } else { Limit::Above });
    if !owner::is_v1() {
        count(&LIMITS, limit);
    }
}

#[inline(always)]
fn count_victim(victim: usize, limit: Limit) {
    count(&KILLS, Victim::new(owner::of_task::<kernel::Any>(victim), limit));
}

#[inline(always)]
fn count<K: podmeter_common::owner::Key>(map: &HashMap<K, Kills>, key: K) {
    if key.owner() == REMAINDER {
        table::skip(&SKIPPED, Skip::NoOwner);
    }
    if let Some(kills) = table::entry(map, &key, &SKIPPED) {
        // JUSTIFICATION: map values are shared by all CPUs, so they are reached by raw pointers.
        // SAFETY: the map has just given it.
        let count = unsafe { &raw mut (*kills).n };
        // JUSTIFICATION: as above.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(count, 1) };
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
