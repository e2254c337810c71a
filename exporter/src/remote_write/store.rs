//! Where the requests of a receiver lie until they are sent: on disk if there is a buffer and it works, else in memory.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{task, time};

use super::{
    buffer::{Buffer, BufferError, Header, Place, Recovered},
    queue::{Body, Queue},
    status::{Counters, DropReason},
};
use crate::{config::remote_write::BufferConfig, error_chain::one_line};

/// How long the receiver that had the folder before a reload may take to let it go.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How often is looked whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The requests of a receiver.
#[derive(Debug)]
pub(super) struct Store {
    config: Option<BufferConfig>,
    buffer: Mutex<Option<Buffer>>,
    queue: Mutex<Queue>,
    counters: Arc<Counters>,
    /// Bytes of the buffer, if it is open: its own lock is held while its disk works, and a page waits for no disk.
    n_buffer_bytes: Mutex<Option<u64>>,
    /// Why the buffer does not work, if it does not.
    error: Mutex<Option<String>>,
}

impl Store {
    pub(super) fn new(config: Option<BufferConfig>, queue: Queue, counters: Arc<Counters>) -> Self {
        Self {
            config,
            buffer: Mutex::new(None),
            queue: Mutex::new(queue),
            counters,
            n_buffer_bytes: Mutex::new(None),
            error: Mutex::new(None),
        }
    }

    /// Opens the buffer if there is to be one, and queues what is left in it; it is tried again with each page.
    pub(super) async fn open(self: &Arc<Self>) {
        let Some(config) = &self.config else {
            return;
        };
        if self.n_buffer_bytes().is_some() {
            return;
        }
        let is_first_try = lock(&self.error).is_none();
        let deadline = time::Instant::now() + HAND_OVER;
        loop {
            let config = config.clone();
            let opened = task::spawn_blocking(move || Buffer::open(&config)).await;
            match opened {
                Ok(Ok((buffer, recovered))) => return self.recover(buffer, recovered),
                Ok(Err(BufferError::InUse { .. }))
                    if is_first_try && time::Instant::now() < deadline =>
                {
                    time::sleep(LOOK_AGAIN).await;
                }
                Ok(Err(error)) => return self.note_error(one_line(&error)),
                Err(error) => return self.note_error(error.to_string()),
            }
        }
    }

    fn recover(&self, buffer: Buffer, Recovered { waiting, n_torn }: Recovered) {
        if n_torn > 0 {
            Counters::add(&self.counters.buffer_errors, n_torn);
            tracing::warn!(
                n_torn,
                "the buffer has requests in it that are torn; they are left out"
            );
        }
        let n_samples: usize = waiting.iter().map(|(_, header)| header.n_samples).sum();
        if n_samples > 0 {
            tracing::info!(n_samples, "the buffer has samples in it that are sent first");
        }
        let mut queue = self.queue();
        let n_lanes = queue.n_lanes();
        // One after the other: nobody knows any more which series are in which.
        queue.set_lanes(1);
        for (place, header) in waiting {
            queue.push(0, header, Body::Disk(place));
        }
        queue.set_lanes(n_lanes);
        drop(queue);
        self.note_bytes(Some(&buffer));
        *lock(&self.buffer) = Some(buffer);
        *lock(&self.error) = None;
    }

    /// Queues a request; this blocks.
    pub(super) fn add(&self, lane: usize, header: Header, body: Bytes) {
        let body = self.put(&header, body);
        for evicted in self.queue().push(lane, header, body) {
            self.counters.drop_samples(DropReason::QueueFull, evicted.header.n_samples);
        }
    }

    /// On disk if that is possible.
    fn put(&self, header: &Header, body: Bytes) -> Body {
        let mut buffer = lock(&self.buffer);
        // Metadata comes again.
        let Some(open) = buffer.as_mut().filter(|_| header.n_samples > 0) else {
            return Body::Memory(body);
        };
        let mut dropped = Vec::new();
        let stored = open.append(header, &body, &mut dropped);
        self.note_bytes(Some(open));
        drop(buffer);
        for segment in dropped {
            let n_samples = self.queue().drop_segment(segment);
            self.counters.drop_samples(DropReason::BufferFull, n_samples);
        }
        match stored {
            Ok(place) => {
                *lock(&self.error) = None;
                Body::Disk(place)
            }
            Err(error) => {
                self.note_error(one_line(&error));
                Body::Memory(body)
            }
        }
    }

    /// The body of a request that lies on disk.
    pub(super) async fn read(self: &Arc<Self>, place: Place) -> Option<Bytes> {
        let store = Arc::clone(self);
        let read = task::spawn_blocking(move || {
            let buffer = lock(&store.buffer);
            buffer.as_ref().map(|buffer| buffer.read(place))
        });
        match read.await {
            Ok(Some(Ok(body))) => return Some(body.into()),
            Ok(Some(Err(error))) => self.note_error(error.to_string()),
            Ok(None) => self.note_error("it is closed".into()),
            Err(error) => self.note_error(error.to_string()),
        }
        None
    }

    /// Notes that a request is done.
    pub(super) async fn mark_done(self: &Arc<Self>, place: Place) {
        let store = Arc::clone(self);
        let marked = task::spawn_blocking(move || {
            let mut buffer = lock(&store.buffer);
            let Some(open) = buffer.as_mut() else { return Ok(()) };
            let marked = open.mark_done(place);
            store.note_bytes(Some(open));
            marked
        });
        match marked.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.note_error(error.to_string()),
            Err(error) => self.note_error(error.to_string()),
        }
    }

    /// Lets the folder go.
    pub(super) fn close(&self) {
        *lock(&self.buffer) = None;
        self.note_bytes(None);
    }

    /// Bytes of the buffer, if there is one.
    pub(super) fn n_buffer_bytes(&self) -> Option<u64> {
        *lock(&self.n_buffer_bytes)
    }

    fn note_bytes(&self, buffer: Option<&Buffer>) {
        *lock(&self.n_buffer_bytes) = buffer.map(Buffer::n_bytes);
    }

    /// Why the buffer does not work.
    pub(super) fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Said once, until it works again.
    fn note_error(&self, error: String) {
        Counters::add(&self.counters.buffer_errors, 1);
        let mut known = lock(&self.error);
        if known.is_none() {
            tracing::warn!(error, "the buffer of a receiver does not work; samples wait in memory");
        }
        *known = Some(error);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
