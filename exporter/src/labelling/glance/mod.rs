//! Who on the node waits, and who is busy: the few families that answer it, read back from labelled series to one row
//! per container. `/` and `podmeter top` show it. Pure.

mod rates;

use std::collections::BTreeMap;

pub use self::rates::{Rates, Row, rates, sort};
use crate::{metric::Value, page::PageFamily};

/// Most rows that are told apart; a node has some hundred containers. What is above is counted.
pub const MAX_ROWS: usize = 4096;

/// What is shown of a container, each per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Time that its quota kept it from running.
    Throttled,
    /// Time that tasks could have run and waited for a CPU.
    RunQueue,
    /// Bytes read from block devices.
    Read,
    /// Bytes written to block devices.
    Written,
    /// Bytes that came over the network.
    Received,
    /// Bytes that went over the network.
    Sent,
    /// TCP segments that were sent again.
    Retransmitted,
}

/// One number for each signal, in the order of [`Signal::ALL`].
pub type PerSignal = [Option<f64>; Signal::ALL.len()];

impl Signal {
    /// All of them, in the order to show.
    pub const ALL: [Self; 7] = [
        Self::Throttled,
        Self::RunQueue,
        Self::Read,
        Self::Written,
        Self::Received,
        Self::Sent,
        Self::Retransmitted,
    ];

    /// The sources that measure them, in the words of `collect[]`.
    pub const SOURCES: [&str; 5] = ["cgroup_cpu", "run_queue", "block_io", "network", "tcp"];

    /// Its name, one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::RunQueue => "run-queue",
            Self::Read => "read",
            Self::Written => "written",
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Retransmitted => "retransmitted",
        }
    }

    /// What its rate is shown in, and how many of them are one of its counter's units per second.
    #[must_use]
    pub fn unit(self) -> (&'static str, f64) {
        match self {
            Self::Throttled | Self::RunQueue => ("ms/s", 1e3),
            Self::Read | Self::Written | Self::Received | Self::Sent => ("kB/s", 1e-3),
            Self::Retransmitted => ("1/s", 1.0),
        }
    }

    /// Its place in [`PerSignal`].
    #[must_use]
    pub fn of(self, numbers: &PerSignal) -> Option<f64> {
        Self::ALL.iter().zip(numbers).find(|(signal, _)| **signal == self)?.1.to_owned()
    }

    /// What a series of that family counts for, if for anything.
    fn counted_by<'a>(family: &str, label: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        match family {
            "podmeter_cpu_cfs_throttled_seconds_total" => Some(Self::Throttled),
            "podmeter_cpu_run_queue_latency_seconds" => Some(Self::RunQueue),
            "podmeter_io_bytes_total" => match label("operation")? {
                "read" => Some(Self::Read),
                "write" => Some(Self::Written),
                _ => None,
            },
            "podmeter_network_bytes_total" => match label("direction")? {
                "receive" => Some(Self::Received),
                "transmit" => Some(Self::Sent),
                _ => None,
            },
            "podmeter_tcp_retransmitted_segments_total" => Some(Self::Retransmitted),
            _ => None,
        }
    }
}

/// The counters of all rows at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    rows: BTreeMap<String, PerSignal>,
    n_left_out: usize,
}

impl Reading {
    /// Reads Podmeter's own families.
    #[must_use]
    pub fn of_families(families: &[PageFamily]) -> Self {
        let mut reading = Self::default();
        for family in families {
            for series in &family.series {
                let label = |name: &str| series.labels.get(name);
                let value = match &series.value {
                    Value::Number(value) => *value,
                    Value::Histogram(histogram) => histogram.sum,
                };
                reading.add(family.desc.name, label, value);
            }
        }
        reading
    }

    /// Takes a sample as it stands on a page, where a histogram has a sum of its own.
    pub fn add_sample<'a>(
        &mut self,
        name: &str,
        label: impl Fn(&str) -> Option<&'a str>,
        value: f64,
    ) {
        self.add(name.strip_suffix("_sum").unwrap_or(name), label, value);
    }

    /// Takes a number of that family, if it is one of those that are shown, about something that has a name.
    fn add<'a>(&mut self, family: &str, label: impl Fn(&str) -> Option<&'a str>, value: f64) {
        let Some(signal) = Signal::counted_by(family, &label) else {
            return;
        };
        let Some(who) = who(&label) else {
            return;
        };
        if !self.rows.contains_key(&who) && self.rows.len() >= MAX_ROWS {
            self.n_left_out += 1;
            return;
        }
        let sums = self.rows.entry(who).or_default();
        // Devices, operations and families of addresses are added up.
        for (known, sum) in Signal::ALL.iter().zip(sums) {
            if *known == signal {
                *sum = Some(sum.unwrap_or_default() + value);
            }
        }
    }

    /// How many series found no room.
    #[must_use]
    pub fn n_left_out(&self) -> usize {
        self.n_left_out
    }
}

