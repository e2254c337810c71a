//! Two readings of counters, and what happened per second in between.

use std::{cmp::Ordering, time::Duration};

use super::{PerSignal, Reading, Signal};

/// What each row did between two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// The rows, in the order of their names.
    pub rows: Vec<Row>,
    /// The time between the readings.
    pub elapsed: Duration,
    /// How many series of the second one found no room.
    pub n_left_out: usize,
}

/// One container, pod or other cgroup.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who it is.
    pub who: String,
    /// In the units of [`Signal::unit`]; none where it is not measured, or was not at the first reading.
    pub rates: PerSignal,
}

impl Rates {
    /// Whether any row has it.
    #[must_use]
    pub fn is_measured(&self, signal: Signal) -> bool {
        self.rows.iter().any(|row| signal.of(&row.rates).is_some())
    }
}

/// The difference of two readings; rows that the second one lacks are gone.
#[must_use]
pub fn rates(before: &Reading, after: &Reading, elapsed: Duration) -> Rates {
    let seconds = elapsed.as_secs_f64();
    let row = |(who, now): (&String, &PerSignal)| {
        let then = before.rows.get(who).copied().unwrap_or_default();
        let mut rates = PerSignal::default();
        for (((signal, now), then), rate) in Signal::ALL.iter().zip(now).zip(then).zip(&mut rates) {
            *rate = now.zip(then).and_then(|(now, then)| {
                // Less than before is a counter that began anew.
                (now >= then && seconds > 0.0).then(|| (now - then) / seconds * signal.unit().1)
            });
        }
        Row { who: who.clone(), rates }
    };
    let rows = after.rows.iter().map(row).collect();
    Rates { rows, elapsed, n_left_out: after.n_left_out }
}

/// Puts the greatest rate first, then those without one; equals stay in the order of their names.
pub fn sort(rows: &mut [Row], by: Signal) {
    rows.sort_by(|left, right| match (by.of(&left.rates), by.of(&right.rates)) {
        (Some(left_rate), Some(right_rate)) => {
            right_rate.total_cmp(&left_rate).then_with(|| left.who.cmp(&right.who))
        }
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.who.cmp(&right.who),
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Row, rates, sort};
    use crate::labelling::glance::{Reading, Signal};

    fn reading(throttled: &[(&str, f64)]) -> Reading {
        let mut reading = Reading::default();
        for (cgroup, seconds) in throttled {
            let label = |name: &str| (name == "cgroup").then_some(*cgroup);
            reading.add("podmeter_cpu_cfs_throttled_seconds_total", label, *seconds);
        }
        reading
    }

    fn throttled(rows: &[Row]) -> Vec<(&str, Option<f64>)> {
        rows.iter().map(|row| (row.who.as_str(), Signal::Throttled.of(&row.rates))).collect()
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let before = reading(&[("/gone", 1.0), ("/same", 1.0), ("/up", 1.0), ("/anew", 9.0)]);
        let after = reading(&[("/same", 1.0), ("/up", 2.0), ("/anew", 1.0), ("/new", 1.0)]);
        let mut rates = rates(&before, &after, Duration::from_secs(4));
        let expected =
            [("/anew", None), ("/new", None), ("/same", Some(0.0)), ("/up", Some(250.0))];
        assert_eq!(throttled(&rates.rows), expected, "in milliseconds per second");
        sort(&mut rates.rows, Signal::Throttled);
        let expected =
            [("/up", Some(250.0)), ("/same", Some(0.0)), ("/anew", None), ("/new", None)];
        assert_eq!(throttled(&rates.rows), expected);
    }

    #[test]
    fn no_time_gives_no_rates() {
        let both = reading(&[("/a", 1.0)]);
        assert_eq!(throttled(&rates(&both, &both, Duration::ZERO).rows), [("/a", None)]);
    }
}
