//! What Podmeter tells of itself: the `prometheus` registry of its own counters and gauges.
//!
//! The registry's own encoder is not used, because it panics on untyped families and cannot re-emit a foreign page;
//! [`SelfMetrics::families`] turns its content into families of the page.

mod descs;
mod kubernetes;
mod register;
mod remote_write;
mod targets;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Instant,
};

use prometheus::{
    CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    core::{Collector as _, MetricVec, MetricVecBuilder},
    proto::{MetricFamily, MetricType},
};

pub use self::descs::METRICS;
use self::{
    kubernetes::KubernetesMetrics, register::Register, remote_write::RemoteWriteMetrics,
    targets::TargetMetrics,
};
use crate::{
    attribution::kubernetes::KubernetesStatus,
    demand::Demand,
    labelling::relay::{Counts, DropReason},
    metric::{Family, Sample, Value},
    page::Page,
    remote_write::status::EndpointStatus,
    source::{
        SourceStats,
        gather::Gathered,
        probe::{ProbeStats, ProbeStatus},
    },
    subject::Subject,
    targets::Scraped,
};

/// Podmeter's own counters and gauges.
pub struct SelfMetrics {
    registry: Registry,
    source_duration: GaugeVec,
    source_success: IntGaugeVec,
    source_read_failures: IntCounterVec,
    probe_attached: IntGaugeVec,
    probe_map_entries: IntGaugeVec,
    probe_map_capacity: IntGaugeVec,
    probe_skipped: IntCounterVec,
    program_runs: IntCounterVec,
    program_seconds: CounterVec,
    cgroups: IntGaugeVec,
    cgroups_unresolved: IntGauge,
    cgroup_rescans: IntCounter,
    cgroup_watch_failures: IntCounter,
    cgroups_left_out: IntCounter,
    kubernetes: RwLock<Option<KubernetesMetrics>>,
    config_successful: IntGauge,
    config_time: Gauge,
    second_instance: IntGauge,
    log_lines_dropped: IntCounter,
    page_series: IntGauge,
    page_settled: IntCounter,
    page_dropped: IntCounterVec,
    page_type_conflicts: IntGauge,
    targets: TargetMetrics,
    remote_write: RemoteWriteMetrics,
    http_requests: IntCounterVec,
    http_limits: IntCounterVec,
    http_tls_failures: IntCounterVec,
    token_reviews: IntCounterVec,
    web_config_good: IntGauge,
}

/// What the cgroup tree says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupNumbers {
    /// Cgroups that exist.
    pub n_live: usize,
    /// Cgroups that were removed and are still remembered.
    pub n_dead: usize,
    /// Cgroups that were left out because there are too many, since start.
    pub n_left_out: u64,
    /// Full walks of the tree since start.
    pub n_rescans: u64,
    /// Directories that could not be watched, since start.
    pub n_watch_failures: u64,
}

