//! How long block requests waited and took, how many bytes they moved and how many failed, per cgroup, disk and
//! operation.
//!
//! Hooks: the tracepoints `block_rq_insert`, `block_rq_issue`, `block_rq_complete`, `block_rq_requeue` and, where the
//! kernel has it, `block_rq_merge`: with types (`tp_btf`), or raw, where the types of the kernel's fields do not fit.
//! Before 5.11 (and 5.10.137) all but the completion's have the queue as an argument before the request.
//!
//! Minimum kernel: 5.10 (tested).
//!
//! Reads: the owner is the cgroup of the first bio, `bio->bi_blkg`, never the task that runs: a kworker submits what a
//! container wrote into the page cache, and an interrupt completes it.
//! The block layer merges no bios of different cgroups into one request (`blk_cgroup_mergeable`, 5.18 and the stable
//! kernels of its time), so the first one stands for all.
//! A request without a bio, such as the flush of a disk's cache that several writers share, is the remainder's.
//! A disk without a scheduler is given requests at once, without an insertion.
//!
//! Once: a request is in the histograms when it has completed in whole.
//! Bytes are counted with each completed part, failed ones too, as in `io.stat` and `/proc/diskstats`.
//! A request that the driver gives back waits again: its queue time ends, and its latency begins, when it is issued for
//! the last time.
//! A request that was merged into another ends there.
//! A write that demands a flush is completed twice; the second time no bytes are left, and it is not under way.
//!
//! Cost: O(1) per event: for a whole request, at most three look-ups in preallocated hash maps, four or six atomic
//! additions and about fifteen reads of fields.
//! The kernel uses the same requests again and again, so what `IN_FLIGHT` has of one stays when it ends, and saves an
//! insertion and a deletion; only while the map is more than half full it is deleted.

#![no_std]
#![no_main]

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use podmeter_common::{
    block_io::{
        BOUNDS_NS, Device, InFlight, IoCounts, IoKey, MAX_IN_FLIGHT, MAX_KEPT, MAX_SERIES,
        Operation,
    },
    owner::REMAINDER,
    skip::Skip,
};
use podmeter_ebpf::{
    counter, histogram,
    kernel::{self, Any, Arguments, Memory, Typed},
    offsets, owner, table,
};

offsets! {
    /// Not an offset: where the request stands among the arguments of all tracepoints but the completion's, 0 or 1.
    REQUEST_ARGUMENT;
    /// `request.cmd_flags`: the operation, in the lowest eight bits.
    REQUEST_CMD_FLAGS;
    /// `request.__data_len`: bytes that are left.
    REQUEST_DATA_LEN;
    /// `request.bio`.
    REQUEST_BIO;
    /// `request.q`.
    REQUEST_QUEUE;
    /// `request.rq_disk` (up to 5.16), or `request_queue.disk`.
    DISK;
    /// Not an offset: 1 where the disk stands in the queue, 0 where it stands in the request.
    DISK_IS_IN_QUEUE;
    /// `gendisk.major`.
    DISK_MAJOR;
    /// `gendisk.first_minor`.
    DISK_MINOR;
    /// `bio.bi_blkg`.
    BIO_BLKG;
    /// `blkcg_gq.blkcg`.
    BLKG_BLKCG;
    /// `blkcg.css.cgroup`.
    BLKCG_CGROUP;
}

/// Counts by cgroup, disk and operation.
#[map]
static IO: HashMap<IoKey, IoCounts> = HashMap::with_max_entries(MAX_SERIES, 0);

/// Requests by their address: those that are under way, and such as were.
#[map]
static IN_FLIGHT: HashMap<u64, InFlight> = HashMap::with_max_entries(MAX_IN_FLIGHT, 0);

/// How many entries `IN_FLIGHT` has.
#[map]
static N_IN_FLIGHT: Array<u64> = Array::with_max_entries(1, 0);

/// Requests that are not where they belong, by [`Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

#[btf_tracepoint(function = "block_rq_insert")]
fn block_rq_insert(context: BtfTracePointContext) -> i32 {
    insert::<Typed>(request(&context))
}

#[raw_tracepoint(tracepoint = "block_rq_insert")]
fn raw_block_rq_insert(context: RawTracePointContext) -> i32 {
    insert::<Any>(request(&context))
}

#[btf_tracepoint(function = "block_rq_issue")]
fn block_rq_issue(context: BtfTracePointContext) -> i32 {
    issue::<Typed>(request(&context))
}

#[raw_tracepoint(tracepoint = "block_rq_issue")]
fn raw_block_rq_issue(context: RawTracePointContext) -> i32 {
    issue::<Any>(request(&context))
}

