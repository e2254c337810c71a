//! One series for all cgroups that have the same labels, one after the other or at once.
//!
//! A restarted container or service has a new cgroup id and the labels of the old one.
//! Two equal series would make Prometheus throw the page away, and a counter that begins anew under its old name would
//! lose what it had; so the values are added, and what a cgroup had when its entry was freed is kept as long as there is
//! somebody whom the series is about, whether or not he has had such events himself.
//! Sums are exact, because those of floating-point numbers depend on their order: a counter would fall by its last bit
//! when one of its cgroups goes. Pure.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    mem,
};

use super::exact::Exact;
use crate::{
    metric::{Histogram, Value},
    page::{Labels, Series},
    subject::Subject,
};

/// The series of one family of counters or histograms, from one collection to the next.
#[derive(Debug, Default)]
pub(super) struct Accumulator {
    series: HashMap<Labels, Accumulated>,
}

/// Whether a series outlives everybody whom it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// It ends with the last of them: its labels name them.
    Subjects,
    /// It stays: it is a remainder, whose cgroups come and go.
    Process,
}

/// A value with its final labels and the cgroup that it came from.
#[derive(Clone, Debug)]
pub(super) struct Contribution {
    pub(super) labels: Labels,
    pub(super) subject: Subject,
    pub(super) lifetime: Lifetime,
    pub(super) value: Value,
}

#[derive(Debug, Default)]
struct Accumulated {
    /// What cgroups had that no longer contribute.
    retired: Option<Total>,
    current: Vec<(Subject, Value)>,
    /// What those had who are there and give nothing now: they lost their quota, or a file could not be read.
    silent: Vec<(Subject, Value)>,
    /// The first two of the collection before, until it is seen whose are gone.
    previous: Vec<(Subject, Value)>,
    outlives: bool,
    /// Whether it is not on the page, because only those are left who give nothing.
    is_hidden: bool,
}

impl Accumulator {
    /// Takes one collection's values and gives the series of the page.
    ///
    /// Those whom `knows` does not know are gone, and what they had is kept. Without anybody who gives it a value a series
    /// goes on if it is `about` somebody; it is not on the page for as long as those who gave one are there.
    pub(super) fn update(
        &mut self,
        contributions: Vec<Contribution>,
        knows: impl Fn(Subject) -> bool,
        about: impl Fn(&Labels) -> bool,
    ) -> Vec<Series> {
        for accumulated in self.series.values_mut() {
            accumulated.previous = mem::take(&mut accumulated.current);
            accumulated.previous.append(&mut accumulated.silent);
        }
        for Contribution { labels, subject, lifetime, value } in contributions {
            let accumulated = self.series.entry(labels).or_default();
            accumulated.outlives |= lifetime == Lifetime::Process;
            accumulated.current.push((subject, value));
        }
        self.series.values_mut().for_each(|accumulated| accumulated.settle(&knows));
        self.series.retain(|labels, accumulated| accumulated.is_given() || about(labels));
        self.series
            .iter()
            .filter(|(_, accumulated)| !accumulated.is_hidden)
            .map(|(labels, accumulated)| Series {
                labels: labels.clone(),
                value: accumulated.total(),
            })
            .collect()
    }

    /// Gives the series other labels; where two then have the same, they are one from then on.
    pub(super) fn rename(&mut self, rename: impl Fn(&Labels) -> Labels) {
        for (labels, accumulated) in mem::take(&mut self.series) {
            match self.series.entry(rename(&labels)) {
                Entry::Vacant(vacant) => {
                    vacant.insert(accumulated);
                }
                Entry::Occupied(mut taken) => taken.get_mut().join(accumulated),
            }
        }
    }
}

impl Accumulated {
    fn join(&mut self, other: Self) {
        let Self { retired, current, silent, previous, outlives, is_hidden } = other;
        if let Some(retired) = retired {
            add(&mut self.retired, &retired.into_value());
        }
        self.current.extend(current);
        self.silent.extend(silent);
        self.previous.extend(previous);
        self.outlives |= outlives;
        self.is_hidden &= is_hidden;
    }

    fn is_given(&self) -> bool {
        self.outlives || !self.current.is_empty()
    }