/// Two self-metrics have one name, or one has a bad one.
#[derive(Debug, thiserror::Error)]
#[error("the self-metrics cannot be registered, which is a bug")]
pub struct TelemetryError(#[from] prometheus::Error);

impl SelfMetrics {
    /// Registers everything; fails only if two metrics had one name, which a test rules out.
    pub fn new(version: &str) -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let register = Register::of(&registry);
        let build_info = register.int_gauges(&descs::BUILD_INFO)?;
        build_info.with_label_values(&[version]).set(1);
        let web_config_good = register.int_gauge(&descs::WEB_CONFIG_GOOD)?;
        // Podmeter does not start with one that is not.
        web_config_good.set(1);
        Ok(Self {
            source_duration: register.gauges(&descs::SOURCE_DURATION)?,
            source_success: register.int_gauges(&descs::SOURCE_SUCCESS)?,
            source_read_failures: register.counters(&descs::SOURCE_READ_FAILURES)?,
            probe_attached: register.int_gauges(&descs::PROBE_ATTACHED)?,
            probe_map_entries: register.int_gauges(&descs::PROBE_MAP_ENTRIES)?,
            probe_map_capacity: register.int_gauges(&descs::PROBE_MAP_CAPACITY)?,
            probe_skipped: register.counters(&descs::PROBE_SKIPPED)?,
            program_runs: register.counters(&descs::PROGRAM_RUNS)?,
            program_seconds: register.float_counters(&descs::PROGRAM_SECONDS)?,
            cgroups: register.int_gauges(&descs::CGROUPS)?,
            cgroups_unresolved: register.int_gauge(&descs::CGROUPS_UNRESOLVED)?,
            cgroup_rescans: register.counter(&descs::CGROUP_RESCANS)?,
            cgroup_watch_failures: register.counter(&descs::CGROUP_WATCH_FAILURES)?,
            cgroups_left_out: register.counter(&descs::CGROUPS_LEFT_OUT)?,
            kubernetes: RwLock::new(None),
            config_successful: register.int_gauge(&descs::CONFIG_SUCCESSFUL)?,
            config_time: register.gauge(&descs::CONFIG_TIME)?,
            second_instance: register.int_gauge(&descs::SECOND_INSTANCE)?,
            log_lines_dropped: register.counter(&descs::LOG_LINES_DROPPED)?,
            page_series: register.int_gauge(&descs::PAGE_SERIES)?,
            page_settled: register.counter(&descs::PAGE_SETTLED)?,
            page_dropped: register.counters(&descs::PAGE_DROPPED)?,
            page_type_conflicts: register.int_gauge(&descs::PAGE_TYPE_CONFLICTS)?,
            targets: TargetMetrics::new(&register)?,
            remote_write: RemoteWriteMetrics::new(&register)?,
            http_requests: register.counters(&descs::HTTP_REQUESTS)?,
            http_limits: register.counters(&descs::HTTP_LIMITS)?,
            http_tls_failures: register.counters(&descs::HTTP_TLS_FAILURES)?,
            token_reviews: register.counters(&descs::TOKEN_REVIEWS)?,
            web_config_good,
            registry,
        })
    }

    /// Tells of the Kubernetes API, where it is asked, and no more where it is not.
    pub fn follow_kubernetes(&self, is_asked: bool) -> Result<(), TelemetryError> {
        let mut metrics = self.kubernetes.write().unwrap_or_else(PoisonError::into_inner);
        match (is_asked, metrics.take()) {
            (true, None) => *metrics = Some(KubernetesMetrics::new(&Register::of(&self.registry))?),
            (true, known) => *metrics = known,
            (false, Some(known)) => known.unregister(&self.registry)?,
            (false, None) => {}
        }
        Ok(())
    }

    /// Notes when a configuration came into force, or that one was refused.
    pub fn record_config(&self, in_force: Option<f64>) {
        self.config_successful.set(i64::from(in_force.is_some()));
        if let Some(seconds) = in_force {
            self.config_time.set(seconds);
        }
    }

    /// Notes whether another Podmeter was here before.
    pub fn record_instance(&self, is_second: bool) {
        self.second_instance.set(is_second.into());
    }

    /// Notes how many lines the log has lost, since the start.
    pub fn record_log(&self, n_dropped_lines: u64) {
        rise_to(&self.log_lines_dropped, n_dropped_lines);
    }

    /// Ends the series of a source that is no more.
    pub fn forget_source(&self, name: &str) {
        forget(&self.source_duration, "source", name);
        forget(&self.source_success, "source", name);
        forget(&self.source_read_failures, "source", name);
        forget(&self.probe_map_entries, "probe", name);
        forget(&self.probe_map_capacity, "probe", name);
        forget(&self.probe_skipped, "probe", name);
        forget(&self.program_runs, "probe", name);
        forget(&self.program_seconds, "probe", name);
    }

    /// Ends the series of a target that is no more.
    pub fn forget_target(&self, job: &str) {
        self.targets.forget(job);
    }

    /// Notes how it stands with the Kubernetes API, and the labels of pods that were left out and cut.
    pub fn record_kubernetes(&self, status: &KubernetesStatus, labels: (u64, u64), now: Instant) {
        let metrics = self.kubernetes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*metrics {
            metrics.record(status, labels, now);
        }
    }

    /// Notes which probes are attached, and why the others are not.
    pub fn record_probes(&self, statuses: &[ProbeStatus]) {
        self.probe_attached.reset();
        for status in statuses {
            let (attached, hook, reason) = match status.state {
                Ok(hook) => (1, hook.as_str(), ""),
                Err(reason) => (0, "", reason.as_str()),
            };
            self.probe_attached.with_label_values(&[status.name, hook, reason]).set(attached);
        }
    }

    /// Notes what became of a source in one collection.
    pub fn record_source(&self, gathered: &Gathered) {
        let name = gathered.name;
        self.source_duration.with_label_values(&[name]).set(gathered.duration.as_secs_f64());
        let success = self.source_success.with_label_values(&[name]);
        match &gathered.result {
            Ok(collected) => {
                success.set(1);
                self.record_stats(name, &collected.stats);
            }
            Err(_) => success.set(0),
        }
    }

    fn record_stats(&self, name: &str, stats: &SourceStats) {
        match stats {
            SourceStats::Plain => {}
            SourceStats::Files { n_failed } => {
                self.source_read_failures.with_label_values(&[name]).inc_by(*n_failed);
            }
            SourceStats::Probe(stats) => self.record_probe_stats(name, stats),
        }
    }

    fn record_probe_stats(&self, probe: &str, stats: &ProbeStats) {
        for map in &stats.maps {
            let entries = i64::try_from(map.n_entries).unwrap_or(i64::MAX);
            self.probe_map_entries.with_label_values(&[probe, map.map]).set(entries);
            self.probe_map_capacity.with_label_values(&[probe, map.map]).set(map.capacity.into());
        }
        for (reason, total) in &stats.skipped {
            rise_to(&self.probe_skipped.with_label_values(&[probe, reason]), *total);
        }
        // The kernel counts runs only while kernel.bpf_stats_enabled is 1.
        for runs in stats.runs.iter().filter(|runs| runs.n_runs > 0) {
            let labels = [probe, runs.program];
            rise_to(&self.program_runs.with_label_values(&labels), runs.n_runs);
            let seconds = self.program_seconds.with_label_values(&labels);
            seconds.inc_by((runs.seconds - seconds.get()).max(0.0));
        }
    }

    /// Notes the state of the cgroup tree, and how many ids of sources it did not have.
    pub fn record_cgroups(&self, numbers: CgroupNumbers, n_unresolved: usize) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.cgroups.with_label_values(&["live"]).set(gauge(numbers.n_live));
        self.cgroups.with_label_values(&["dead"]).set(gauge(numbers.n_dead));
        self.cgroups_unresolved.set(gauge(n_unresolved));
        rise_to(&self.cgroups_left_out, numbers.n_left_out);
        rise_to(&self.cgroup_rescans, numbers.n_rescans);
        rise_to(&self.cgroup_watch_failures, numbers.n_watch_failures);
    }

    /// Notes what became of a target in one collection.
    pub fn record_target(&self, scraped: &Scraped) {
        self.targets.record(scraped);
    }

    /// Notes how it stands with the receivers of remote write.
    pub fn record_remote_write(&self, statuses: &[EndpointStatus]) {
        self.remote_write.record(statuses);
    }

    /// Ends the series of a receiver that is no more.
    pub fn forget_receiver(&self, name: &str) {
        self.remote_write.forget(name);
    }

    /// Notes what did not go together on a page, and of a whole one its size.
    pub fn record_page(&self, page: &Page, demand: &Demand) {
        self.page_settled.inc_by(page.n_settled() as u64);
        if demand.is_whole() {
            let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            self.page_series.set(gauge(page.n_series()));
            self.page_type_conflicts.set(gauge(page.n_type_conflicts()));
        }
    }

    /// Notes what the page's rules left of Podmeter's own samples, and what was settled before them.
    pub fn record_relabelled(&self, n_settled: usize, counts: &Counts) {
        self.page_settled.inc_by(n_settled as u64);
        for reason in DropReason::ALL {
            let n_dropped = self.page_dropped.with_label_values(&[reason.as_str()]);
            n_dropped.inc_by(counts.dropped(reason) as u64);
        }
    }

    /// Notes one answered request.
    pub fn record_request(&self, handler: &str, status: u16) {
        self.http_requests.with_label_values(&[handler, &status.to_string()]).inc();
    }

    /// Notes that a request or client met one of the endpoint's limits.
    pub fn record_limit(&self, limit: &str) {
        self.http_limits.with_label_values(&[limit]).inc();
    }

    /// Notes that a TLS handshake with a client failed.
    pub fn record_tls_failure(&self, reason: &str) {
        self.http_tls_failures.with_label_values(&[reason]).inc();
    }

    /// Notes what the Kubernetes API said of a scraper's token.
    pub fn record_token_review(&self, result: &str) {
        self.token_reviews.with_label_values(&[result]).inc();
    }

    /// Notes whether the web configuration as it is now holds.
    pub fn record_web_config(&self, is_good: bool) {
        self.web_config_good.set(is_good.into());
    }

    /// Everything as families of the page.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        self.registry.gather().iter().filter_map(family).collect()
    }
}

