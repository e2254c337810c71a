//! `run_queue`: how long tasks that could run waited for a CPU, per cgroup.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hooks, minimum kernel and cost.

use aya::maps::MapError;
use podmeter_common::{
    run_queue::{BOUNDS_NS, MAX_CGROUPS, Waits},
    skip::Skip,
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
    subject::{CgroupId, Subject},
};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "run_queue",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/run_queue")),
    metrics: &[LATENCY],
    instead: "the time in which tasks of each cgroup waited for CPU (podmeter_pressure_seconds_total, cgroup v2)",
    switch: Switch::Off,
    hooks: &[
        HookDef {
            kind: HookKind::BtfTracepoint,
            programs: &[ProgramDef::required("sched_switch", "sched_switch")],
            memory: KernelMemory::Typed,
            globals,
        },
        HookDef {
            kind: HookKind::RawTracepoint,
            programs: &[ProgramDef::required("raw_sched_switch", "sched_switch")],
            memory: KernelMemory::Read,
            globals,
        },
    ],
    tables: &[WAITS],
    skips: &[Skip::Folded, Skip::Lost, Skip::NoOwner],
    names: no_names,
    read,
};

const WAITS: TableDef = TableDef::new::<u64, Waits>("WAITS", MAX_CGROUPS);

const LATENCY: Desc = Desc {
    name: "podmeter_cpu_run_queue_latency_seconds",
    help: "How long each task of the cgroup that could run waited until it got a CPU, after it was woken or preempted.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    origin: "sched_info of the task at sched_switch; a task's sum is run_delay in /proc/<pid>/schedstat",
};

/// The bounds of the histogram in seconds.
static BOUNDS_SECONDS: [f64; BOUNDS_NS.len()] = bounds_seconds(BOUNDS_NS);

fn globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    // The arguments that the program can take: previous and next task, behind `preempt` and maybe `prev_state`.
    let name = "sched_switch";
    let positions = types.tracepoint_positions(name, "task_struct")?;
    let ([1, next @ 2] | [2, next @ 3]) = positions[..] else {
        return Err(BtfError::Prototype { name, expected: "task_struct" });
    };
    let mut globals = owner::task_globals(types, host)?;
    globals.extend([
        ("TASK_PID", types.offset("task_struct", "pid", 4)?),
        ("TASK_PCOUNT", types.offset("task_struct", "sched_info.pcount", 8)?),
        ("TASK_RUN_DELAY", types.offset("task_struct", "sched_info.run_delay", 8)?),
        ("TASK_LAST_QUEUED", types.offset("task_struct", "sched_info.last_queued", 8)?),
        ("SWITCH_NEXT", next),
        ("TASK_CFS_RQ", types.offset("task_struct", "se.cfs_rq", 8)?),
        ("CFS_RQ_RQ", types.offset("cfs_rq", "rq", 8)?),
        ("RQ_CLOCK", types.offset("rq", "clock", 8)?),
    ]);
    Ok(globals)
}

fn read(maps: &mut Reader<'_>) -> Result<Vec<Family>, MapError> {
    let sample = |(cgroup_id, waits): (u64, Waits)| Sample {
        subject: Subject::Cgroup(CgroupId(cgroup_id)),
        labels: OwnLabels::new(),
        value: Value::Histogram(seconds(&waits, &BOUNDS_SECONDS)),
    };
    let samples = maps.entries(&WAITS)?.into_iter().map(sample).collect();
    Ok(vec![Family { desc: &LATENCY, samples }])
}

#[cfg(test)]
mod tests {
    use super::BOUNDS_SECONDS;

    #[test]
    fn bounds_are_the_decimal_numbers_that_a_reader_expects() {
        let text: Vec<String> = BOUNDS_SECONDS.iter().map(f64::to_string).collect();
        let expected = "0.000005 0.00001 0.000025 0.00005 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 \
                        0.1 0.25 0.5 1";
        assert_eq!(text.join(" "), expected);
    }
}
