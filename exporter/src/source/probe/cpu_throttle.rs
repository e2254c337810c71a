//! `cpu_throttle`: how long each CFS throttle lasted, per cgroup that owns the quota.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hooks, minimum kernel and cost.

use std::io::ErrorKind;

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError, PerCpuArray},
};
use podmeter_common::cpu_throttle::{BOUNDS_NS, MAX_CGROUPS, Skip, Throttles};

use super::{
    Globals, HookDef, HookKind, ProbeDef, ProbeReading, ProgramDef,
    btf::{BtfError, KernelTypes},
};
use crate::{
    metric::{Desc, Family, Histogram, Kind, Sample, Value},
    subject::{CgroupId, Subject},
};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "cpu_throttle",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cpu_throttle")),
    metrics: &[DURATION],
    instead: "how often and how long in sum each cgroup was throttled, from cpu.stat (podmeter_cpu_cfs_*)",
    globals,
    hooks: &[
        HookDef {
            kind: HookKind::Fentry,
            programs: &[
                ProgramDef { name: "fentry_unthrottle", function: "unthrottle_cfs_rq" },
                ProgramDef { name: "fexit_unthrottle", function: "unthrottle_cfs_rq" },
            ],
        },
        HookDef {
            kind: HookKind::Kprobe,
            programs: &[
                ProgramDef { name: "kprobe_unthrottle", function: "unthrottle_cfs_rq" },
                ProgramDef { name: "kretprobe_unthrottle", function: "unthrottle_cfs_rq" },
            ],
        },
    ],
    read,
    forget,
};

const DURATION: Desc = Desc {
    name: "podmeter_cpu_throttle_duration_seconds",
    help: "How long each CFS throttle of the cgroup that owns the quota lasted; one observation per throttle and CPU.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    origin: "rq->clock less cfs_rq->throttled_clock in unthrottle_cfs_rq; their sum is cpu.stat's throttled_usec",
};

/// The bounds of the histogram in seconds.
static BOUNDS_SECONDS: [f64; BOUNDS_NS.len()] = bounds_seconds();

#[expect(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "evaluated at compile time on a literal of small numbers"
)]
const fn bounds_seconds() -> [f64; BOUNDS_NS.len()] {
    let mut bounds = [0.0; BOUNDS_NS.len()];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = BOUNDS_NS[index] as f64 / 1e9;
        index += 1;
    }
    bounds
}

fn globals(types: &KernelTypes) -> Result<Globals, BtfError> {
    types.check_first_parameter("unthrottle_cfs_rq", "cfs_rq")?;
    // Since the task-based throttling of 6.18, unthrottle_cfs_rq gives up at once where no runtime is left:
    // elixir.bootlin.com/linux/v6.18/source/kernel/sched/fair.c, unthrottle_cfs_rq().
    let returns_early = types.has_field("cfs_rq", "throttled_limbo_list");
    Ok(vec![
        ("CFS_RQ_TG", types.offset("cfs_rq", "tg", 8)?),
        ("CFS_RQ_RQ", types.offset("cfs_rq", "rq", 8)?),
        ("CFS_RQ_THROTTLED_CLOCK", types.offset("cfs_rq", "throttled_clock", 8)?),
        ("CFS_RQ_RUNTIME_ENABLED", types.offset("cfs_rq", "runtime_enabled", 4)?),
        ("CFS_RQ_RUNTIME_REMAINING", types.offset("cfs_rq", "runtime_remaining", 8)?),
        ("RQ_CLOCK", types.offset("rq", "clock", 8)?),
        ("TASK_GROUP_CGROUP", types.offset("task_group", "css.cgroup", 8)?),
        ("CGROUP_KN", types.offset("cgroup", "kn", 8)?),
        ("KERNFS_NODE_ID", types.offset("kernfs_node", "id", 8)?),
        ("RETURNS_EARLY", u32::from(returns_early)),
    ])
}

fn read(ebpf: &Ebpf) -> Result<ProbeReading, MapError> {
    let throttles = throttles(ebpf.map("THROTTLES"))?;
    let mut samples = Vec::new();
    for entry in &throttles {
        let (cgroup_id, throttles) = entry?;
        samples.push(Sample {
            subject: Subject::Cgroup(CgroupId(cgroup_id)),
            labels: Vec::new(),
            value: Value::Histogram(histogram(&throttles)),
        });
    }
    let n_entries = samples.len();
    Ok(ProbeReading {
        families: vec![Family { desc: &DURATION, samples }],
        skipped: skipped(ebpf)?,
        map: "THROTTLES",
        n_entries,
        capacity: MAX_CGROUPS,
    })
}

fn forget(ebpf: &mut Ebpf, cgroups: &[CgroupId]) -> Result<(), MapError> {
    let map = ebpf.map_mut("THROTTLES").ok_or_else(|| no_map("THROTTLES"))?;
    let mut throttles = HashMap::<_, u64, Throttles>::try_from(map)?;
    for cgroup in cgroups {
        match throttles.remove(&cgroup.0) {
            // Most cgroups are never throttled and have no entry.
            Ok(()) => {}
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn histogram(throttles: &Throttles) -> Histogram {
    #[expect(
        clippy::cast_precision_loss,
        reason = "104 days of throttling are exact to the nanosecond"
    )]
    let sum = throttles.sum_ns as f64 / 1e9;
    Histogram { bounds: &BOUNDS_SECONDS, buckets: throttles.buckets.to_vec(), sum }
}

fn skipped(ebpf: &Ebpf) -> Result<Vec<(&'static str, u64)>, MapError> {
    let map = ebpf.map("SKIPPED").ok_or_else(|| no_map("SKIPPED"))?;
    let slots = PerCpuArray::<_, u64>::try_from(map)?;
    Skip::ALL
        .iter()
        .map(|reason| Ok((reason.as_str(), slots.get(&(*reason as u32), 0)?.iter().sum())))
        .collect()
}

fn throttles(map: Option<&aya::maps::Map>) -> Result<HashMap<&MapData, u64, Throttles>, MapError> {
    HashMap::try_from(map.ok_or_else(|| no_map("THROTTLES"))?)
}

fn no_map(name: &str) -> MapError {
    MapError::InvalidName { name: name.into() }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS_SECONDS, Throttles, histogram};

    #[test]
    fn bounds_are_the_decimal_numbers_that_a_reader_expects() {
        let text: Vec<String> = BOUNDS_SECONDS.iter().map(f64::to_string).collect();
        let expected =
            "0.0005 0.001 0.0025 0.005 0.01 0.02 0.03 0.04 0.05 0.06 0.07 0.08 0.09 0.1 0.2 0.5 1";
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn a_histogram_has_the_sum_in_seconds_and_every_bucket() {
        let mut throttles = Throttles { sum_ns: 90_500_000, ..Throttles::ZERO };
        throttles.buckets[0] = 1;
        throttles.buckets[12] = 1;
        let histogram = histogram(&throttles);
        assert!((histogram.sum - 0.0905).abs() < 1e-12);
        assert_eq!(histogram.count(), 2);
        assert_eq!(histogram.buckets.len(), BOUNDS_SECONDS.len() + 1);
    }
}
