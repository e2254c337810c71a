//! `tcp`: what became of TCP handshakes, how long they took, and what connections suffered, per owner of the socket.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hooks, minimum kernel and cost.

use aya::{Pod, maps::MapError};
use podmeter_common::{
    histogram::Histogram,
    owner::Counts,
    skip::Skip,
    tcp::{
        CONNECT_BOUNDS_NS, Connect, MAX_OWNERS, Outcome, RTT_BOUNDS_NS, Role, Rtt, Traffic,
        handshake_idx,
    },
};

use super::{
    btf::{BtfError, KernelTypes},
    def::{Globals, HookDef, HookKind, KernelMemory, ProbeDef, ProgramDef, Switch, no_names},
    host::ProbeHost,
    maps::{Reader, TableDef, bounds_seconds, seconds},
    owner,
};
use crate::{
    metric::{Desc, Family, Kind, OwnLabels, Sample, Value},
    subject::Subject,
};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "tcp",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcp")),
    metrics: &[CONNECTIONS, CONNECT_LATENCY, ROUND_TRIP, RETRANSMITTED, RESETS],
    instead: "sums over a whole network namespace, in /proc/<pid>/net/snmp and netstat",
    switch: Switch::On,
    hooks: &[HookDef {
        kind: HookKind::RawTracepoint,
        programs: &[
            ProgramDef::required("set_state", "inet_sock_set_state"),
            ProgramDef::required("retransmit_skb", "tcp_retransmit_skb"),
            ProgramDef::required("retransmit_synack", "tcp_retransmit_synack"),
            ProgramDef::required("send_reset", "tcp_send_reset"),
            ProgramDef::required("receive_reset", "tcp_receive_reset"),
        ],
        memory: KernelMemory::Read,
        globals,
    }],
    tables: &[TRAFFIC, CONNECT, RTT],
    skips: &[Skip::Folded, Skip::Lost, Skip::InFlightFull, Skip::ClockBackwards, Skip::NoEntry],
    names: no_names,
    read,
};

const TRAFFIC: TableDef = TableDef::new::<u64, Traffic>("TRAFFIC", MAX_OWNERS);
const CONNECT: TableDef = TableDef::new::<u64, Connect>("CONNECT", MAX_OWNERS);
const RTT: TableDef = TableDef::new::<u64, Rtt>("RTT", MAX_OWNERS);

const CONNECTIONS: Desc = Desc {
    name: "podmeter_tcp_connections_total",
    help: "TCP handshakes that ended, by who began them (role: client, server) and how they ended (result: established, refused, timed_out, unreachable, reset, no_port, aborted, other).",
    kind: Kind::Counter,
    unit: "",
    labels: &["role", "result"],
    origin: "tracepoint inet_sock_set_state; sk->sk_err says why one failed",
};

const CONNECT_LATENCY: Desc = Desc {
    name: "podmeter_tcp_connect_latency_seconds",
    help: "How long the TCP handshakes that the owner began took, from the SYN to the connection, of those that ended in one.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    origin: "tracepoint inet_sock_set_state, from SYN_SENT to ESTABLISHED",
};

const ROUND_TRIP: Desc = Desc {
    name: "podmeter_tcp_rtt_seconds",
    help: "The smoothed round-trip time of each TCP connection as it was when the connection was closed.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    origin: "tcp_sock->srtt_us when inet_sock_set_state says CLOSE",
};

const RETRANSMITTED: Desc = Desc {
    name: "podmeter_tcp_retransmitted_segments_total",
    help: "TCP segments that were sent again, SYN and SYN-ACK included, as RetransSegs in /proc/net/snmp counts them.",
    kind: Kind::Counter,
    unit: "",
    labels: &[],
    origin: "tracepoints tcp_retransmit_skb (the buffer's number of segments) and tcp_retransmit_synack",
};

const RESETS: Desc = Desc {
    name: "podmeter_tcp_resets_total",
    help: "TCP resets, sent (direction transmit) or received (receive) for a socket; from 6.10 on under cgroup=\"(unresolved)\" also those that are sent for no socket.",
    kind: Kind::Counter,
    unit: "",
    labels: &["direction"],
    origin: "tracepoints tcp_send_reset and tcp_receive_reset",
};

static CONNECT_BOUNDS: [f64; CONNECT_BOUNDS_NS.len()] = bounds_seconds(CONNECT_BOUNDS_NS);
static RTT_BOUNDS: [f64; RTT_BOUNDS_NS.len()] = bounds_seconds(RTT_BOUNDS_NS);

fn globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    let of_sockets =
        ["inet_sock_set_state", "tcp_retransmit_synack", "tcp_send_reset", "tcp_receive_reset"];
    for name in of_sockets {
        types.check_tracepoint(name, &["sock"])?;
    }
    types.check_tracepoint("tcp_retransmit_skb", &["sock", "sk_buff"])?;
    let has_error = types.n_tracepoint_arguments("tcp_retransmit_skb")? > 2;
    let segments = types.offset("sk_buff", "cb", SKB_CB_BYTES)?
        + types.offset("tcp_skb_cb", "tcp_gso_segs", 2)?;
    let mut globals = owner::socket_globals(types, host)?;
    globals.extend([
        ("SOCK_PROTOCOL", types.offset("sock", "sk_protocol", 2)?),
        ("SOCK_ERR", types.offset("sock", "sk_err", 4)?),
        ("INET_SPORT", types.offset("inet_sock", "inet_sport", 2)?),
        ("TCP_SRTT_US", types.offset("tcp_sock", "srtt_us", 4)?),
        ("SKB_SEGMENTS", segments),
        ("RETRANSMIT_HAS_ERROR", u32::from(has_error)),
    ]);
    Ok(globals)
}