#[btf_tracepoint(function = "block_rq_requeue")]
fn block_rq_requeue(context: BtfTracePointContext) -> i32 {
    requeue(request(&context))
}

#[raw_tracepoint(tracepoint = "block_rq_requeue")]
fn raw_block_rq_requeue(context: RawTracePointContext) -> i32 {
    requeue(request(&context))
}

#[btf_tracepoint(function = "block_rq_merge")]
fn block_rq_merge(context: BtfTracePointContext) -> i32 {
    merge(request(&context))
}

#[raw_tracepoint(tracepoint = "block_rq_merge")]
fn raw_block_rq_merge(context: RawTracePointContext) -> i32 {
    merge(request(&context))
}

#[btf_tracepoint(function = "block_rq_complete")]
fn block_rq_complete(context: BtfTracePointContext) -> i32 {
    complete::<Typed>(&context)
}

#[raw_tracepoint(tracepoint = "block_rq_complete")]
fn raw_block_rq_complete(context: RawTracePointContext) -> i32 {
    complete::<Any>(&context)
}

/// The argument of all tracepoints but the completion's.
#[inline(always)]
fn request(context: &impl Arguments) -> usize {
    kernel::first_or_second(context, &REQUEST_ARGUMENT)
}

#[inline(always)]
fn insert<M: Memory>(request: usize) -> i32 {
    if operation::<M>(request).is_none() {
        return 0;
    }
    let begun = InFlight { queued_ns: now(), ..InFlight::ENDED };
    match IN_FLIGHT.get_ptr_mut(request as u64) {
        Some(known) => {
            // JUSTIFICATION: map values are reached by pointer.
            // SAFETY: the map has just given it, and only one CPU at a time handles a request.
            let known = unsafe { &mut *known };
            // One that waits already comes back from the driver. Otherwise another request ended at this address.
            if known.queued_ns == 0 || known.issued_ns != 0 {
                *known = begun;
            }
        }
        None => begin(request, begun),
    }
    0
}

#[inline(always)]
fn issue<M: Memory>(request: usize) -> i32 {
    if operation::<M>(request).is_none() {
        return 0;
    }
    let begun = InFlight { issued_ns: now(), ..InFlight::ENDED };
    match IN_FLIGHT.get_ptr_mut(request as u64) {
        Some(known) => {
            // JUSTIFICATION: map values are reached by pointer.
            // SAFETY: the map has just given it, and only one CPU at a time handles a request.
            let known = unsafe { &mut *known };
            // A request is issued again only after it was requeued; otherwise another one ended at this address.
            if known.issued_ns == 0 {
                known.issued_ns = begun.issued_ns;
            } else {
                *known = begun;
            }
        }
        None => begin(request, begun),
    }
    0
}

#[inline(always)]
fn requeue(request: usize) -> i32 {
    if let Some(known) = IN_FLIGHT.get_ptr_mut(request as u64) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it, and only one CPU at a time handles a request.
        let known = unsafe { &mut *known };
        if known.queued_ns == 0 {
            known.queued_ns = known.issued_ns;
        }
        known.issued_ns = 0;
    }
    0
}

/// The request ends in another one, which has its bios now.
#[inline(always)]
fn merge(request: usize) -> i32 {
    if let Some(known) = IN_FLIGHT.get_ptr_mut(request as u64) {
        end(request, known);
    }
    0
}

#[inline(always)]
fn complete<M: Memory>(context: &impl Arguments) -> i32 {
    let request = context.get(0);
    // Both are halves of words.
    let mut has_failed = context.get(1) & HALF != 0;
    let n_bytes = (context.get(2) & HALF) as u64;
    let Some(operation) = operation::<M>(request) else {
        return 0;
    };
    let known = under_way(request);
    if known.is_none() && n_bytes == 0 {
        // The end of a write that demanded a flush: its data were completed before, or it had none.
        return 0;
    }
    let Some(counts) = counts::<M>(request, operation) else {
        return 0;
    };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the map has just given it.
    let bytes = unsafe { &raw mut (*counts).n_bytes };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value, whose fields are aligned.
    unsafe { counter::add(bytes, n_bytes) };
    let is_part = n_bytes < u64::from(M::read::<u32>(request, &REQUEST_DATA_LEN));
    if let Some(known) = known {
        if is_part && has_failed {
            // JUSTIFICATION: map values are reached by pointer.
            // SAFETY: the map has given it, and only one CPU at a time handles a request.
            unsafe { (*known).has_failed = 1 };
        } else if !is_part {
            // JUSTIFICATION: map values are reached by pointer.
            // SAFETY: the map has given it, and only one CPU at a time handles a request.
            let begun = unsafe { *known };
            has_failed |= begun.has_failed != 0;
            end(request, known);
            observe(counts, begun);
        }
    } else if !is_part {
        table::skip(&SKIPPED, Skip::NoEntry);
    }
    if has_failed && !is_part {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it.
        let errors = unsafe { &raw mut (*counts).n_errors };
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(errors, 1) };
    }
    0
}