/// Sets a counter to a total that the kernel keeps; a total that fell (a map was emptied) leaves it where it is.
fn rise_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Takes every series from the family whose label has this value.
fn forget<B: MetricVecBuilder>(series: &MetricVec<B>, label: &str, value: &str) {
    for family in series.collect() {
        for metric in family.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.get(label) == Some(&value) {
                // It is there: nobody else takes series away.
                drop(series.remove(&labels));
            }
        }
    }
}

fn family(family: &MetricFamily) -> Option<Family> {
    let desc = METRICS.iter().copied().find(|desc| desc.name == family.name())?;
    let samples = family
        .get_metric()
        .iter()
        .map(|metric| {
            let own_label = |name: &&'static str| {
                let pair = metric.get_label().iter().find(|pair| pair.name() == *name)?;
                Some((*name, Cow::Owned(pair.value().to_owned())))
            };
            let number = match family.get_field_type() {
                MetricType::COUNTER => metric.get_counter().get_value(),
                _ => metric.get_gauge().get_value(),
            };
            Sample {
                subject: Subject::Node,
                labels: desc.labels.iter().filter_map(own_label).collect(),
                value: Value::Number(number),
            }
        })
        .collect();
    Some(Family { desc, samples })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, Instant},
    };

    use super::{CgroupNumbers, METRICS, SelfMetrics};
    use crate::{
        attribution::kubernetes::{KubernetesStatus, Operation},
        demand::Demand,
        labelling::relay::Counts,
        metric::Value,
        page::Page,
        remote_write::status::EndpointStatus,
        source::{
            Collected, SourceStats,
            gather::Gathered,
            probe::{HookKind, MapUse, ProbeStats, ProbeStatus, ProgramRuns},
        },
        targets::{Scraped, Success, TargetError},
    };

    fn scraped(result: Result<Success, TargetError>) -> Scraped {
        Scraped { job: "j".into(), labels: Vec::new(), duration: Duration::ZERO, result }
    }

    fn filled() -> SelfMetrics {
        let metrics = SelfMetrics::new("1.2.3").unwrap();
        metrics.follow_kubernetes(true).unwrap();
        metrics.record_config(Some(1.0));
        let mut status = KubernetesStatus::new("test".into(), "node".into());
        status.forbidden.insert("pods".into(), "no".into());
        status.errors.insert((Operation::Watch, "forbidden"), 1);
        metrics.record_kubernetes(&status, (0, 0), Instant::now());
        let state = Ok(HookKind::Fentry);
        metrics.record_probes(&[ProbeStatus {
            name: "p",
            state,
            reasons: Vec::new(),
            instead: "",
        }]);
        let stats = ProbeStats {
            skipped: vec![("map_full", 3)],
            maps: vec![MapUse { map: "M", n_entries: 2, capacity: 8 }],
            runs: vec![ProgramRuns { program: "f", n_runs: 5, seconds: 0.5 }],
        };
        for stats in [SourceStats::Probe(stats), SourceStats::Files { n_failed: 1 }] {
            let result = Ok(Collected { families: Vec::new(), stats });
            metrics.record_source(&Gathered { name: "p", duration: Duration::ZERO, result });
        }
        metrics.record_cgroups(CgroupNumbers::default(), 0);
        metrics.record_page(&Page::default(), &Demand::default());
        metrics.record_relabelled(0, &Counts::default());
        metrics.record_target(&scraped(Ok(Success::default())));
        metrics.record_target(&scraped(Err(TargetError::Busy)));
        metrics.record_remote_write(&[EndpointStatus {
            n_buffer_bytes: Some(0),
            ..EndpointStatus::default()
        }]);
        metrics.record_request("metrics", 200);
        metrics.record_limit("scrapes");
        metrics.record_tls_failure("broken");
        metrics.record_token_review("allowed");
        metrics
    }

    #[test]
    fn every_described_metric_is_given_once_something_happened() {
        let families = filled().families();
        let given: BTreeSet<_> = families.iter().map(|family| family.desc.name).collect();
        let described: BTreeSet<_> = METRICS.iter().map(|desc| desc.name).collect();
        assert_eq!(given, described);
    }

    #[test]
    fn a_total_of_the_kernel_is_not_added_twice() {
        let metrics = filled();
        let result = || {
            let stats = ProbeStats {
                skipped: vec![("map_full", 4)],
                maps: vec![MapUse { map: "M", n_entries: 0, capacity: 8 }],
                runs: Vec::new(),
            };
            Ok(Collected { families: Vec::new(), stats: SourceStats::Probe(stats) })
        };
        for _ in 0..2 {
            let gathered = Gathered { name: "p", duration: Duration::ZERO, result: result() };
            metrics.record_source(&gathered);
        }
        let families = metrics.families();
        let skipped = families.iter().find(|family| family.desc.name.contains("skipped")).unwrap();
        assert_eq!(skipped.samples[0].value, Value::Number(4.0));
    }
}
