//! `cpu_throttle`: how long each CFS throttle lasted, per cgroup that owns the quota.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hooks, minimum kernel and cost.

use aya::maps::MapError;
use podmeter_common::{
    cpu_throttle::{BOUNDS_NS, MAX_CGROUPS, Throttles},
    skip::Skip,
};

use super::{
    btf::{BtfError, KernelTypes},
    def::{Globals, HookDef, HookKind, KernelMemory, ProbeDef, ProgramDef, Switch, no_names},
    host::ProbeHost,
    maps::{Reader, TableDef, bounds_seconds, seconds},
    owner,
};
use crate::metric::{Desc, Family, Kind, OwnLabels, Sample, Value};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "cpu_throttle",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cpu_throttle")),
    metrics: &[DURATION],
    instead: "how often and how long in sum each cgroup was throttled, from cpu.stat (podmeter_cpu_cfs_*)",
    switch: Switch::On,
    hooks: &[
        HookDef {
            kind: HookKind::Fentry,
            programs: &[
                ProgramDef::required("fentry_unthrottle", "unthrottle_cfs_rq"),
                ProgramDef::required("fexit_unthrottle", "unthrottle_cfs_rq"),
            ],
            memory: KernelMemory::Read,
            globals,
        },
        HookDef {
            kind: HookKind::Kprobe,
            programs: &[
                ProgramDef::required("kprobe_unthrottle", "unthrottle_cfs_rq"),
                ProgramDef::required("kretprobe_unthrottle", "unthrottle_cfs_rq"),
            ],
            memory: KernelMemory::Read,
            globals,
        },
    ],
    tables: &[THROTTLES],
    skips: &[
        Skip::Folded,
        Skip::Lost,
        Skip::InFlightFull,
        Skip::ClockBackwards,
        Skip::NoEntry,
        Skip::ReturnedEarly,
        Skip::NoDuration,
    ],
    names: no_names,
    read,
};

const THROTTLES: TableDef = TableDef::new::<u64, Throttles>("THROTTLES", MAX_CGROUPS);

const DURATION: Desc = Desc {
    name: "podmeter_cpu_throttle_duration_seconds",
    help: "How long each CFS throttle of the cgroup that owns the quota lasted; one observation per throttle and CPU.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    origin: "rq->clock less cfs_rq->throttled_clock in unthrottle_cfs_rq; their sum is cpu.stat's throttled_usec",
};

/// The bounds of the histogram in seconds.
static BOUNDS_SECONDS: [f64; BOUNDS_NS.len()] = bounds_seconds(BOUNDS_NS);

fn globals(types: &KernelTypes, _host: &ProbeHost) -> Result<Globals, BtfError> {
    types.check_first_parameter("unthrottle_cfs_rq", "cfs_rq")?;
    // Since the task-based throttling of 6.18, unthrottle_cfs_rq gives up at once where no runtime is left:
    // elixir.bootlin.com/linux/v6.18/source/kernel/sched/fair.c, unthrottle_cfs_rq().
    let returns_early = types.has_field("cfs_rq", "throttled_limbo_list");
    let mut globals = owner::cgroup_globals(types)?;
    globals.extend([
        ("CFS_RQ_TG", types.offset("cfs_rq", "tg", 8)?),
        ("CFS_RQ_RQ", types.offset("cfs_rq", "rq", 8)?),
        ("CFS_RQ_THROTTLED_CLOCK", types.offset("cfs_rq", "throttled_clock", 8)?),
        ("CFS_RQ_RUNTIME_ENABLED", types.offset("cfs_rq", "runtime_enabled", 4)?),
        ("CFS_RQ_RUNTIME_REMAINING", types.offset("cfs_rq", "runtime_remaining", 8)?),
        ("RQ_CLOCK", types.offset("rq", "clock", 8)?),
        ("RETURNS_EARLY", u32::from(returns_early)),
    ]);
    Ok(globals)
}

fn read(maps: &mut Reader<'_>) -> Result<Vec<Family>, MapError> {
    let sample = |(cgroup_id, throttles): (u64, Throttles)| Sample {
        subject: THROTTLES.subject(cgroup_id),
        labels: OwnLabels::new(),
        value: Value::Histogram(seconds(&throttles, &BOUNDS_SECONDS)),
    };
    let samples = maps.entries(&THROTTLES)?.into_iter().map(sample).collect();
    Ok(vec![Family { desc: &DURATION, samples }])
}

#[cfg(test)]
mod tests {
    use super::BOUNDS_SECONDS;

    #[test]
    fn bounds_are_the_decimal_numbers_that_a_reader_expects() {
        let text: Vec<String> = BOUNDS_SECONDS.iter().map(f64::to_string).collect();
        let expected =
            "0.0005 0.001 0.0025 0.005 0.01 0.02 0.03 0.04 0.05 0.06 0.07 0.08 0.09 0.1 0.2 0.5 1";
        assert_eq!(text.join(" "), expected);
    }
}
