//! The last two looks at who is busy, taken along with the collections that scrapers ask for.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    demand::Demand,
    labelling::glance::{Rates, Reading, Signal, rates},
    page::PageFamily,
};

/// Looks that come sooner after the last one are not taken: between two scrapers that come at once little happens.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// The last two looks.
#[derive(Debug, Default)]
pub(super) struct Glances(Mutex<History>);

#[derive(Debug, Default)]
struct History {
    before: Option<(Instant, Reading)>,
    last: Option<(Instant, Reading)>,
}

impl Glances {
    /// Takes a look at what was collected, if all that is shown was asked for.
    pub(super) fn note(&self, demand: &Demand, families: &[PageFamily], now: Instant) {
        let is_complete = Signal::SOURCES.iter().all(|source| demand.wants_source(source));
        let mut history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = history
            .last
            .as_ref()
            .is_none_or(|(then, _)| now.saturating_duration_since(*then) >= MIN_INTERVAL);
        if is_complete && is_due {
            history.before = history.last.take();
            history.last = Some((now, Reading::of_families(families)));
        }
    }

    /// What happened between the last two looks, and when the second one was.
    pub(super) fn rates(&self) -> Option<(Rates, Instant)> {
        let history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, before) = history.before.as_ref()?;
        let (now, last) = history.last.as_ref()?;
        Some((rates(before, last, now.saturating_duration_since(*then)), *now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Glances;
    use crate::demand::{Demand, Offer};

    #[test]
    fn looks_that_are_too_close_or_incomplete_are_not_taken() {
        let offer = Offer { sources: vec!["tcp", "oom"], jobs: Vec::new() };
        let part = offer.demand("collect[]=tcp").unwrap();
        let glances = Glances::default();
        let start = Instant::now();
        let check = |demand: &Demand, seconds: u64, expected: Option<u64>| {
            glances.note(demand, &[], start + Duration::from_secs(seconds));
            let elapsed = glances.rates().map(|(rates, _)| rates.elapsed.as_secs());
            assert_eq!(elapsed, expected, "after {seconds} s");
        };
        let whole = Demand::default();
        check(&whole, 0, None);
        check(&whole, 1, None);
        check(&part, 6, None);
        check(&whole, 15, Some(15));
        check(&whole, 16, Some(15));
        check(&whole, 25, Some(10));
    }
}