    /// Retires who is gone.
    fn settle(&mut self, knows: impl Fn(Subject) -> bool) {
        let previous = mem::take(&mut self.previous);
        if !subjects(&previous).eq(subjects(&self.current)) {
            let current: HashSet<Subject> = subjects(&self.current).collect();
            for (subject, value) in previous.into_iter().filter(|(it, _)| !current.contains(it)) {
                if knows(subject) && !self.outlives {
                    self.silent.push((subject, value));
                } else {
                    add(&mut self.retired, &value);
                }
            }
        }
        if !self.current.is_empty() {
            self.is_hidden = false;
        } else if !self.silent.is_empty() {
            self.is_hidden = true;
        }
    }

    fn total(&self) -> Value {
        let mut total = self.retired.clone();
        for (_, value) in self.current.iter().chain(&self.silent) {
            add(&mut total, value);
        }
        // A series that is on the page has a value: somebody's, or the retired one.
        total.map_or(Value::Number(0.0), Total::into_value)
    }
}

fn subjects(values: &[(Subject, Value)]) -> impl Iterator<Item = Subject> {
    values.iter().map(|(subject, _)| *subject)
}

/// A sum of values of one family, which are of one kind and have the same bounds.
#[derive(Clone, Debug)]
enum Total {
    Number(Exact),
    Histogram { bounds: &'static [f64], buckets: Vec<u64>, sum: Exact },
}

impl Total {
    fn of(value: &Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(Exact::of(*number)),
            Value::Histogram(Histogram { bounds, buckets, sum }) => {
                Self::Histogram { bounds, buckets: buckets.clone(), sum: Exact::of(*sum) }
            }
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Number(number) => Value::Number(number.value()),
            Self::Histogram { bounds, buckets, sum } => {
                Value::Histogram(Histogram { bounds, buckets, sum: sum.value() })
            }
        }
    }
}