/// How many letters of a container's id are shown, as `docker ps` and `crictl ps` do.
const N_ID_LETTERS: usize = 13;

/// Whom a series is about: `namespace/pod/container`, what stands for it without the Kubernetes API, or the cgroup.
fn who<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let container = match (label("container"), label("container_id")) {
        (Some(name), _) => format!("/{name}"),
        (None, Some(id)) => format!("/{}", id.chars().take(N_ID_LETTERS).collect::<String>()),
        (None, None) => String::new(),
    };
    if let Some(pod) = label("pod") {
        return Some(format!("{}/{pod}{container}", label("namespace").unwrap_or_default()));
    }
    if let Some(uid) = label("pod_uid") {
        return Some(format!("pod {uid}{container}"));
    }
    if !container.is_empty() {
        return Some(format!("container {}", container.trim_start_matches('/')));
    }
    label("cgroup").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{MAX_ROWS, Reading, Signal, who};
    use crate::{
        metric::{Histogram, Value},
        page::{Labels, PageFamily, Series},
        source::{host::HOST, probe::PROBES},
    };

    #[test]
    fn rows_are_named_by_the_best_that_is_known() {
        let check = |labels: &[(&str, &'static str)], expected: Option<&str>| {
            let label =
                |name: &str| labels.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
            assert_eq!(who(label).as_deref(), expected);
        };
        let id = "0123456789abcdef0123";
        check(&[("namespace", "n"), ("pod", "p"), ("container", "c")], Some("n/p/c"));
        check(&[("namespace", "n"), ("pod", "p")], Some("n/p"));
        check(&[("namespace", "n"), ("pod", "p"), ("container_id", id)], Some("n/p/0123456789abc"));
        check(&[("pod_uid", "u"), ("container_id", id)], Some("pod u/0123456789abc"));
        check(&[("container_id", id)], Some("container 0123456789abc"));
        check(&[("cgroup", "/system.slice/a.service")], Some("/system.slice/a.service"));
        check(&[("node", "n1")], None);
    }

    /// Families and sources are found by name, so that a renamed one must not be lost.
    #[test]
    fn every_signal_is_measured_by_its_sources() {
        let mut found = BTreeSet::new();
        let probes = PROBES.iter().map(|probe| (probe.name, probe.metrics));
        let host = HOST.iter().map(|reader| (reader.name, reader.metrics));
        for (source, metrics) in probes.chain(host) {
            for desc in metrics {
                for value in ["read", "write", "receive", "transmit"] {
                    let label = |name: &str| desc.labels.contains(&name).then_some(value);
                    if let Some(signal) = Signal::counted_by(desc.name, label) {
                        assert!(Signal::SOURCES.contains(&source), "{source}");
                        found.insert(signal.as_str());
                    }
                }
            }
        }
        assert_eq!(found, Signal::ALL.map(Signal::as_str).into_iter().collect());
    }

    #[test]
    fn devices_and_families_are_added_up() {
        let desc = PROBES
            .iter()
            .flat_map(|probe| probe.metrics)
            .find(|desc| desc.name == "podmeter_cpu_run_queue_latency_seconds");
        let labels = Labels::new([("cgroup", "/a")]).unwrap();
        let histogram = Histogram { bounds: &[1.0], buckets: vec![1, 0], sum: 0.5 };
        let series = Series { labels, value: Value::Histogram(histogram) };
        let family = PageFamily { desc: desc.unwrap(), series: vec![series] };
        let mut reading = Reading::of_families(&[family]);
        for device in ["vda", "vdb"] {
            let label = |name: &str| match name {
                "cgroup" => Some("/a"),
                "operation" => Some("read"),
                "device" => Some(device),
                _ => None,
            };
            reading.add_sample("podmeter_io_bytes_total", label, 10.0);
            reading.add_sample("podmeter_io_errors_total", label, 10.0);
        }
        let label = |name: &str| (name == "cgroup").then_some("/a");
        reading.add_sample("podmeter_cpu_run_queue_latency_seconds_sum", label, 0.25);
        reading.add_sample("podmeter_cpu_run_queue_latency_seconds_count", label, 9.0);
        let row = reading.rows.get("/a").unwrap();
        assert_eq!(*row, [None, Some(0.75), Some(20.0), None, None, None, None]);
        assert_eq!(Signal::Read.of(row), Some(20.0));
        assert_eq!(Signal::Written.of(row), None);
    }

    #[test]
    fn rows_are_bounded_and_what_is_left_out_is_counted() {
        let mut reading = Reading::default();
        let names: Vec<String> = (0..MAX_ROWS + 3).map(|idx| format!("/{idx}")).collect();
        for name in &names {
            let label = |wanted: &str| (wanted == "cgroup").then_some(name.as_str());
            reading.add("podmeter_cpu_cfs_throttled_seconds_total", label, 1.0);
        }
        assert_eq!((reading.rows.len(), reading.n_left_out()), (MAX_ROWS, 3));
    }
}
