//! One lane: takes one request after the other, and sends it until the receiver has taken it or never will.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time;

use super::{
    client::{self, Remedy, Taken},
    endpoint::Endpoint,
    instants::Milliseconds,
    queue::{Batch, Body},
    status::{Counters, DropReason},
};
use crate::{
    error_chain::one_line,
    jitter::{Backoff, Jitter},
};

/// Sends what comes by a lane; ends when the receiver is closed and nothing waits any more.
pub(super) async fn run(endpoint: Arc<Endpoint>, lane: usize) {
    endpoint.wait_for_earlier().await;
    let mut jitter = Jitter::default();
    let mut changes = endpoint.changes();
    loop {
        // What changes from here on is seen below.
        changes.borrow_and_update();
        let taken = endpoint.queue().take(lane);
        if let Some(batch) = taken {
            deliver(&endpoint, &batch, &mut jitter).await;
            if let Body::Disk(place) = batch.body {
                endpoint.mark_done(place).await;
            }
            endpoint.queue().done(&batch);
            endpoint.tell_change();
        } else if endpoint.has_nothing_more() || changes.changed().await.is_err() {
            return;
        }
    }
}

/// Sends one request until something final comes of it.
async fn deliver(endpoint: &Arc<Endpoint>, batch: &Batch, jitter: &mut Jitter) {
    let counters = endpoint.counters();
    let body = match &batch.body {
        Body::Memory(body) => body.clone(),
        Body::Disk(place) => match endpoint.read(*place).await {
            Some(body) => body,
            None => return counters.drop_samples(DropReason::BufferLost, batch.header.n_samples),
        },
    };
    let (config, queue) = (endpoint.config(), &endpoint.config().queue);
    let mut backoff = Backoff::new(queue.min_backoff, queue.max_backoff);
    loop {
        if let Some(limit) = queue.sample_age_limit
            && is_older(batch.header.newest, limit)
        {
            return counters.drop_samples(DropReason::TooOld, batch.header.n_samples);
        }
        let sent = client::post(endpoint.link(), config, batch.header.kind, body.clone()).await;
        let error = match sent {
            Ok(taken) => return note_taken(endpoint, batch, &body, taken),
            Err(error) => error,
        };
        let text = one_line(&error);
        match error.remedy(queue) {
            Remedy::Drop(reason) => {
                counters.drop_samples(reason, batch.header.n_samples);
                return endpoint.note_error(text, Some(reason));
            }
            Remedy::Again(wait) => {
                endpoint.note_error(text, None);
                let pause = backoff.after_failure(jitter);
                time::sleep(wait.map_or(pause, |wait| wait.max(pause))).await;
                Counters::add(&counters.retries, 1);
            }
        }
    }
}

fn note_taken(endpoint: &Endpoint, batch: &Batch, body: &Bytes, taken: Taken) {
    let n_samples = batch.header.n_samples;
    let n_written = match taken {
        Taken::All => n_samples,
        Taken::Samples(n_written) => n_written.min(n_samples),
    };
    let counters = endpoint.counters();
    Counters::add(&counters.samples, n_written);
    Counters::add(&counters.requests, 1);
    Counters::add(&counters.bytes, body.len());
    counters.note_newest(batch.header.newest);
    if n_written == n_samples {
        return endpoint.note_success();
    }
    counters.drop_samples(DropReason::NotWritten, n_samples - n_written);
    let error = format!(
        "the receiver has taken {n_written} of {n_samples} samples: its log may say why; if it takes none, it may know \
         the message of 1.0 alone (protobuf_message: prometheus.WriteRequest)"
    );
    endpoint.note_error(error, Some(DropReason::NotWritten));
}

fn is_older(newest: Milliseconds, limit: Duration) -> bool {
    let age = u64::try_from(now().saturating_sub(newest)).unwrap_or_default();
    Duration::from_millis(age) > limit
}

/// The wall clock.
pub(super) fn now() -> Milliseconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Milliseconds::try_from(since.as_millis()).unwrap_or(Milliseconds::MAX)
}
