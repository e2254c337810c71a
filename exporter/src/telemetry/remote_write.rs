//! What is told of the receivers of remote write, by name.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::{Register, TelemetryError, forget, rise_to};
use crate::{
    metric::{Desc, Kind},
    remote_write::status::{DropReason, EndpointStatus},
};

pub(super) static SAMPLES: Desc = counter(
    "podmeter_remote_write_samples_total",
    "Samples that the receiver has taken.",
    "",
    &["remote_name"],
);
pub(super) static DROPPED: Desc = counter(
    "podmeter_remote_write_dropped_samples_total",
    "Samples that the receiver has not got, by reason; those of relabel were meant to be dropped.",
    "",
    &["remote_name", "reason"],
);
pub(super) static RETRIES: Desc = counter(
    "podmeter_remote_write_retries_total",
    "Requests that were sent again, because the receiver was not there or told to wait.",
    "",
    &["remote_name"],
);
pub(super) static REQUESTS: Desc = counter(
    "podmeter_remote_write_requests_total",
    "Requests that the receiver has taken.",
    "",
    &["remote_name"],
);
pub(super) static BYTES: Desc = counter(
    "podmeter_remote_write_bytes_total",
    "Bytes of the requests that the receiver has taken, compressed.",
    "bytes",
    &["remote_name"],
);
pub(super) static SKIPPED: Desc = counter(
    "podmeter_remote_write_skipped_collections_total",
    "Collections that did not take place, because the one before was late.",
    "",
    &["remote_name"],
);
pub(super) static BUFFER_ERRORS: Desc = counter(
    "podmeter_remote_write_buffer_errors_total",
    "Requests that could not be written to the buffer on disk, or not be read from it.",
    "",
    &["remote_name"],
);
pub(super) static BUFFER_BYTES: Desc = gauge(
    "podmeter_remote_write_buffer_bytes",
    "Bytes of the files of the buffer on disk.",
    "bytes",
    &["remote_name"],
);
pub(super) static PENDING: Desc = gauge(
    "podmeter_remote_write_pending_samples",
    "Samples that wait or are under way.",
    "",
    &["remote_name"],
);
pub(super) static PENDING_BYTES: Desc = gauge(
    "podmeter_remote_write_pending_bytes",
    "Bytes in memory of the requests that wait, compressed.",
    "bytes",
    &["remote_name"],
);
pub(super) static SHARDS: Desc = gauge(
    "podmeter_remote_write_shards",
    "Requests that can be under way at once.",
    "",
    &["remote_name"],
);
pub(super) static SERIES: Desc = gauge(
    "podmeter_remote_write_series",
    "Series of the last page that was pushed.",
    "",
    &["remote_name"],
);
pub(super) static NEWEST: Desc = gauge(
    "podmeter_remote_write_highest_timestamp_seconds",
    "When the newest sample that the receiver has taken is of, in seconds since the Unix epoch.",
    "seconds",
    &["remote_name"],
);

const fn gauge(
    name: &'static str,
    help: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
) -> Desc {
    Desc { name, help, kind: Kind::Gauge, unit, labels, origin: "the queue of the receiver" }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
) -> Desc {
    Desc { name, help, kind: Kind::Counter, unit, labels, origin: "the queue of the receiver" }
}

/// The counters of all receivers.
pub(super) struct RemoteWriteMetrics {
    samples: IntCounterVec,
    dropped: IntCounterVec,
    retries: IntCounterVec,
    requests: IntCounterVec,
    bytes: IntCounterVec,
    skipped: IntCounterVec,
    buffer_errors: IntCounterVec,
    buffer_bytes: IntGaugeVec,
    pending: IntGaugeVec,
    pending_bytes: IntGaugeVec,
    shards: IntGaugeVec,
    series: IntGaugeVec,
    newest: GaugeVec,
}

impl RemoteWriteMetrics {
    /// Registers them; there are none where nothing is pushed.
    pub(super) fn new(register: &Register<'_>) -> Result<Self, TelemetryError> {
        Ok(Self {
            samples: register.counters(&SAMPLES)?,
            dropped: register.counters(&DROPPED)?,
            retries: register.counters(&RETRIES)?,
            requests: register.counters(&REQUESTS)?,
            bytes: register.counters(&BYTES)?,
            skipped: register.counters(&SKIPPED)?,
            buffer_errors: register.counters(&BUFFER_ERRORS)?,
            buffer_bytes: register.int_gauges(&BUFFER_BYTES)?,
            pending: register.int_gauges(&PENDING)?,
            pending_bytes: register.int_gauges(&PENDING_BYTES)?,
            shards: register.int_gauges(&SHARDS)?,
            series: register.int_gauges(&SERIES)?,
            newest: register.gauges(&NEWEST)?,
        })
    }

    /// Ends the series of a receiver.
    pub(super) fn forget(&self, name: &str) {
        for counters in [
            &self.samples,
            &self.dropped,
            &self.retries,
            &self.requests,
            &self.bytes,
            &self.skipped,
            &self.buffer_errors,
        ] {
            forget(counters, "remote_name", name);
        }
        for gauges in
            [&self.pending, &self.pending_bytes, &self.shards, &self.series, &self.buffer_bytes]
        {
            forget(gauges, "remote_name", name);
        }
        forget(&self.newest, "remote_name", name);
    }

    /// Notes how it stands with all receivers.
    pub(super) fn record(&self, statuses: &[EndpointStatus]) {
        for status in statuses {
            self.record_one(status);
        }
    }

    fn record_one(&self, status: &EndpointStatus) {
        let (name, totals) = (status.name.as_str(), &status.totals);
        for (counters, total) in [
            (&self.samples, totals.samples),
            (&self.retries, totals.retries),
            (&self.requests, totals.requests),
            (&self.bytes, totals.bytes),
            (&self.skipped, totals.skipped),
            (&self.buffer_errors, totals.buffer_errors),
        ] {
            rise_to(&counters.with_label_values(&[name]), total);
        }
        for reason in DropReason::ALL {
            let counter = self.dropped.with_label_values(&[name, reason.as_str()]);
            rise_to(&counter, totals.dropped(reason));
        }
        for (gauges, n) in [
            (&self.pending, status.n_pending_samples),
            (&self.pending_bytes, status.n_pending_bytes),
            (&self.shards, status.n_shards),
            (&self.series, status.n_series),
        ] {
            gauges.with_label_values(&[name]).set(i64::try_from(n).unwrap_or(i64::MAX));
        }
        if let Some(n_bytes) = status.n_buffer_bytes {
            let n_bytes = i64::try_from(n_bytes).unwrap_or(i64::MAX);
            self.buffer_bytes.with_label_values(&[name]).set(n_bytes);
        }
        self.newest.with_label_values(&[name]).set(seconds(totals.newest));
    }
}

/// Milliseconds of today have some forty bits.
fn seconds(milliseconds: u64) -> f64 {
    std::time::Duration::from_millis(milliseconds).as_secs_f64()
}
