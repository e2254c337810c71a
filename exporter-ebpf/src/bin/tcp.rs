//! What became of TCP handshakes, how long they took, and what connections suffered, per owner of the socket.
//!
//! Hooks: the raw tracepoints `inet_sock_set_state`, `tcp_retransmit_skb`, `tcp_retransmit_synack`, `tcp_send_reset` and
//! `tcp_receive_reset`.
//! Each gives the socket, so nothing is told by the task that happens to run: most of these events are in softirq.
//!
//! Minimum kernel: 5.10 (tested).
//! By a third argument, `tcp_retransmit_skb` of newer kernels (6.18, not 6.12) also tells of segments that could not be
//! sent; before 6.10 `tcp_send_reset` does not tell of resets that belong to no socket.
//!
//! Reads: of the socket its cgroup or network namespace, `sk_protocol`, `sk_err`, `inet_sport` and `srtt_us`; of a
//! retransmitted buffer the number of its segments, as the kernel counts them into `RetransSegs`.
//! A socket that `accept` gives belongs to the cgroup of the listener it came from, which is the one that made the
//! listener.
//!
//! Cost: O(1) per event: at most three operations on preallocated hash maps.
//! A connection has five or six changes of state in its life, of which three do more than look at the states; sending and
//! receiving cost nothing.

#![no_std]
#![no_main]

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{map, raw_tracepoint},
    maps::HashMap,
    programs::RawTracePointContext,
};
use podmeter_common::{
    skip::Skip,
    tcp::{
        CONNECT_BOUNDS_NS, Connect, MAX_IN_FLIGHT, MAX_OWNERS, Outcome, RTT_BOUNDS_NS, Role, Rtt,
        Traffic, handshake_idx,
    },
};
use podmeter_ebpf::{counter, histogram, kernel, offsets, owner, table};

offsets! {
    /// `sock.sk_protocol`.
    SOCK_PROTOCOL;
    /// `sock.sk_err`: set before the socket is closed for an error.
    SOCK_ERR;
    /// `inet_sock.inet_sport`: the local port, which outlasts the port's release.
    INET_SPORT;
    /// `tcp_sock.srtt_us`: eight times the smoothed round-trip time in microseconds.
    TCP_SRTT_US;
    /// `tcp_skb_cb.tcp_gso_segs` in `sk_buff.cb`.
    SKB_SEGMENTS;
    /// Not an offset: 1 where `tcp_retransmit_skb` has a third argument, the error, else 0.
    RETRANSMIT_HAS_ERROR;
}

/// Counts by owner.
#[map]
static TRAFFIC: HashMap<u64, Traffic> = HashMap::with_max_entries(MAX_OWNERS, 0);

/// Durations of handshakes by owner.
#[map]
static CONNECT: HashMap<u64, Connect> = HashMap::with_max_entries(MAX_OWNERS, 0);

/// Smoothed round-trip times by owner.
#[map]
static RTT: HashMap<u64, Rtt> = HashMap::with_max_entries(MAX_OWNERS, 0);

/// When a client's handshake began, by the address of its socket.
#[map]
static IN_FLIGHT: HashMap<u64, u64> = HashMap::with_max_entries(MAX_IN_FLIGHT, 0);

/// Events that are not where they belong, by [`Skip`].
#[map]
static SKIPPED: table::Skipped = table::skipped();

const IPPROTO_TCP: u16 = 6;

// States of a TCP socket: elixir.bootlin.com/linux/v6.12/source/include/net/tcp_states.h#L12
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const FIN_WAIT1: i32 = 4;
const FIN_WAIT2: i32 = 5;
const CLOSE: i32 = 7;
const CLOSE_WAIT: i32 = 8;
const LAST_ACK: i32 = 9;
const CLOSING: i32 = 11;

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn set_state(context: RawTracePointContext) -> i32 {
    let (sock, from, to): (usize, i32, i32) = (context.arg(0), context.arg(1), context.arg(2));
    // SCTP and MPTCP change states here, too.
    if kernel::read::<u16>(sock, &SOCK_PROTOCOL) != IPPROTO_TCP {
        return 0;
    }
    match (from, to) {
        (_, SYN_SENT) => begin(sock),
        // Both ends called each other at the same time; the handshake goes on.
        (SYN_SENT, SYN_RECV) => {}
        (SYN_SENT | SYN_RECV, _) => end(sock, from, to),
        (ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING, CLOSE) => {
            close(sock);
        }
        _ => {}
    }
    0
}

/// A client's handshake begins.
#[inline(always)]
fn begin(sock: usize) {
    // JUSTIFICATION: the clock is a helper.
    // SAFETY: it takes nothing and has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    if IN_FLIGHT.insert(sock as u64, now, 0).is_err() {
        table::skip(&SKIPPED, Skip::InFlightFull);
    }
}

