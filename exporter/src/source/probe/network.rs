//! `network`: what each owner of sockets received and sent, with the packets and bytes of the wire.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hooks, minimum kernel and cost, and
//! says which packets it cannot see; docs/decisions/0007-packets-as-on-the-wire.md says why they are counted so.

use aya::maps::MapError;
use podmeter_common::{
    network::{Direction, Flow, IpFamily, MAX_OWNERS, Traffic, flow_idx},
    skip::Skip,
};

use super::{
    def::{HookDef, HookKind, KernelMemory, ProbeDef, ProgramDef, Switch, no_names},
    maps::{Reader, TableDef},
    owner,
};
use crate::{
    metric::{Desc, Family, Kind, Sample, Value},
    subject::Subject,
};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "network",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/network")),
    metrics: &[BYTES, PACKETS, BUFFERS],
    instead: "sums over all containers of a pod, from the kubelet's container_network_* (none for hostNetwork)",
    switch: Switch::On,
    hooks: &[HookDef {
        kind: HookKind::CgroupSkb,
        programs: &[
            ProgramDef::required("receive", "cgroup ingress"),
            ProgramDef::required("transmit", "cgroup egress"),
        ],
        memory: KernelMemory::ReadOnCgroupV1,
        globals: owner::packet_globals,
    }],
    tables: &[TRAFFIC],
    skips: &[Skip::Folded, Skip::Lost, Skip::NoOwner],
    names: no_names,
    read,
};

const TRAFFIC: TableDef = TableDef::new::<u64, Traffic>("TRAFFIC", MAX_OWNERS);

const LABELS: &[&str] = &["direction", "ip_family"];

const BYTES: Desc = Desc {
    name: "podmeter_network_bytes_total",
    help: "Bytes that sockets received and sent, with the IP and transport headers of each packet on the wire and without link headers.",
    kind: Kind::Counter,
    unit: "bytes",
    labels: LABELS,
    origin: "__sk_buff.len at cgroup_skb, plus the headers of all packets of the buffer but the first",
};

const PACKETS: Desc = Desc {
    name: "podmeter_network_packets_total",
    help: "IP packets that sockets received and sent, counted as they are on the wire, however many of them the kernel handled at once.",
    kind: Kind::Counter,
    unit: "",
    labels: LABELS,
    origin: "__sk_buff.gso_segs at cgroup_skb, or 1",
};

const BUFFERS: Desc = Desc {
    name: "podmeter_network_buffers_total",
    help: "Socket buffers that held the packets: what the kernel handled at once (GSO, GRO), and what a veth link calls a packet.",
    kind: Kind::Counter,
    unit: "",
    labels: LABELS,
    origin: "runs of the programs at cgroup_skb",
};

/// One of the numbers of a flow.
type Count = fn(&Flow) -> u64;

/// The families with what they count.
const FAMILIES: [(&Desc, Count); 3] =
    [(&BYTES, |flow| flow.bytes), (&PACKETS, Flow::packets), (&BUFFERS, |flow| flow.buffers)];

fn read(maps: &mut Reader<'_>) -> Result<Vec<Family>, MapError> {
    let entries = maps.entries::<u64, Traffic>(&TRAFFIC)?.into_iter();
    let owners: Vec<_> =
        entries.map(|(owner, traffic)| (maps.socket_subject(owner), traffic)).collect();
    let family = |(desc, count): (&'static Desc, Count)| {
        let samples =
            owners.iter().flat_map(|(subject, traffic)| samples(*subject, traffic, count));
        Family { desc, samples: samples.collect() }
    };
    Ok(FAMILIES.map(family).into())
}

/// One number of each flow in which there was any packet.
fn samples(subject: Subject, traffic: &Traffic, count: Count) -> Vec<Sample> {
    let kinds = Direction::ALL
        .into_iter()
        .flat_map(|direction| IpFamily::ALL.map(|family| (direction, family)));
    let sample = |(direction, family): (Direction, IpFamily)| {
        let flow = traffic.flows.get(flow_idx(direction, family))?;
        if flow.buffers == 0 {
            return None;
        }
        let labels = [("direction", direction.as_str()), ("ip_family", family.as_str())];
        let labels = labels.map(|(name, value)| (name, value.into())).into();
        #[expect(clippy::cast_precision_loss, reason = "counts are exact up to 2^53")]
        let value = Value::Number(count(flow) as f64);
        Some(Sample { subject, labels, value })
    };
    kinds.filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use podmeter_common::{
        network::{Direction, Flow, IpFamily, Traffic, flow_idx},
        owner::Counts as _,
    };

    use super::{FAMILIES, samples};
    use crate::{
        metric::Value,
        subject::{CgroupId, Subject},
    };

    #[test]
    fn only_flows_that_there_were_have_series() {
        let mut traffic = Traffic::ZERO;
        traffic.flows[flow_idx(Direction::Receive, IpFamily::V6)] =
            Flow { bytes: 3000, buffers: 1, more_packets: 1 };
        let subject = Subject::Cgroup(CgroupId(7));
        let found = FAMILIES.map(|(desc, count)| {
            let [sample] = samples(subject, &traffic, count).try_into().unwrap();
            assert_eq!(sample.subject, subject);
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(labels, ["direction=receive", "ip_family=ipv6"]);
            (desc.name, sample.value)
        });
        let expected = [
            ("podmeter_network_bytes_total", Value::Number(3000.0)),
            ("podmeter_network_packets_total", Value::Number(2.0)),
            ("podmeter_network_buffers_total", Value::Number(1.0)),
        ];
        assert_eq!(found, expected);
    }
}
