//! `queue_config`: how much waits for a receiver, and how it is sent. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::{RemoteWriteError, span};
use crate::config::units;

/// How what is to be sent waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Most samples that wait in memory, in all shards together.
    pub capacity: usize,
    /// Fewest shards, which are requests at once.
    pub min_shards: usize,
    /// Most shards.
    pub max_shards: usize,
    /// Most samples of a request.
    pub max_samples_per_send: usize,
    /// How long samples wait for others, so that they go together.
    pub batch_send_deadline: Duration,
    /// The first wait after a failure.
    pub min_backoff: Duration,
    /// The longest one.
    pub max_backoff: Duration,
    /// Whether what the receiver puts off by a 429 is sent again.
    pub on_too_many: OnTooMany,
    /// How old samples may be; none is any age.
    pub sample_age_limit: Option<Duration>,
}

/// `retry_on_http_429`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTooMany {
    /// It is sent again.
    Retry,
    /// It is dropped.
    Drop,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            capacity: 250_000,
            min_shards: 1,
            max_shards: 4,
            max_samples_per_send: 2000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            on_too_many: OnTooMany::Retry,
            sample_age_limit: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawQueue {
    capacity: Option<usize>,
    min_shards: Option<usize>,
    max_shards: Option<usize>,
    max_samples_per_send: Option<usize>,
    batch_send_deadline: Option<String>,
    min_backoff: Option<String>,
    max_backoff: Option<String>,
    retry_on_http_429: Option<bool>,
    sample_age_limit: Option<String>,
}

impl RawQueue {
    pub(super) fn resolve(self) -> Result<QueueConfig, RemoteWriteError> {
        let default = QueueConfig::default();
        let max_shards =
            number("queue_config.max_shards", self.max_shards, default.max_shards, 64)?;
        let min_shards =
            number("queue_config.min_shards", self.min_shards, default.min_shards, 64)?;
        if min_shards > max_shards {
            return Err(RemoteWriteError::Value {
                key: "queue_config.min_shards",
                value: min_shards.to_string(),
                wanted: "it takes no more than max_shards",
            });
        }
        let retries = self.retry_on_http_429.unwrap_or(true);
        let min_backoff = span("queue_config.min_backoff", self.min_backoff, default.min_backoff)?;
        let max_backoff = span("queue_config.max_backoff", self.max_backoff, default.max_backoff)?;
        Ok(QueueConfig {
            capacity: number("queue_config.capacity", self.capacity, default.capacity, 10_000_000)?,
            min_shards,
            max_shards,
            max_samples_per_send: number(
                "queue_config.max_samples_per_send",
                self.max_samples_per_send,
                default.max_samples_per_send,
                50_000,
            )?,
            batch_send_deadline: span(
                "queue_config.batch_send_deadline",
                self.batch_send_deadline,
                default.batch_send_deadline,
            )?,
            min_backoff: min_backoff.min(max_backoff),
            max_backoff,
            on_too_many: if retries { OnTooMany::Retry } else { OnTooMany::Drop },
            sample_age_limit: age_limit(self.sample_age_limit)?,
        })
    }
}

fn number(
    key: &'static str,
    given: Option<usize>,
    default: usize,
    most: usize,
) -> Result<usize, RemoteWriteError> {
    let number = given.unwrap_or(default);
    if (1..=most).contains(&number) {
        return Ok(number);
    }
    Err(RemoteWriteError::Value {
        key,
        value: number.to_string(),
        wanted: "it takes a whole number above zero; the largest are 64 shards, 50000 samples of a request and a \
                 capacity of 10000000",
    })
}

/// `0s` is no limit, as in Prometheus.
fn age_limit(text: Option<String>) -> Result<Option<Duration>, RemoteWriteError> {
    let Some(text) = text else {
        return Ok(None);
    };
    match units::span(&text) {
        Some(Duration::ZERO) => Ok(None),
        Some(span) => Ok(Some(span)),
        None => Err(RemoteWriteError::Value {
            key: "queue_config.sample_age_limit",
            value: text,
            wanted: "it takes a span such as 30m; 0s is no limit",
        }),
    }
}