#[inline(always)]
fn now() -> u64 {
    // JUSTIFICATION: helpers of the kernel are foreign functions.
    // SAFETY: it takes nothing and always answers.
    unsafe { bpf_ktime_get_ns() }
}

/// What a request does; none of one that is not counted.
#[inline(always)]
fn operation<M: Memory>(request: usize) -> Option<Operation> {
    Operation::of_request(M::read(request, &REQUEST_CMD_FLAGS))
}

/// Remembers a request that has no entry yet.
#[inline(always)]
fn begin(request: usize, begun: InFlight) {
    if IN_FLIGHT.insert(request as u64, begun, BPF_NOEXIST).is_ok() {
        count_entries(1);
    } else {
        table::skip(&SKIPPED, Skip::InFlightFull);
    }
}

/// What is known of a request that is under way: none of one that was so before the probe.
#[inline(always)]
fn under_way(request: usize) -> Option<*mut InFlight> {
    let known = IN_FLIGHT.get_ptr_mut(request as u64)?;
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the map has just given it, and only one CPU at a time handles a request.
    let InFlight { queued_ns, issued_ns, .. } = unsafe { *known };
    (queued_ns != 0 || issued_ns != 0).then_some(known)
}

/// A request is no longer under way; its entry stays for the next one at this address, while there is ample room.
#[inline(always)]
fn end(request: usize, known: *mut InFlight) {
    let Some(n_entries) = N_IN_FLIGHT.get_ptr(0) else {
        return;
    };
    // JUSTIFICATION: map values are reached by pointer, and other CPUs may write this one.
    // SAFETY: the map has just given it, and an aligned word is read at once.
    let n_entries = unsafe { n_entries.read_volatile() };
    if n_entries <= u64::from(MAX_KEPT) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has given it, and only one CPU at a time handles a request.
        unsafe { *known = InFlight::ENDED };
    } else if IN_FLIGHT.remove(request as u64).is_ok() {
        count_entries(u64::MAX);
    }
}

/// Adds to the number of entries, modulo 2^64.
#[inline(always)]
fn count_entries(difference: u64) {
    if let Some(n_entries) = N_IN_FLIGHT.get_ptr_mut(0) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it, and its values are aligned.
        unsafe { counter::add(n_entries, difference) };
    }
}

/// Where a request is counted.
#[inline(always)]
fn counts<M: Memory>(request: usize, operation: Operation) -> Option<*mut IoCounts> {
    let cgroup = cgroup::<M>(request);
    if cgroup == REMAINDER {
        table::skip(&SKIPPED, Skip::NoOwner);
    }
    table::entry(&IO, &IoKey::new(cgroup, device::<M>(request), operation), &SKIPPED)
}

#[inline(always)]
fn cgroup<M: Memory>(request: usize) -> u64 {
    let bio: usize = M::read(request, &REQUEST_BIO);
    if bio == 0 {
        return REMAINDER;
    }
    let blkg: usize = M::read(bio, &BIO_BLKG);
    if blkg == 0 {
        return REMAINDER;
    }
    let blkcg: usize = M::read(blkg, &BLKG_BLKCG);
    owner::of_cgroup::<M>(M::read(blkcg, &BLKCG_CGROUP))
}

#[inline(always)]
fn device<M: Memory>(request: usize) -> Device {
    let disk: usize = if kernel::global(&DISK_IS_IN_QUEUE) == 1 {
        M::read(M::read(request, &REQUEST_QUEUE), &DISK)
    } else {
        M::read(request, &DISK)
    };
    if disk == 0 {
        return Device::NONE;
    }
    Device::new(M::read(disk, &DISK_MAJOR), M::read(disk, &DISK_MINOR))
}

#[inline(always)]
fn observe(counts: *mut IoCounts, known: InFlight) {
    // One that never reached the driver has no latency.
    if known.issued_ns == 0 {
        return;
    }
    let latency = now().saturating_sub(known.issued_ns);
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the map has given it.
    let latencies = unsafe { &raw mut (*counts).latency };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value.
    unsafe { histogram::observe(latencies, &BOUNDS_NS, latency) };
    if known.queued_ns != 0 {
        let queue = known.issued_ns.saturating_sub(known.queued_ns);
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has given it.
        let queues = unsafe { &raw mut (*counts).queue };
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value.
        unsafe { histogram::observe(queues, &BOUNDS_NS, queue) };
    }
}

const BPF_NOEXIST: u64 = 1;

const HALF: usize = u32::MAX as usize;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
