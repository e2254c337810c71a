//! Chance, so that the nodes of a cluster do not all ask at once, and growing waits between attempts.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Numbers that differ from node to node; they need not be good ones.
#[derive(Debug, Default)]
pub(crate) struct Jitter {
    keys: RandomState,
    n_drawn: u64,
}

impl Jitter {
    /// A part of a span: between `least` and all of it.
    pub(crate) fn part_of(&mut self, whole: Duration, least: f64) -> Duration {
        self.n_drawn = self.n_drawn.wrapping_add(1);
        let drawn = u32::try_from(self.keys.hash_one(self.n_drawn) >> 32).unwrap_or(u32::MAX);
        let share = f64::from(drawn) / f64::from(u32::MAX);
        whole.mul_f64(least + (1.0 - least) * share)
    }
}

/// Waits that double from attempt to attempt, up to a cap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    n_failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, n_failures: 0 }
    }

    /// The wait after one more failure.
    pub(crate) fn after_failure(&mut self, jitter: &mut Jitter) -> Duration {
        let whole = grown(self.first, self.most, self.n_failures);
        self.n_failures = self.n_failures.saturating_add(1);
        jitter.part_of(whole, 0.5)
    }

    /// What was tried works.
    pub(crate) fn reset(&mut self) {
        self.n_failures = 0;
    }
}

/// `first`, doubled as many times as something failed before, at most `most`.
pub(crate) fn grown(first: Duration, most: Duration, n_failures: u32) -> Duration {
    first.saturating_mul(1 << n_failures.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, Jitter};

    #[test]
    fn waits_double_up_to_the_cap_and_begin_anew() {
        let (first, most) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut jitter = Jitter::default();
        let mut backoff = Backoff::new(first, most);
        let mut whole = first;
        for _ in 0..100 {
            let wait = backoff.after_failure(&mut jitter);
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(most);
        }
        backoff.reset();
        assert!(backoff.after_failure(&mut jitter) <= first);
    }

    #[test]
    fn nodes_draw_different_numbers() {
        let hour = Duration::from_hours(1);
        let mut nodes: Vec<Jitter> = (0..20).map(|_| Jitter::default()).collect();
        let first: Vec<Duration> = nodes.iter_mut().map(|node| node.part_of(hour, 0.0)).collect();
        assert!(first.iter().any(|drawn| *drawn != first[0]), "{first:?}");
        assert!(first.iter().all(|drawn| *drawn <= hour));
    }
}
