//! How it stands with a receiver: what was sent and what was not, for metrics and for people.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// Why samples were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// A rule of `write_relabel_configs` says so.
    Relabel,
    /// Rules gave two series of the page the same labels.
    Duplicate,
    /// They are older than what was sent of the series.
    OutOfOrder,
    /// They have no name, or make no sense.
    Invalid,
    /// There are too many series.
    TooManySeries,
    /// What waits has found no room.
    QueueFull,
    /// The buffer on disk has found no room.
    BufferFull,
    /// The buffer on disk could not be read.
    BufferLost,
    /// They were older than `sample_age_limit` when their turn came.
    TooOld,
    /// The receiver answered 400.
    BadRequest,
    /// The receiver answered 401 or 403.
    Unauthorized,
    /// The receiver answered 429, and `retry_on_http_429` is off.
    TooManyRequests,
    /// The receiver answered another status that no repetition would change.
    Rejected,
    /// The receiver said that it has not taken them all.
    NotWritten,
    /// Podmeter stopped, or the receiver was taken off the configuration, before they could be sent.
    Stopped,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Relabel,
        Self::Duplicate,
        Self::OutOfOrder,
        Self::Invalid,
        Self::TooManySeries,
        Self::QueueFull,
        Self::BufferFull,
        Self::BufferLost,
        Self::TooOld,
        Self::BadRequest,
        Self::Unauthorized,
        Self::TooManyRequests,
        Self::Rejected,
        Self::NotWritten,
        Self::Stopped,
    ];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relabel => "relabel",
            Self::Duplicate => "duplicate",
            Self::OutOfOrder => "out_of_order",
            Self::Invalid => "invalid",
            Self::TooManySeries => "too_many_series",
            Self::QueueFull => "queue_full",
            Self::BufferFull => "buffer_full",
            Self::BufferLost => "buffer_lost",
            Self::TooOld => "too_old",
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::TooManyRequests => "too_many_requests",
            Self::Rejected => "rejected",
            Self::NotWritten => "not_written",
            Self::Stopped => "stopped",
        }
    }
}

/// What is counted of a receiver, for as long as the process runs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) samples: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) buffer_errors: AtomicU64,
    pub(super) newest: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn note_newest(&self, milliseconds: i64) {
        let milliseconds = u64::try_from(milliseconds).unwrap_or_default();
        self.newest.fetch_max(milliseconds, Ordering::Relaxed);
    }

    pub(super) fn drop_samples(&self, reason: DropReason, n_samples: usize) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            Self::add(counter, n_samples);
        }
    }

    pub(super) fn drop_each(&self, n_samples: [u64; DropReason::ALL.len()]) {
        for (counter, n_samples) in self.dropped.iter().zip(n_samples) {
            counter.fetch_add(n_samples, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(super) fn totals(&self) -> Totals {
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            samples: total(&self.samples),
            requests: total(&self.requests),
            retries: total(&self.retries),
            bytes: total(&self.bytes),
            skipped: total(&self.skipped),
            buffer_errors: total(&self.buffer_errors),
            newest: total(&self.newest),
            dropped: self.dropped.each_ref().map(total),
        }
    }
}

/// What was counted of a receiver since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Samples that the receiver has taken.
    pub samples: u64,
    /// Requests that it has taken.
    pub requests: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Bytes of the requests that it has taken, compressed.
    pub bytes: u64,
    /// Collections that did not take place, because the one before was late.
    pub skipped: u64,
    /// Requests that could not be written to the buffer on disk, or not be read from it.
    pub buffer_errors: u64,
    /// When the newest sample that it has taken is of, in milliseconds since the Unix epoch.
    pub newest: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Totals {
    /// Samples that were not sent, for that reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or_default()
    }
}

/// How it stands with a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// What was counted.
    pub totals: Totals,
    /// Samples that wait or are under way.
    pub n_pending_samples: usize,
    /// Bytes of them in memory, compressed.
    pub n_pending_bytes: usize,
    /// Bytes of the buffer on disk, if there is one.
    pub n_buffer_bytes: Option<u64>,
    /// Requests that can be under way at once.
    pub n_shards: usize,
    /// Series of the last page that are pushed.
    pub n_series: usize,
    /// When the receiver last took a request.
    pub last_success: Option<Instant>,
    /// The last error and when it was, even if later requests succeeded.
    pub last_error: Option<(Instant, String)>,
    /// Why the buffer on disk does not take requests, if it does not.
    pub buffer_error: Option<String>,
}

impl EndpointStatus {
    /// Whether the last request was taken, or none was sent yet, and the buffer works.
    #[must_use]
    pub fn is_well(&self) -> bool {
        if self.buffer_error.is_some() {
            return false;
        }
        match (&self.last_success, &self.last_error) {
            (_, None) => true,
            (Some(success), Some((error, _))) => success > error,
            (None, Some(_)) => false,
        }
    }
}
