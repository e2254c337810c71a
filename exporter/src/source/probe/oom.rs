//! `oom`: processes that the kernel killed because memory ran out.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hooks, minimum kernel and cost.

use aya::maps::MapError;
use podmeter_common::{
    oom::{Kills, Limit, MAX_CGROUPS, Victim},
    skip::Skip,
};

use super::{
    btf::{BtfError, KernelTypes},
    def::{Globals, HookDef, HookKind, KernelMemory, ProbeDef, ProgramDef, Switch, no_names},
    host::ProbeHost,
    maps::{Reader, TableDef},
    owner,
};
use crate::{
    metric::{Desc, Family, Kind, OwnLabels, Sample, Value},
    subject::{CgroupId, Subject},
};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "oom",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/oom")),
    metrics: &[KILLED, CAUSED],
    instead: "nothing of Podmeter's own; the kernel counts kills by victim in memory.events, which cAdvisor serves as \
              container_oom_events_total",
    switch: Switch::On,
    hooks: &[
        HookDef {
            kind: HookKind::Fentry,
            programs: &[
                ProgramDef::required("fentry_decide", "oom_kill_process"),
                ProgramDef::required("fentry_kill", "__oom_kill_process"),
            ],
            memory: KernelMemory::Read,
            globals,
        },
        HookDef {
            kind: HookKind::Kprobe,
            programs: &[
                ProgramDef::required("kprobe_decide", "oom_kill_process"),
                ProgramDef::required("kprobe_kill", "__oom_kill_process"),
            ],
            memory: KernelMemory::Read,
            globals,
        },
        // Last, because it does not know the limit.
        HookDef {
            kind: HookKind::RawTracepoint,
            programs: &[ProgramDef::required("mark_victim", "mark_victim")],
            memory: KernelMemory::Read,
            globals: globals_of_victim,
        },
    ],
    tables: &[KILLS, LIMITS],
    skips: &[Skip::Folded, Skip::Lost, Skip::NoOwner],
    names: no_names,
    read,
};

const KILLS: TableDef = TableDef::new::<Victim, Kills>("KILLS", MAX_CGROUPS);

const LIMITS: TableDef = TableDef::new::<u64, Kills>("LIMITS", MAX_CGROUPS);

const KILLED: Desc = Desc {
    name: "podmeter_oom_kills_total",
    help: "Processes of the cgroup that the kernel killed because memory ran out, by whose limit was reached: the \
           cgroup's own, that of one above it, none but the node's memory, or unknown where the hook does not see it.",
    kind: Kind::Counter,
    unit: "",
    labels: &["limit"],
    origin: "__oom_kill_process; the sum is memory.events.local oom_kill",
};

const CAUSED: Desc = Desc {
    name: "podmeter_oom_limit_kills_total",
    help: "Processes of the cgroup or of cgroups below it that the kernel killed because this cgroup's memory limit \
           was reached.",
    kind: Kind::Counter,
    unit: "",
    labels: &[],
    origin: "oom_control.memcg in oom_kill_process, for each __oom_kill_process (cgroup v2)",
};

fn globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    types.check_first_parameter("oom_kill_process", "oom_control")?;
    types.check_first_parameter("__oom_kill_process", "task_struct")?;
    let mut globals = owner::task_globals(types, host)?;
    globals.extend([
        ("OOM_CONTROL_MEMCG", types.offset("oom_control", "memcg", 8)?),
        ("MEM_CGROUP_CGROUP", types.offset("mem_cgroup", "css.cgroup", 8)?),
        ("CSS_SET_MEMORY", owner::css_of(types, "memory_cgrp_id")?),
        ("TASK_MM", types.offset("task_struct", "mm", 8)?),
    ]);
    Ok(globals)
}

fn globals_of_victim(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    if types.tracepoint_positions("mark_victim", "task_struct")?.first() != Some(&0) {
        return Err(BtfError::Prototype { name: "mark_victim", expected: "task_struct" });
    }
    owner::task_globals(types, host)
}

fn read(maps: &mut Reader<'_>) -> Result<Vec<Family>, MapError> {
    let killed =
        maps.entries(&KILLS)?.into_iter().filter_map(|(victim, kills): (Victim, Kills)| {
            let limit = Limit::ALL.into_iter().find(|limit| *limit as u32 == victim.limit)?;
            Some(sample(victim.cgroup_id, vec![("limit", limit.as_str().into())], kills))
        });
    let killed = Family { desc: &KILLED, samples: killed.collect() };
    let caused = maps.entries(&LIMITS)?.into_iter();
    let caused = caused.map(|(cgroup_id, kills)| sample(cgroup_id, OwnLabels::new(), kills));
    Ok(vec![killed, Family { desc: &CAUSED, samples: caused.collect() }])
}

fn sample(cgroup_id: u64, labels: OwnLabels, kills: Kills) -> Sample {
    Sample {
        subject: Subject::Cgroup(CgroupId(cgroup_id)),
        labels,
        value: Value::Number(number(kills)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn number(kills: Kills) -> f64 {
    kills.n as f64
}