/// Bytes of `sk_buff.cb`.
const SKB_CB_BYTES: u32 = 48;

fn read(maps: &mut Reader<'_>) -> Result<Vec<Family>, MapError> {
    let traffic = entries::<Traffic>(maps, &TRAFFIC)?;
    let connect = entries::<Connect>(maps, &CONNECT)?;
    let rtt = entries::<Rtt>(maps, &RTT)?;
    let retransmitted =
        traffic.iter().map(|(subject, traffic)| sample(*subject, &[], traffic.retransmitted));
    let resets = traffic.iter().flat_map(|(subject, traffic)| {
        let directions = [("transmit", traffic.resets_sent), ("receive", traffic.resets_received)];
        directions.map(|(direction, n)| sample(*subject, &[("direction", direction)], n))
    });
    Ok(vec![
        Family { desc: &CONNECTIONS, samples: traffic.iter().flat_map(connections).collect() },
        Family { desc: &CONNECT_LATENCY, samples: histograms(connect, &CONNECT_BOUNDS) },
        Family { desc: &ROUND_TRIP, samples: histograms(rtt, &RTT_BOUNDS) },
        Family { desc: &RETRANSMITTED, samples: retransmitted.collect() },
        Family { desc: &RESETS, samples: resets.collect() },
    ])
}

/// The entries of a map of sockets with whom they are about.
fn entries<V: Counts + Pod>(
    maps: &mut Reader<'_>,
    table: &TableDef,
) -> Result<Vec<(Subject, V)>, MapError> {
    let entries = maps.entries::<u64, V>(table)?.into_iter();
    Ok(entries.map(|(owner, counts)| (maps.socket_subject(owner), counts)).collect())
}

/// The handshakes of one owner, of those kinds that there were.
fn connections((subject, traffic): &(Subject, Traffic)) -> Vec<Sample> {
    let kinds = Role::ALL.iter().flat_map(|role| Outcome::ALL.map(|outcome| (*role, outcome)));
    let counted = kinds.filter_map(|(role, outcome)| {
        let n_handshakes = traffic.handshakes.get(handshake_idx(role, outcome)).copied()?;
        let labels = [("role", role.as_str()), ("result", outcome.as_str())];
        (n_handshakes > 0).then(|| sample(*subject, &labels, n_handshakes))
    });
    counted.collect()
}

fn sample(subject: Subject, labels: &[(&'static str, &'static str)], count: u64) -> Sample {
    let labels = labels.iter().map(|(name, value)| (*name, (*value).into()));
    #[expect(clippy::cast_precision_loss, reason = "counts are exact up to 2^53")]
    let value = Value::Number(count as f64);
    Sample { subject, labels: labels.collect(), value }
}

fn histograms<const N: usize>(
    entries: Vec<(Subject, Histogram<N>)>,
    bounds: &'static [f64],
) -> Vec<Sample> {
    let sample = |(subject, histogram): (Subject, Histogram<N>)| Sample {
        subject,
        labels: OwnLabels::new(),
        value: Value::Histogram(seconds(&histogram, bounds)),
    };
    entries.into_iter().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use podmeter_common::{
        owner::Counts as _,
        tcp::{Outcome, Role, Traffic, handshake_idx},
    };

    use super::{CONNECT_BOUNDS, RTT_BOUNDS, connections};
    use crate::{
        metric::Value,
        subject::{CgroupId, Subject},
    };

    #[test]
    fn bounds_are_the_decimal_numbers_that_a_reader_expects() {
        let text =
            |bounds: &[f64]| bounds.iter().map(f64::to_string).collect::<Vec<String>>().join(" ");
        assert_eq!(
            text(&CONNECT_BOUNDS),
            "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 3 7"
        );
        assert_eq!(
            text(&RTT_BOUNDS),
            "0.000025 0.00005 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1"
        );
    }

    #[test]
    fn only_handshakes_that_there_were_have_series() {
        let mut traffic = Traffic::ZERO;
        traffic.handshakes[handshake_idx(Role::Client, Outcome::Refused)] = 3;
        traffic.handshakes[handshake_idx(Role::Server, Outcome::Established)] = 5;
        let samples = connections(&(Subject::Cgroup(CgroupId(7)), traffic));
        let found: Vec<_> = samples.iter().map(|sample| (&sample.labels, &sample.value)).collect();
        let labels = |role: &'static str, result: &'static str| {
            vec![("role", role.into()), ("result", result.into())]
        };
        assert_eq!(
            found,
            [
                (&labels("client", "refused"), &Value::Number(3.0)),
                (&labels("server", "established"), &Value::Number(5.0)),
            ]
        );
    }
}
