//! What is told of the targets of the relay, by job.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::{Register, TelemetryError, forget};
use crate::{
    labelling::relay::{Counts, DropReason, OwnerKind},
    metric::{Desc, Kind},
    targets::Scraped,
};

pub(super) static FAILURES: Desc = counter(
    "podmeter_target_failures_total",
    "Scrapes of the target that gave nothing, by reason.",
    &["job", "reason"],
    "the scrape of the target",
);
pub(super) static DROPPED: Desc = counter(
    "podmeter_target_dropped_samples_total",
    "Samples of the target's pages that are not served, by reason.",
    &["job", "reason"],
    "the scrape of the target",
);
pub(super) static SAMPLES: Desc = gauge(
    "podmeter_target_samples",
    "Samples of the target's last page that are served, by whom they are about.",
    &["job", "owner"],
    "the labels and cgroup paths of the samples",
);
pub(super) static BAD_METADATA: Desc = counter(
    "podmeter_target_bad_metadata_total",
    "Lines of metadata on the target's pages that are none, or that contradict an earlier one.",
    &["job"],
    "the scrape of the target",
);
pub(super) static CACHED_SERIES: Desc = gauge(
    "podmeter_target_cached_series",
    "Series of the target that are remembered with what became of them.",
    &["job"],
    "the series cache",
);
pub(super) static CACHE_MISSES: Desc = counter(
    "podmeter_target_cache_misses_total",
    "Samples whose series had to be read, because it was new or its pod's labels had changed.",
    &["job"],
    "the series cache",
);
pub(super) static CACHE_EVICTIONS: Desc = counter(
    "podmeter_target_cache_evictions_total",
    "Series that were forgotten, because they were not on the last pages.",
    &["job"],
    "the series cache",
);
pub(super) static UNCACHED: Desc = counter(
    "podmeter_target_uncached_samples_total",
    "Samples whose series found no room in the cache; they are served all the same.",
    &["job"],
    "the series cache",
);

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    origin: &'static str,
) -> Desc {
    Desc { name, help, kind: Kind::Gauge, unit: "", labels, origin }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    origin: &'static str,
) -> Desc {
    Desc { name, help, kind: Kind::Counter, unit: "", labels, origin }
}

/// The counters of all targets.
pub(super) struct TargetMetrics {
    failures: IntCounterVec,
    dropped: IntCounterVec,
    samples: IntGaugeVec,
    bad_metadata: IntCounterVec,
    cached_series: IntGaugeVec,
    cache_misses: IntCounterVec,
    cache_evictions: IntCounterVec,
    uncached: IntCounterVec,
}

impl TargetMetrics {
    /// Registers them; there are none of a target before its first scrape.
    pub(super) fn new(register: &Register<'_>) -> Result<Self, TelemetryError> {
        Ok(Self {
            failures: register.counters(&FAILURES)?,
            dropped: register.counters(&DROPPED)?,
            samples: register.int_gauges(&SAMPLES)?,
            bad_metadata: register.counters(&BAD_METADATA)?,
            cached_series: register.int_gauges(&CACHED_SERIES)?,
            cache_misses: register.counters(&CACHE_MISSES)?,
            cache_evictions: register.counters(&CACHE_EVICTIONS)?,
            uncached: register.counters(&UNCACHED)?,
        })
    }

    /// Ends the series of a target.
    pub(super) fn forget(&self, job: &str) {
        for counters in [
            &self.failures,
            &self.dropped,
            &self.bad_metadata,
            &self.cache_misses,
            &self.cache_evictions,
            &self.uncached,
        ] {
            forget(counters, "job", job);
        }
        forget(&self.samples, "job", job);
        forget(&self.cached_series, "job", job);
    }

    /// Notes what became of a target in one collection.
    pub(super) fn record(&self, scraped: &Scraped) {
        let job = scraped.job.as_str();
        let success = match &scraped.result {
            Ok(success) => success,
            Err(error) => {
                self.failures.with_label_values(&[job, error.reason()]).inc();
                return;
            }
        };
        let counts = &success.counts;
        for reason in DropReason::ALL {
            let n_dropped = self.dropped.with_label_values(&[job, reason.as_str()]);
            n_dropped.inc_by(counts.dropped(reason) as u64);
        }
        for kind in OwnerKind::ALL {
            let samples = self.samples.with_label_values(&[job, kind.as_str()]);
            samples.set(gauge_value(counts.owned_by(kind)));
        }
        let Counts { n_bad_metadata, n_conflicts, n_misses, n_evicted, n_uncached, .. } = counts;
        let add = |counters: &IntCounterVec, n: usize| {
            counters.with_label_values(&[job]).inc_by(n as u64);
        };
        add(&self.bad_metadata, n_bad_metadata + n_conflicts);
        add(&self.cache_misses, *n_misses);
        add(&self.cache_evictions, *n_evicted);
        add(&self.uncached, *n_uncached);
        self.cached_series.with_label_values(&[job]).set(gauge_value(success.n_cached_series));
    }
}

fn gauge_value(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
