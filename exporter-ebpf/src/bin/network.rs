//! What each owner of sockets received and sent: packets as they are on the wire, and their bytes without link headers.
//!
//! Hooks: `cgroup_skb`, ingress and egress, at the root of the cgroup2 hierarchy, beside whatever else is attached.
//! They see every packet that a full socket of IPv4 or IPv6 gets or sends, from the IP header on, once for each socket;
//! the kernel shows them no packet that is forwarded, or that finds no socket: a SYN to a closed port, an answer to ping.
//! What the kernel sends for no socket (resets, ARP is no IP at all) comes from sockets of its own, in the root cgroup.
//!
//! Minimum kernel: 5.10 (tested); the fields of the packet and `bpf_skb_cgroup_id` need 5.1.
//!
//! A buffer may hold many packets of a TCP connection: it is sent as one, and cut by the device or just before it (TSO,
//! GSO), or was put together from what was received (GRO).
//! `gso_segs` says how many, and each but the first has headers on the wire that the buffer does not have.
//! They are added here, with lengths from the buffer's own headers.
//! A datagram that is cut into IP fragments is one packet here, because that is done after egress and undone before
//! ingress.
//!
//! Reads: the packet's context and, for buffers of many packets, three bytes of its headers.
//! On cgroup v1, where no socket is in a cgroup of its container, also `sock->sk_net` and `net->ns.inum`, from the
//! kernel's memory, which lockdown=confidentiality forbids.
//!
//! Cost: O(1) per event: one look into a preallocated hash map and two or, for buffers of many packets, three atomic
//! additions; on cgroup v1 also two reads of the kernel's memory by helper.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::__sk_buff,
    macros::{cgroup_skb, map},
    maps::HashMap,
    programs::SkBuffContext,
};
use podmeter_common::{
    network::{Direction, Flow, IpFamily, MAX_OWNERS, N_FLOWS, Traffic, flow_idx},
    owner::REMAINDER,
    skip::Skip,
};
use podmeter_ebpf::{counter, owner, table};

/// Traffic by owner.
#[map]
static TRAFFIC: HashMap<u64, Traffic> = HashMap::with_max_entries(MAX_OWNERS, 0);

/// Packets that are not where they belong, by [`Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

/// The program's answer: the packet may go on.
const PASS: i32 = 1;

/// `ETH_P_IPV6` as the packet has it, most significant byte first.
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Bytes of the headers of IPv6 and UDP.
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;

#[cgroup_skb(ingress)]
fn receive(context: SkBuffContext) -> i32 {
    count(&context, Direction::Receive);
    PASS
}

#[cgroup_skb(egress)]
fn transmit(context: SkBuffContext) -> i32 {
    count(&context, Direction::Transmit);
    PASS
}

#[inline(always)]
fn count(context: &SkBuffContext, direction: Direction) {
    let skb = context.skb.skb;
    let owner = owner::of_packet(context);
    if owner == REMAINDER {
        table::skip(&SKIPPED, Skip::NoOwner);
    }
    // The kernel shows nothing but the two.
    let family = if protocol(skb) == ETH_P_IPV6 { IpFamily::V6 } else { IpFamily::V4 };
    let n_more = n_more_packets(skb);
    let mut n_bytes = u64::from(context.len());
    if n_more > 0 {
        n_bytes += n_more * header_bytes(context, family);
    }
    let Some(traffic) = table::entry(&TRAFFIC, &owner, &SKIPPED) else {
        return;
    };
    let flow_idx = flow_idx(direction, family);
    if flow_idx >= N_FLOWS {
        return;
    }
    // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers, never by reference.
    // SAFETY: the map has just given the value.
    let flows = unsafe { &raw mut (*traffic).flows };
    // JUSTIFICATION: an index into the array would make a reference to it.
    // SAFETY: the index is below the length.
    let flow = unsafe { flows.cast::<Flow>().add(flow_idx) };
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value.
    add(unsafe { &raw mut (*flow).bytes }, n_bytes);
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value.
    add(unsafe { &raw mut (*flow).buffers }, 1);
    if n_more > 0 {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value.
        add(unsafe { &raw mut (*flow).more_packets }, n_more);
    }
}

#[inline(always)]
fn add(counter: *mut u64, amount: u64) {
    // JUSTIFICATION: map values are reached by pointer.
    // SAFETY: it points into a live map value, whose fields are aligned.
    unsafe { counter::add(counter, amount) };
}

#[inline(always)]
fn protocol(skb: *mut __sk_buff) -> u32 {
    // JUSTIFICATION: the context is reached by pointer.
    // SAFETY: it is valid as long as the program runs.
    unsafe { (*skb).protocol }
}

/// How many packets of the wire a buffer holds beyond the first; the kernel says 0 segments of most that hold one.
#[inline(always)]
fn n_more_packets(skb: *mut __sk_buff) -> u64 {
    // JUSTIFICATION: the context is reached by pointer.
    // SAFETY: it is valid as long as the program runs.
    let n_segments = unsafe { (*skb).gso_segs };
    u64::from(n_segments).saturating_sub(1)
}

/// Bytes of the headers that each packet of a buffer has on the wire: IP's, and TCP's or UDP's.
///
/// Buffers of many packets have no extension headers of IPv6; and where the protocol is another one, it is taken to
/// repeat IP's header only.
#[inline(always)]
fn header_bytes(context: &SkBuffContext, family: IpFamily) -> u64 {
    let byte = |offset| byte(context, offset);
    let (ip_bytes, protocol) = match family {
        IpFamily::V4 => (usize::from(byte(0) & 0xf) * 4, byte(9)),
        IpFamily::V6 => (IPV6_HEADER, byte(6)),
    };
    let transport_bytes = match protocol {
        TCP => usize::from(byte(ip_bytes + 12) >> 4) * 4,
        UDP => UDP_HEADER,
        _ => 0,
    };
    (ip_bytes + transport_bytes) as u64
}

/// A byte of a packet: straight from the buffer's first piece, which has the headers of nearly all.
#[inline(always)]
fn byte(context: &SkBuffContext, offset: usize) -> u8 {
    let skb = context.skb.skb;
    // JUSTIFICATION: the context is reached by pointer.
    // SAFETY: it is valid as long as the program runs.
    let data = unsafe { (*skb).data } as usize;
    // JUSTIFICATION: the context is reached by pointer.
    // SAFETY: it is valid as long as the program runs.
    let end = unsafe { (*skb).data_end } as usize;
    let at = data + offset;
    // Two bytes are asked for, because the compiler makes of one a comparison from which the verifier learns nothing;
    // no header ends with these bytes.
    if at + 2 > end {
        return context.load(offset).unwrap_or_default();
    }
    // JUSTIFICATION: packets are reached by pointer.
    // SAFETY: the byte is before the end of the first piece, as the verifier checks.
    unsafe { (at as *const u8).read_volatile() }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
