//! Packets that the kernel threw away, by reason and owner of the socket.
//!
//! Hook: the tracepoint `kfree_skb`, which the kernel passes whenever it frees a packet that has not reached its end, with
//! types (`tp_btf`), or raw before 5.15, where the socket's cgroup is no typed pointer.
//! `consume_skb`, of packets that have reached it, is not hooked.
//!
//! Minimum kernel: 5.10 (tested).
//! The reason is an argument since 5.17; before, all drops have one, and many are none: a caller that did not care could
//! free by `kfree_skb` what had been of use.
//! The socket that was to receive the packet is an argument in 6.12, not yet in 6.1.
//!
//! Reads: `sk_buff.sk` and `protocol`; of the socket its state, family, and cgroup or network namespace.
//! A packet that is on its way out has its sender's socket; one that came in has one only once it was looked up.
//! Messages of Unix and netlink sockets are freed by the same function, and are no packets.
//!
//! Cost: O(1) per dropped packet: one look-up in a preallocated hash map and two to eight reads of fields.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{btf_tracepoint, map, raw_tracepoint},
    maps::HashMap,
    programs::{BtfTracePointContext, RawTracePointContext},
};
use podmeter_common::{
    drops::{Drop, Dropped, MAX_DROPS, Reason},
    owner::REMAINDER,
};
use podmeter_ebpf::{
    counter,
    kernel::{self, Any, Arguments, Memory, Typed},
    offsets, owner, table,
};

offsets! {
    /// `sk_buff.sk`.
    SKB_SK;
    /// `sk_buff.protocol`.
    SKB_PROTOCOL;
    /// `sock.__sk_common.skc_family`.
    SOCK_FAMILY;
    /// Not an offset: 1 where the tracepoint has a reason, else 0.
    HAS_REASON;
    /// Not an offset: 1 where the tracepoint has the receiving socket, else 0.
    HAS_RECEIVER;
    /// Not an offset: the reason that says that the packet was not dropped, or one that no packet has.
    NOT_DROPPED;
    /// Not an offset: the reason that says that the packet reached its end, or one that no packet has.
    CONSUMED;
}

/// Packets by owner and reason.
#[map]
static DROPS: HashMap<Drop, Dropped> = HashMap::with_max_entries(MAX_DROPS, 0);

/// Events that are not where they belong, by [`podmeter_common::skip::Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

// Families of sockets that send and receive packets.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_PACKET: u16 = 17;

#[btf_tracepoint(function = "kfree_skb")]
fn kfree_skb(context: BtfTracePointContext) -> i32 {
    count::<Typed>(&context)
}

#[raw_tracepoint(tracepoint = "kfree_skb")]
fn raw_kfree_skb(context: RawTracePointContext) -> i32 {
    count::<Any>(&context)
}

#[inline(always)]
fn count<M: Memory>(context: &impl Arguments) -> i32 {
    // The lower half of the word.
    let reason =
        if kernel::global(&HAS_REASON) == 1 { context.get(2) & u32::MAX as usize } else { 0 };
    if reason == kernel::global(&NOT_DROPPED) || reason == kernel::global(&CONSUMED) {
        return 0;
    }
    let receiver = if kernel::global(&HAS_RECEIVER) == 1 { context.get(3) } else { 0 };
    let Some(owner) = owner_of::<M>(context.get(0), receiver) else {
        return 0;
    };
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is 0")]
    let key = Drop::new(owner, Reason::of(reason as u32));
    if let Some(dropped) = table::entry(&DROPS, &key, &SKIPPED) {
        // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers.
        // SAFETY: the map has just given it.
        let n_packets = unsafe { &raw mut (*dropped).n_packets };
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(n_packets, 1) };
    }
    0
}

/// The owner of a packet; none of what is no packet.
#[inline(always)]
fn owner_of<M: Memory>(buffer: usize, receiver: usize) -> Option<u64> {
    let sock = if receiver == 0 { M::read(buffer, &SKB_SK) } else { receiver };
    if sock == 0 {
        // What came from a device or goes to one has a protocol; a message of netlink has not.
        return (M::read::<u16>(buffer, &SKB_PROTOCOL) != 0).then_some(REMAINDER);
    }
    match M::read::<u16>(sock, &SOCK_FAMILY) {
        AF_INET | AF_INET6 | AF_PACKET => Some(owner::of_any_sock::<M>(sock)),
        _ => None,
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
