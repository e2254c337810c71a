//! How long block requests waited and took, how many bytes they moved and how many failed, per cgroup, disk and
//! operation.
//!
//! Hooks: the raw tracepoints `block_rq_insert`, `block_rq_issue`, `block_rq_complete`, `block_rq_requeue` and, where the
//! kernel has it, `block_rq_merge`.
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
//! Cost: O(1) per event: for a whole request, at most five operations on preallocated hash maps and about fifteen reads
//! of kernel memory at fixed offsets.

#![no_std]
#![no_main]

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_ktime_get_ns,
    macros::{map, raw_tracepoint},
    maps::HashMap,
    programs::RawTracePointContext,
};
use podmeter_common::{
    block_io::{
        BOUNDS_NS, Device, InFlight, IoCounts, IoKey, MAX_IN_FLIGHT, MAX_SERIES, Operation,
    },
    owner::REMAINDER,
    skip::Skip,
};
use podmeter_ebpf::{counter, histogram, kernel, offsets, owner, table};

offsets! {
    /// Where the request stands among the arguments of all tracepoints but the completion's.
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

/// Requests that are under way, by their address.
#[map]
static IN_FLIGHT: HashMap<u64, InFlight> = HashMap::with_max_entries(MAX_IN_FLIGHT, 0);

/// Requests that are not where they belong, by [`Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

#[raw_tracepoint(tracepoint = "block_rq_insert")]
fn block_rq_insert(context: RawTracePointContext) -> i32 {
    let request = request(&context);
    let begun = InFlight { queued_ns: now(), issued_ns: 0, has_failed: 0 };
    match IN_FLIGHT.get_ptr_mut(request as u64) {
        Some(known) => {
            // JUSTIFICATION: map values are reached by pointer.
            // SAFETY: the map has just given it, and only one CPU at a time handles a request.
            let known = unsafe { &mut *known };
            // One that waits already comes back from the driver. Another request ended at this address unseen.
            if known.issued_ns != 0 {
                *known = begun;
            }
        }
        None => begin(request, begun),
    }
    0
}

#[raw_tracepoint(tracepoint = "block_rq_issue")]
fn block_rq_issue(context: RawTracePointContext) -> i32 {
    let request = request(&context);
    let begun = InFlight { queued_ns: 0, issued_ns: now(), has_failed: 0 };
    match IN_FLIGHT.get_ptr_mut(request as u64) {
        Some(known) => {
            // JUSTIFICATION: map values are reached by pointer.
            // SAFETY: the map has just given it, and only one CPU at a time handles a request.
            let known = unsafe { &mut *known };
            // A request is issued again only after it was requeued; another one ended at this address unseen.
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

#[raw_tracepoint(tracepoint = "block_rq_requeue")]
fn block_rq_requeue(context: RawTracePointContext) -> i32 {
    if let Some(known) = IN_FLIGHT.get_ptr_mut(request(&context) as u64) {
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
#[raw_tracepoint(tracepoint = "block_rq_merge")]
fn block_rq_merge(context: RawTracePointContext) -> i32 {
    forget(request(&context));
    0
}

#[raw_tracepoint(tracepoint = "block_rq_complete")]
fn block_rq_complete(context: RawTracePointContext) -> i32 {
    let request: usize = context.arg(0);
    let has_failed = context.arg::<u64>(1) & u64::from(u32::MAX) != 0;
    let n_bytes = context.arg::<u64>(2) & u64::from(u32::MAX);
    let Some(operation) = operation(request) else {
        return 0;
    };
    // JUSTIFICATION: map values are reached by reference into the map.
    // SAFETY: the value is copied at once, and only one CPU at a time handles a request.
    let known = unsafe { IN_FLIGHT.get(request as u64) }.copied();
    if known.is_none() && n_bytes == 0 {
        // The end of a write that demanded a flush: its data were completed before, or it had none.
        return 0;
    }
    let Some(counts) = counts(request, operation) else {
        return 0;
    };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: the map has just given it.
    let bytes = unsafe { &raw mut (*counts).n_bytes };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value, whose fields are aligned.
    unsafe { counter::add(bytes, n_bytes) };
    let n_left = u64::from(kernel::read::<u32>(request, &REQUEST_DATA_LEN));
    if n_bytes < n_left {
        note_part(request, has_failed);
        return 0;
    }
    if has_failed || known.is_some_and(|known| known.has_failed != 0) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it.
        let errors = unsafe { &raw mut (*counts).n_errors };
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(errors, 1) };
    }
    match known {
        Some(known) => {
            forget(request);
            observe(counts, known);
        }
        None => table::skip(&SKIPPED, Skip::NoEntry),
    }
    0
}

/// The argument of all tracepoints but the completion's.
///
/// It is read by address, because the verifier takes no place in the context that is not in the program's text.
#[inline(always)]
fn request(context: &RawTracePointContext) -> usize {
    kernel::read(context.as_ptr() as usize, &REQUEST_ARGUMENT)
}

#[inline(always)]
fn now() -> u64 {
    // JUSTIFICATION: helpers of the kernel are foreign functions.
    // SAFETY: it takes nothing and always answers.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn operation(request: usize) -> Option<Operation> {
    Operation::of_request(kernel::read(request, &REQUEST_CMD_FLAGS))
}

/// Remembers a request, if it is one that is counted.
#[inline(always)]
fn begin(request: usize, begun: InFlight) {
    if operation(request).is_some() && IN_FLIGHT.insert(request as u64, begun, 0).is_err() {
        table::skip(&SKIPPED, Skip::InFlightFull);
    }
}

#[inline(always)]
fn forget(request: usize) {
    // One that is not known was under way before the probe, or is not counted.
    let _not_known = IN_FLIGHT.remove(request as u64);
}

/// A part of a request is through.
#[inline(always)]
fn note_part(request: usize, has_failed: bool) {
    if !has_failed {
        return;
    }
    if let Some(known) = IN_FLIGHT.get_ptr_mut(request as u64) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it, and only one CPU at a time handles a request.
        unsafe { (*known).has_failed = 1 };
    }
}

/// Where a request is counted.
#[inline(always)]
fn counts(request: usize, operation: Operation) -> Option<*mut IoCounts> {
    let cgroup = cgroup(request);
    if cgroup == REMAINDER {
        table::skip(&SKIPPED, Skip::NoOwner);
    }
    table::entry(&IO, &IoKey::new(cgroup, device(request), operation), &SKIPPED)
}

#[inline(always)]
fn cgroup(request: usize) -> u64 {
    let bio: usize = kernel::read(request, &REQUEST_BIO);
    if bio == 0 {
        return REMAINDER;
    }
    let blkg: usize = kernel::read(bio, &BIO_BLKG);
    if blkg == 0 {
        return REMAINDER;
    }
    let blkcg: usize = kernel::read(blkg, &BLKG_BLKCG);
    owner::of_cgroup(kernel::read(blkcg, &BLKCG_CGROUP))
}

#[inline(always)]
fn device(request: usize) -> Device {
    let holder = if kernel::global(&DISK_IS_IN_QUEUE) == 1 {
        kernel::read(request, &REQUEST_QUEUE)
    } else {
        request
    };
    let disk: usize = kernel::read(holder, &DISK);
    if disk == 0 {
        return Device::NONE;
    }
    Device::new(kernel::read(disk, &DISK_MAJOR), kernel::read(disk, &DISK_MINOR))
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

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