fn add(total: &mut Option<Total>, value: &Value) {
    match (total, value) {
        (Some(Total::Number(total)), Value::Number(value)) => *total += Exact::of(*value),
        (Some(Total::Histogram { buckets, sum, .. }), Value::Histogram(value)) => {
            *sum += Exact::of(value.sum);
            for (total, value) in buckets.iter_mut().zip(&value.buckets) {
                *total += value;
            }
        }
        (Some(Total::Number(_)), Value::Histogram(_))
        | (Some(Total::Histogram { .. }), Value::Number(_)) => {}
        (total @ None, value) => *total = Some(Total::of(value)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::ProptestConfig, proptest};

    use super::{Accumulator, Contribution, Lifetime};
    use crate::{
        metric::{Histogram, Value},
        page::Labels,
        subject::{CgroupId, Subject},
    };

    fn contribution(path: &str, id: u64, value: Value) -> Contribution {
        Contribution {
            labels: Labels::new([("cgroup", path)]).unwrap(),
            subject: Subject::Cgroup(CgroupId(id)),
            lifetime: Lifetime::Subjects,
            value,
        }
    }

    /// One collection: path, cgroup id and value of each cgroup, those who are there without a value, then the expected
    /// series.
    type Step<'a> = (&'a [(&'a str, u64, f64)], &'a [(&'a str, u64)], &'a [(&'a str, f64)]);

    fn check(steps: &[Step<'_>]) {
        let mut accumulator = Accumulator::default();
        for (given, there, expected) in steps {
            let knows =
                |subject| there.iter().any(|(_, id)| Subject::Cgroup(CgroupId(*id)) == subject);
            let about =
                |labels: &Labels| there.iter().any(|(path, _)| labels.get("cgroup") == Some(path));
            let contributions = given
                .iter()
                .map(|(path, id, value)| contribution(path, *id, Value::Number(*value)))
                .collect();
            let mut series = accumulator.update(contributions, knows, about);
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            let expected: Vec<_> = expected
                .iter()
                .map(|(path, value)| {
                    (Labels::new([("cgroup", *path)]).unwrap(), Value::Number(*value))
                })
                .collect();
            let series: Vec<_> = series.into_iter().map(|one| (one.labels, one.value)).collect();
            assert_eq!(series, expected);
        }
    }

    #[test]
    fn a_restart_goes_on_where_the_old_cgroup_ended() {
        check(&[
            (&[("/a", 1, 10.0)], &[], &[("/a", 10.0)]),
            (&[("/a", 1, 12.0), ("/a", 2, 1.0)], &[], &[("/a", 13.0)]),
            (&[("/a", 2, 3.0)], &[], &[("/a", 15.0)]),
            (&[("/a", 2, 4.0)], &[], &[("/a", 16.0)]),
        ]);
    }

    #[test]
    fn a_series_ends_with_the_last_of_its_cgroups() {
        check(&[
            (&[("/a", 1, 10.0), ("/b", 2, 5.0)], &[], &[("/a", 10.0), ("/b", 5.0)]),
            (&[("/b", 2, 5.0)], &[], &[("/b", 5.0)]),
            (&[("/a", 3, 1.0), ("/b", 2, 5.0)], &[], &[("/a", 1.0), ("/b", 5.0)]),
        ]);
    }

    /// The second incarnation of a container has no such events for a while.
    #[test]
    fn a_rare_series_goes_on_without_the_only_cgroup_that_gave_to_it() {
        check(&[
            (&[("/a", 1, 10.0)], &[], &[("/a", 10.0)]),
            (&[], &[("/a", 2)], &[("/a", 10.0)]),
            (&[], &[("/a", 2)], &[("/a", 10.0)]),
            (&[("/a", 2, 1.0)], &[], &[("/a", 11.0)]),
            (&[], &[], &[]),
        ]);
    }

    #[test]
    fn what_a_cgroup_gives_no_more_ends_and_goes_on_when_it_is_given_again() {
        check(&[
            (&[("/a", 1, 10.0)], &[], &[("/a", 10.0)]),
            (&[("/a", 2, 1.0)], &[], &[("/a", 11.0)]),
            (&[], &[("/a", 2)], &[]),
            (&[], &[("/a", 3)], &[]),
            (&[("/a", 3, 1.0)], &[], &[("/a", 12.0)]),
        ]);
    }

    /// Such as a file that could not be read once.
    #[test]
    fn nothing_is_counted_twice_where_one_of_two_is_missing_once() {
        check(&[
            (&[("/a", 1, 10.0), ("/a", 2, 3.0)], &[], &[("/a", 13.0)]),
            (&[("/a", 2, 4.0)], &[("/a", 1)], &[("/a", 14.0)]),
            (&[("/a", 1, 11.0), ("/a", 2, 4.0)], &[], &[("/a", 15.0)]),
        ]);
    }

    #[test]
    fn a_remainder_stays_and_never_falls() {
        let mut accumulator = Accumulator::default();
        let mut update = |values: &[(u64, f64)]| {
            let contributions = values.iter().map(|(id, value)| Contribution {
                lifetime: Lifetime::Process,
                ..contribution("rest", *id, Value::Number(*value))
            });
            accumulator.update(contributions.collect(), |_| false, |_| false).pop().unwrap().value
        };
        assert_eq!(update(&[(1, 2.0), (2, 3.0)]), Value::Number(5.0));
        assert_eq!(update(&[]), Value::Number(5.0));
        assert_eq!(update(&[(3, 1.0)]), Value::Number(6.0));
    }

    #[test]
    fn histograms_add_bucket_by_bucket() {
        let histogram = |buckets: [u64; 2], sum| {
            Value::Histogram(Histogram { bounds: &[1.0], buckets: buckets.to_vec(), sum })
        };
        let mut accumulator = Accumulator::default();
        accumulator.update(
            vec![contribution("/a", 1, histogram([1, 2], 0.5))],
            |_| false,
            |_| false,
        );
        let series = accumulator.update(
            vec![contribution("/a", 2, histogram([10, 20], 4.0))],
            |_| false,
            |_| false,
        );
        assert_eq!(series[0].value, histogram([11, 22], 4.5));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// Cgroups of one path come and go in any order, each only rising: as long as one is there, nothing falls.
        #[test]
        fn nothing_ever_falls_while_a_cgroup_is_there(
            steps in vec((1_u64..6, 0_u8..3, 0.0..10.0_f64), 1..60)
        ) {
            let mut accumulator = Accumulator::default();
            let mut alive: Vec<(u64, f64)> = vec![(0, 1.0)];
            let mut last = 0.0;
            for (id, what, seconds) in steps {
                match what {
                    0 => alive.retain(|(known, _)| *known != id),
                    1 if alive.iter().all(|(known, _)| *known != id) => alive.push((id, seconds)),
                    _ => {
                        if let Some((_, value)) = alive.iter_mut().find(|(known, _)| *known == id) {
                            *value += seconds;
                        }
                        // Sources give them in any order.
                        alive.rotate_left(1);
                    }
                }
                let contributions = alive
                    .iter()
                    .map(|(id, value)| contribution("/a", *id, Value::Number(*value)))
                    .collect();
                let Value::Number(now) =
                    accumulator.update(contributions, |_| false, |_| false)[0].value else { panic!() };
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        }
    }
}
