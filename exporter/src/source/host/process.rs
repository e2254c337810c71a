//! What Podmeter itself costs, from `/proc/self`, under the names that every Prometheus client library gives.

use std::sync::Arc;

use procfs::{
    ProcResult, WithCurrentSystemInfo as _,
    process::{LimitValue, Process},
};

use crate::{
    cgroup::tree::CgroupTree,
    memory,
    metric::{Desc, Family, Kind, Sample, Value},
    source::{Collected, Source, SourceError, SourceStats},
    subject::Subject,
};

/// The families of this source.
pub const METRICS: &[Desc] =
    &[CPU_SECONDS, HEAP, MAX_FDS, OPEN_FDS, RESIDENT_MEMORY, START_TIME, VIRTUAL_MEMORY];

const CPU_SECONDS: Desc = Desc {
    name: "process_cpu_seconds_total",
    help: "Total user and system CPU time spent in seconds.",
    kind: Kind::Counter,
    unit: "seconds",
    labels: &[],
    origin: "/proc/self/stat: utime, stime",
};
const HEAP: Desc = Desc {
    name: "process_heap_bytes",
    help: "Process heap size in bytes: what is in use of it.",
    kind: Kind::Gauge,
    unit: "bytes",
    labels: &[],
    origin: "mallinfo: uordblks",
};
const MAX_FDS: Desc = Desc {
    name: "process_max_fds",
    help: "Maximum number of open file descriptors.",
    kind: Kind::Gauge,
    unit: "",
    labels: &[],
    origin: "/proc/self/limits",
};
const OPEN_FDS: Desc = Desc {
    name: "process_open_fds",
    help: "Number of open file descriptors.",
    kind: Kind::Gauge,
    unit: "",
    labels: &[],
    origin: "/proc/self/fd",
};
const RESIDENT_MEMORY: Desc = Desc {
    name: "process_resident_memory_bytes",
    help: "Resident memory size in bytes.",
    kind: Kind::Gauge,
    unit: "bytes",
    labels: &[],
    origin: "/proc/self/stat: rss",
};
const START_TIME: Desc = Desc {
    name: "process_start_time_seconds",
    help: "Start time of the process since the Unix epoch in seconds.",
    kind: Kind::Gauge,
    unit: "seconds",
    labels: &[],
    origin: "/proc/self/stat: starttime; /proc/stat: btime",
};
const VIRTUAL_MEMORY: Desc = Desc {
    name: "process_virtual_memory_bytes",
    help: "Virtual memory size in bytes.",
    kind: Kind::Gauge,
    unit: "bytes",
    labels: &[],
    origin: "/proc/self/stat: vsize",
};

/// The source.
#[derive(Debug, Default)]
pub struct ProcessSource {
    /// When the process was started, as the clock was when that was first looked at. The kernel moves its own answer when
    /// the clock is set, and that would look like a restart.
    start_seconds: Option<f64>,
}

impl Source for ProcessSource {
    fn name(&self) -> &'static str {
        "process"
    }

    fn collect(
        &mut self,
        _tree: &Arc<CgroupTree>,
        _freed: &[Subject],
    ) -> Result<Collected, SourceError> {
        Ok(Collected { families: self.read()?, stats: SourceStats::Plain })
    }
}

impl ProcessSource {
    #[expect(
        clippy::cast_precision_loss,
        reason = "bytes, ticks and descriptors are far below 2^53"
    )]
    fn read(&mut self) -> ProcResult<Vec<Family>> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks_per_second = procfs::ticks_per_second() as f64;
        let start_seconds = match self.start_seconds {
            Some(known) => known,
            None => procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks_per_second,
        };
        self.start_seconds = Some(start_seconds);
        let mut families = vec![
            family(&CPU_SECONDS, (stat.utime + stat.stime) as f64 / ticks_per_second),
            family(&OPEN_FDS, process.fd_count()? as f64),
            family(&RESIDENT_MEMORY, stat.rss_bytes().get() as f64),
            family(&START_TIME, start_seconds),
            family(&VIRTUAL_MEMORY, stat.vsize as f64),
        ];
        if let Some(n_bytes) = memory::heap_bytes() {
            families.push(family(&HEAP, n_bytes as f64));
        }
        // An unlimited number of descriptors has no number to give.
        if let LimitValue::Value(max) = process.limits()?.max_open_files.soft_limit {
            families.push(family(&MAX_FDS, max as f64));
        }
        Ok(families)
    }
}

fn family(desc: &'static Desc, number: f64) -> Family {
    let sample =
        Sample { subject: Subject::Node, labels: Vec::new(), value: Value::Number(number) };
    Family { desc, samples: vec![sample] }
}

#[cfg(test)]
mod tests {
    use super::{METRICS, ProcessSource};
    use crate::metric::Value;

    #[test]
    fn a_living_process_has_every_number() {
        let families = ProcessSource::default().read().unwrap();
        assert_eq!(families.len(), METRICS.len());
        for family in families {
            let Value::Number(number) = family.samples[0].value else { panic!("a number") };
            assert!(number >= 0.0, "{} is {number}", family.desc.name);
        }
    }
}