/// A handshake ends.
#[inline(always)]
fn end(sock: usize, from: i32, to: i32) {
    let began = take(sock);
    // Only of a client's handshake the beginning is kept, also of one that went by SYN_RECV.
    let role = if from == SYN_SENT || began.is_some() { Role::Client } else { Role::Server };
    let outcome = if to == CLOSE {
        let has_port = kernel::read::<u16>(sock, &INET_SPORT) != 0;
        Outcome::of_failure(kernel::read(sock, &SOCK_ERR), has_port)
    } else {
        Outcome::Established
    };
    let owner = owner::of_sock::<kernel::Any>(sock);
    if let Some(traffic) = table::entry(&TRAFFIC, &owner, &SKIPPED) {
        // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers.
        // SAFETY: the map has just given it.
        let handshakes = unsafe { &raw mut (*traffic).handshakes }.cast::<u64>();
        // JUSTIFICATION: an index into the array would make a reference to it.
        // SAFETY: the array has a slot for each role and outcome.
        let slot = unsafe { handshakes.add(handshake_idx(role, outcome)) };
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(slot, 1) };
    }
    if role == Role::Client && outcome == Outcome::Established {
        observe_connect(owner, began);
    }
}

/// When the client's handshake began; it is forgotten.
#[inline(always)]
fn take(sock: usize) -> Option<u64> {
    let key = sock as u64;
    // JUSTIFICATION: map values are reached by reference into the map.
    // SAFETY: the value is copied at once, and the socket is locked, so that nobody else uses this key.
    let began = (unsafe { IN_FLIGHT.get(key) }).copied()?;
    // It has just been there, and only the holder of the socket's lock takes it.
    let _was_there = IN_FLIGHT.remove(key);
    Some(began)
}

#[inline(always)]
fn observe_connect(owner: u64, began: Option<u64>) {
    let Some(began) = began else {
        table::skip(&SKIPPED, Skip::NoEntry);
        return;
    };
    // JUSTIFICATION: the clock is a helper.
    // SAFETY: it takes nothing and has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(duration_ns) = now.checked_sub(began) else {
        table::skip(&SKIPPED, Skip::ClockBackwards);
        return;
    };
    if let Some(connect) = table::entry(&CONNECT, &owner, &SKIPPED) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it.
        unsafe { histogram::observe(connect, &CONNECT_BOUNDS_NS, duration_ns) };
    }
}

/// A connection ends: its smoothed round-trip time is what it ever will be.
#[inline(always)]
fn close(sock: usize) {
    let eighths_us = kernel::read::<u32>(sock, &TCP_SRTT_US);
    // A connection on which nothing was acknowledged since the handshake, and not the handshake either.
    if eighths_us == 0 {
        return;
    }
    let owner = owner::of_sock::<kernel::Any>(sock);
    if let Some(rtt) = table::entry(&RTT, &owner, &SKIPPED) {
        let rtt_ns = u64::from(eighths_us >> 3) * 1000;
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: the map has just given it.
        unsafe { histogram::observe(rtt, &RTT_BOUNDS_NS, rtt_ns) };
    }
}

#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
fn retransmit_skb(context: RawTracePointContext) -> i32 {
    if kernel::global(&RETRANSMIT_HAS_ERROR) == 1 && context.arg::<i32>(2) != 0 {
        return 0;
    }
    let (sock, buffer): (usize, usize) = (context.arg(0), context.arg(1));
    let n_segments = kernel::read::<u16>(buffer, &SKB_SEGMENTS);
    add(sock, u64::from(n_segments), |traffic| {
        // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers.
        // SAFETY: the map has just given it.
        unsafe { &raw mut (*traffic).retransmitted }
    });
    0
}

#[raw_tracepoint(tracepoint = "tcp_retransmit_synack")]
fn retransmit_synack(context: RawTracePointContext) -> i32 {
    // The socket is the listener.
    add(context.arg(0), 1, |traffic| {
        // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers.
        // SAFETY: the map has just given it.
        unsafe { &raw mut (*traffic).retransmitted }
    });
    0
}

#[raw_tracepoint(tracepoint = "tcp_send_reset")]
fn send_reset(context: RawTracePointContext) -> i32 {
    add(context.arg(0), 1, |traffic| {
        // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers.
        // SAFETY: the map has just given it.
        unsafe { &raw mut (*traffic).resets_sent }
    });
    0
}

#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
fn receive_reset(context: RawTracePointContext) -> i32 {
    add(context.arg(0), 1, |traffic| {
        // JUSTIFICATION: the value is shared by all CPUs, so its fields are reached by raw pointers.
        // SAFETY: the map has just given it.
        unsafe { &raw mut (*traffic).resets_received }
    });
    0
}

/// Adds to one of the counts of a socket's owner; a socket may be missing or be what is left of one.
#[inline(always)]
fn add(sock: usize, amount: u64, count: impl FnOnce(*mut Traffic) -> *mut u64) {
    let owner = owner::of_any_sock::<kernel::Any>(sock);
    if let Some(traffic) = table::entry(&TRAFFIC, &owner, &SKIPPED) {
        // JUSTIFICATION: map values are reached by pointer.
        // SAFETY: it points into a live map value, whose fields are aligned.
        unsafe { counter::add(count(traffic), amount) };
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
