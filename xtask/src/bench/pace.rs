//! When somebody who asks in an interval asks again.

use std::{
    thread,
    time::{Duration, Instant},
};

/// When it is asked again.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    last: Option<Instant>,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    /// Waits until it is time for the next scrape.
    pub(super) fn wait(&mut self) {
        if let Some(next) = self.last.map(|last| last + self.interval) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        self.last = Some(Instant::now());
    }
}
