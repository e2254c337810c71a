//! `drops`: packets that the kernel threw away, by reason and owner of the socket.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hook, minimum kernel and cost.
//! The words for reasons are those of the running kernel, from its own type information.

use aya::maps::MapError;
use podmeter_common::{
    drops::{Drop, Dropped, MAX_DROPS, Reason},
    skip::Skip,
};

use super::{
    btf::{BtfError, KernelTypes},
    def::{Globals, HookDef, HookKind, KernelMemory, Names, ProbeDef, ProgramDef, Switch},
    host::ProbeHost,
    maps::{Reader, TableDef},
    owner,
};
use crate::metric::{Desc, Family, Kind, Sample, Value};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "drops",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/drops")),
    metrics: &[DROPS],
    instead: "the counts of drops of each network namespace, in /proc/<pid>/net/snmp, netstat and dev",
    switch: Switch::On,
    hooks: &[
        HookDef {
            kind: HookKind::BtfTracepoint,
            programs: &[ProgramDef::required("kfree_skb", "kfree_skb")],
            // By address only of what is no more than a request for a socket.
            memory: KernelMemory::Read,
            globals: typed_globals,
        },
        HookDef {
            kind: HookKind::RawTracepoint,
            programs: &[ProgramDef::required("raw_kfree_skb", "kfree_skb")],
            memory: KernelMemory::Read,
            globals,
        },
    ],
    tables: &[TABLE],
    skips: &[Skip::Folded, Skip::Lost],
    names,
    read,
};

const TABLE: TableDef = TableDef::new::<Drop, Dropped>("DROPS", MAX_DROPS);

const DROPS: Desc = Desc {
    name: "podmeter_packet_drops_total",
    help: "Packets that the kernel threw away, by its own word for the reason (enum skb_drop_reason; before 5.17 not_specified only); under cgroup=\"(unresolved)\" those that belong to no socket.",
    kind: Kind::Counter,
    unit: "",
    labels: &["reason"],
    origin: "tracepoint kfree_skb",
};

fn globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    types.check_tracepoint("kfree_skb", &["sk_buff"])?;
    let n_arguments = types.n_tracepoint_arguments("kfree_skb")?;
    // A kernel that has no word for it never gives the reason.
    let reason = |name| types.enumerator(REASONS, name).unwrap_or(u32::MAX);
    let mut globals = owner::socket_globals(types, host)?;
    globals.extend([
        ("SKB_SK", types.offset("sk_buff", "sk", 8)?),
        ("SKB_PROTOCOL", types.offset("sk_buff", "protocol", 2)?),
        ("SOCK_FAMILY", types.offset("sock", "__sk_common.skc_family", 2)?),
        ("HAS_REASON", u32::from(n_arguments > 2)),
        ("HAS_RECEIVER", u32::from(n_arguments > 3)),
        ("NOT_DROPPED", reason("SKB_NOT_DROPPED_YET")),
        ("CONSUMED", reason("SKB_CONSUMED")),
    ]);
    Ok(globals)
}

/// The same, where the socket's cgroup is a typed pointer.
fn typed_globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    types.offset("sock", "sk_cgrp_data.cgroup", 8)?;
    globals(types, host)
}

const REASONS: &str = "skb_drop_reason";
const SUBSYSTEMS: &str = "skb_drop_reason_subsys";

/// The kernel's words, by [`Reason`].
fn names(types: &KernelTypes) -> Names {
    let core = types.enumerators(REASONS);
    let subsystems = types.enumerators(SUBSYSTEMS);
    words(&core, &subsystems)
}

fn words(core: &[(&str, u32)], subsystems: &[(&str, u32)]) -> Names {
    let of_core = core.iter().filter_map(|(name, value)| {
        Some((Reason::of(*value), name.strip_prefix("SKB_DROP_REASON_")?))
    });
    // The core is the first of the subsystems.
    let of_subsystems =
        subsystems.iter().filter(|(_, value)| *value > 0).filter_map(|(name, value)| {
            Some((Reason::of_subsystem(*value), name.strip_prefix("SKB_DROP_REASON_SUBSYS_")?))
        });
    let all = of_core.chain(of_subsystems).filter(|(reason, _)| *reason != Reason::OTHER);
    let mut words: Names =
        all.map(|(reason, name)| (reason.number(), name.to_ascii_lowercase())).collect();
    if words.is_empty() {
        // Before 5.17 no drop has a reason.
        words.push((Reason::of(0).number(), "not_specified".into()));
    }
    words
}

fn read(maps: &mut Reader<'_>) -> Result<Vec<Family>, MapError> {
    let entries = maps.entries::<Drop, Dropped>(&TABLE)?;
    let samples = entries.iter().map(|(key, dropped)| {
        let word = maps.names.iter().find(|(reason, _)| *reason == key.reason);
        let word = word.map_or("other", |(_, word)| word);
        #[expect(clippy::cast_precision_loss, reason = "counts are exact up to 2^53")]
        let value = Value::Number(dropped.n_packets as f64);
        Sample {
            subject: maps.socket_subject(key.owner),
            labels: vec![("reason", word.to_owned().into())],
            value,
        }
    });
    Ok(vec![Family { desc: &DROPS, samples: samples.collect() }])
}

#[cfg(test)]
mod tests {
    use podmeter_common::drops::Reason;

    use super::words;

    #[test]
    fn reasons_have_the_kernels_words() {
        let core = [
            ("SKB_NOT_DROPPED_YET", 0),
            ("SKB_CONSUMED", 1),
            ("SKB_DROP_REASON_NOT_SPECIFIED", 2),
            ("SKB_DROP_REASON_NO_SOCKET", 3),
            ("SKB_DROP_REASON_SUBSYS_MASK", 0xffff_0000),
        ];
        let subsystems =
            [("SKB_DROP_REASON_SUBSYS_CORE", 0), ("SKB_DROP_REASON_SUBSYS_OPENVSWITCH", 3)];
        let expected = [
            (2, "not_specified".to_owned()),
            (3, "no_socket".to_owned()),
            (Reason::of(0x3_0001).number(), "openvswitch".to_owned()),
        ];
        assert_eq!(words(&core, &subsystems), expected);
    }

    #[test]
    fn a_kernel_without_reasons_has_one_word() {
        assert_eq!(words(&[], &[]), [(0, "not_specified".to_owned())]);
    }
}
