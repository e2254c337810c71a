//! A page: the families that are served, with their final labels, merged and ordered. Pure.
//!
//! Podmeter's own families are values, those of targets stay bytes; `merge` makes one list of both.
//! It refuses what would make Prometheus throw the whole scrape away: one name twice, two equal series, a value that
//! does not suit its family's type. What it leaves out it counts.

pub mod merge;
pub mod relayed;
pub(crate) mod spelling;

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use self::{
    merge::MergedFamily,
    relayed::{RelayedPage, SeriesHasher},
};
use crate::metric::{Desc, Histogram, Kind, Value};

/// Everything that one answer to a scrape says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    families: Vec<PageFamily>,
    relayed: Vec<RelayedPage>,
    merged: Vec<MergedFamily>,
    n_settled: usize,
    n_type_conflicts: usize,
}

/// One family of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct PageFamily {
    /// Name, help, type and unit.
    pub desc: &'static Desc,
    /// Its series; within a [`Page`] in the order of their labels, and no two have the same labels.
    pub series: Vec<Series>,
}

/// One series with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The labels, without `le`.
    pub labels: Labels,
    /// The number.
    pub value: Value,
}

/// Label names and values in the order of the names; no name stands twice, no value is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Vec<(Cow<'static, str>, Arc<str>)>);

/// Two values were given for one label name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {name:?} was given twice")]
pub struct DuplicateLabel {
    /// The name.
    pub name: Cow<'static, str>,
}

impl Page {
    /// A page of Podmeter's own families and of what targets gave, whose order decides between equal series.
    ///
    /// Own series win over those of targets; the hasher is that of the targets' relays.
    #[must_use]
    pub fn merged(
        families: Vec<PageFamily>,
        relayed: Vec<RelayedPage>,
        hasher: &SeriesHasher,
    ) -> Self {
        let mut page = Self { relayed, ..Self::of_own(families) };
        let merged = merge::merge(&page.families, &mut page.relayed, hasher);
        page.n_settled += merged.n_settled;
        page.n_type_conflicts = merged.n_type_conflicts;
        page.merged = merged.families;
        page
    }

    /// A page of Podmeter's own families alone.
    #[must_use]
    pub fn new(families: Vec<PageFamily>) -> Self {
        Self::merged(families, Vec::new(), &SeriesHasher::default())
    }

    /// Orders families by name and series by labels, merges families of one name, and settles what collides.
    ///
    /// Of two series with equal labels the one with the greater value stays, so that a counter does not go backwards
    /// when its sources change their order. Of two descriptions of one name the lesser stays. A family without series
    /// is left out.
    fn of_own(mut families: Vec<PageFamily>) -> Self {
        families.sort_by(|left, right| compare_descs(left.desc, right.desc));
        let mut page = Self::default();
        for family in families {
            match page.families.last_mut() {
                Some(last) if last.desc.name == family.desc.name => {
                    last.series.extend(family.series);
                }
                _ => page.families.push(family),
            }
        }
        for family in &mut page.families {
            page.n_settled += family.settle();
        }
        page.families.retain(|family| !family.series.is_empty());
        page
    }

    /// All families in the order of their names, Podmeter's and those of targets; no name stands twice.
    #[must_use]
    pub fn merged_families(&self) -> &[MergedFamily] {
        &self.merged
    }

    /// What targets gave, by the places that the families know.
    #[must_use]
    pub fn relayed(&self) -> &[RelayedPage] {
        &self.relayed
    }

    /// How many families have no type, because their sources give them different ones.
    #[must_use]
    pub fn n_type_conflicts(&self) -> usize {
        self.n_type_conflicts
    }

    /// Podmeter's own families in the order of their names; no name stands twice, none is without series.
    #[must_use]
    pub fn families(&self) -> &[PageFamily] {
        &self.families
    }

    /// How many series were left out, because another had the same name and labels or because their value or their
    /// labels did not suit their family's type.
    #[must_use]
    pub fn n_settled(&self) -> usize {
        self.n_settled
    }

    /// How many series the page has; each sample of a target counts as one.
    #[must_use]
    pub fn n_series(&self) -> usize {
        let own: usize = self.families.iter().map(|family| family.series.len()).sum();
        own + self.merged.iter().map(|family| self.n_relayed(family)).sum::<usize>()
    }

    fn n_relayed(&self, family: &MergedFamily) -> usize {
        let lines = family.parts.iter().flat_map(|part| {
            let page = self.relayed.get(part.page);
            page.and_then(|page| page.lines.get(part.lines.clone())).unwrap_or_default()
        });
        lines.filter(|line| line.form.is_sample()).count()
    }
}

impl PageFamily {
    /// Orders the series, leaves out what must not be served, and says how many those were.
    fn settle(&mut self) -> usize {
        let n_given = self.series.len();
        let kind = self.desc.kind;
        self.series.retain(|series| series.suits(kind));
        self.series.sort_by(|left, right| {
            // The greatest value first: it is the one that dedup keeps.
            left.labels.cmp(&right.labels).then_with(|| compare_values(&right.value, &left.value))
        });
        self.series.dedup_by(|later, earlier| later.labels == earlier.labels);
        n_given - self.series.len()
    }
}

impl Series {
    fn suits(&self, kind: Kind) -> bool {
        match (kind, &self.value) {
            (Kind::Counter | Kind::Gauge, Value::Number(_)) => true,
            (Kind::Histogram, Value::Histogram(histogram)) => {
                histogram.buckets.len() == histogram.bounds.len() + 1
                    && self.labels.get("le").is_none()
            }
            _ => false,
        }
    }
}

impl Labels {
    /// Takes labels in any order; an empty value is an absent label, as Prometheus has it.
    pub fn new<N, V>(labels: impl IntoIterator<Item = (N, V)>) -> Result<Self, DuplicateLabel>
    where
        N: Into<Cow<'static, str>>,
        V: Into<Arc<str>>,
    {
        let mut labels: Vec<(Cow<'static, str>, Arc<str>)> = labels
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        labels.sort_by(|(left, _), (right, _)| left.cmp(right));
        let duplicate = labels.windows(2).find_map(|pair| match pair {
            [(left, _), (right, _)] if left == right => Some(left.clone()),
            _ => None,
        });
        match duplicate {
            Some(name) => Err(DuplicateLabel { name }),
            None => Ok(Self(labels)),
        }
    }

    /// Takes labels in the order of precedence: of two with one name, the first stays.
    pub fn first_wins(labels: impl IntoIterator<Item = (Cow<'static, str>, Arc<str>)>) -> Self {
        let mut kept: Vec<(Cow<'static, str>, Arc<str>)> =
            labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        // The sort is stable, so the first of equals is the one that comes first.
        kept.sort_by(|(left, _), (right, _)| left.cmp(right));
        kept.dedup_by(|(later, _), (earlier, _)| later == earlier);
        Self(kept)
    }

    /// The value of a label, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let idx = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        self.0.get(idx).map(|(_, value)| value.as_ref())
    }

    /// Names and values in the order of the names.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

fn compare_descs(left: &Desc, right: &Desc) -> Ordering {
    let key = |desc: &Desc| (desc.name, desc.kind.as_str(), desc.unit, desc.help);
    key(left).cmp(&key(right))
}

fn compare_values(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.total_cmp(right),
        (Value::Histogram(left), Value::Histogram(right)) => compare_histograms(left, right),
        (Value::Number(_), Value::Histogram(_)) => Ordering::Less,
        (Value::Histogram(_), Value::Number(_)) => Ordering::Greater,
    }
}

fn compare_histograms(left: &Histogram, right: &Histogram) -> Ordering {
    let bits = |histogram: &Histogram| histogram.bounds.iter().copied().map(f64::to_bits);
    left.count()
        .cmp(&right.count())
        .then_with(|| left.sum.total_cmp(&right.sum))
        .then_with(|| left.buckets.cmp(&right.buckets))
        .then_with(|| bits(left).cmp(bits(right)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{
        Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };

    use std::{borrow::Cow, sync::Arc};

    use super::{DuplicateLabel, Labels, Page, PageFamily, Series};
    use crate::metric::{Desc, Histogram, Kind, Value};

    const fn desc(name: &'static str, kind: Kind) -> Desc {
        Desc { name, help: "Help.", kind, unit: "", labels: &[], origin: "test" }
    }

    static COUNTER: Desc = desc("a_total", Kind::Counter);
    static COUNTER_AS_GAUGE: Desc = desc("a_total", Kind::Gauge);
    static GAUGE: Desc = desc("b", Kind::Gauge);
    static HISTOGRAM: Desc = desc("c_seconds", Kind::Histogram);

    fn labels(pairs: &[(&'static str, &'static str)]) -> Labels {
        Labels::new(pairs.iter().copied()).expect("the test's labels are free of duplicates")
    }

    fn number(pairs: &[(&'static str, &'static str)], value: f64) -> Series {
        Series { labels: labels(pairs), value: Value::Number(value) }
    }

    fn histogram(pairs: &[(&'static str, &'static str)], buckets: &[u64]) -> Series {
        let value = Histogram { bounds: &[1.0], buckets: buckets.to_vec(), sum: 1.0 };
        Series { labels: labels(pairs), value: Value::Histogram(value) }
    }

    #[test]
    fn of_two_labels_with_one_name_the_first_stays() {
        let labels = [("b", "1"), ("a", "2"), ("b", "3"), ("c", "")];
        let labels = labels.map(|(name, value)| (Cow::Borrowed(name), Arc::from(value)));
        let kept = Labels::first_wins(labels);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "1")]);
    }

    #[test]
    fn labels_are_ordered_and_empty_values_are_absent() {
        let check = |given: &[(&'static str, &'static str)], expected: &[(&str, &str)]| {
            let labels = labels(given);
            assert_eq!(labels.iter().collect::<Vec<_>>(), expected);
            for (name, value) in expected {
                assert_eq!(labels.get(name), Some(*value));
            }
            assert_eq!(labels.get("absent"), None);
        };
        check(&[], &[]);
        check(&[("b", "2"), ("a", "1")], &[("a", "1"), ("b", "2")]);
        check(&[("b", ""), ("a", "1")], &[("a", "1")]);
        check(&[("a", ""), ("a", "1")], &[("a", "1")]);
    }

    #[test]
    fn a_label_name_given_twice_is_refused() {
        let check = |given: &[(&'static str, &'static str)], name: &'static str| {
            assert_eq!(
                Labels::new(given.iter().copied()),
                Err(DuplicateLabel { name: name.into() })
            );
        };
        check(&[("a", "1"), ("a", "1")], "a");
        check(&[("b", "1"), ("a", "1"), ("b", "2")], "b");
    }

    #[test]
    fn families_of_one_name_become_one() {
        let page = Page::new(vec![
            PageFamily { desc: &GAUGE, series: vec![number(&[("x", "2")], 2.0)] },
            PageFamily { desc: &COUNTER, series: vec![number(&[], 5.0)] },
            PageFamily { desc: &HISTOGRAM, series: Vec::new() },
            PageFamily { desc: &GAUGE, series: vec![number(&[("x", "1")], 1.0)] },
        ]);
        let expected = [
            PageFamily { desc: &COUNTER, series: vec![number(&[], 5.0)] },
            PageFamily {
                desc: &GAUGE,
                series: vec![number(&[("x", "1")], 1.0), number(&[("x", "2")], 2.0)],
            },
        ];
        assert_eq!(page.families(), expected);
        assert_eq!(page.n_series(), 3);
        assert_eq!(page.n_settled(), 0);
    }

    #[test]
    fn what_collides_is_settled_and_counted() {
        let check = |desc, given: Vec<Series>, expected: Vec<Series>, n_settled| {
            let page = Page::new(vec![PageFamily { desc, series: given }]);
            let series: Vec<Series> =
                page.families().iter().flat_map(|family| family.series.clone()).collect();
            assert_eq!(series, expected);
            assert_eq!(page.n_settled(), n_settled);
        };
        // Equal labels: the greater value stays.
        check(
            &COUNTER,
            vec![number(&[], 1.0), number(&[], 3.0), number(&[], 2.0)],
            vec![number(&[], 3.0)],
            2,
        );
        check(
            &HISTOGRAM,
            vec![histogram(&[], &[1, 1]), histogram(&[], &[1, 2])],
            vec![histogram(&[], &[1, 2])],
            1,
        );
        // A value of another type.
        check(&GAUGE, vec![histogram(&[], &[1, 1])], vec![], 1);
        check(&HISTOGRAM, vec![number(&[], 1.0)], vec![], 1);
        // Buckets that do not fit the bounds, and a label that would stand twice.
        check(&HISTOGRAM, vec![histogram(&[], &[1])], vec![], 1);
        check(&HISTOGRAM, vec![histogram(&[("le", "1")], &[1, 1])], vec![], 1);
        check(&GAUGE, vec![number(&[("le", "1")], 1.0)], vec![number(&[("le", "1")], 1.0)], 0);
    }

    fn any_family() -> impl Strategy<Value = PageFamily> {
        let desc =
            prop_oneof![Just(&COUNTER), Just(&COUNTER_AS_GAUGE), Just(&GAUGE), Just(&HISTOGRAM)];
        let any_labels = prop::collection::btree_map("[a-c]", "[x-z]?", 0..3)
            .prop_map(|map| Labels::new(map).expect("a map has no name twice"));
        let value = prop_oneof![
            any::<f64>().prop_map(Value::Number),
            (prop::collection::vec(0_u64..9, 1..4), any::<f64>()).prop_map(|(buckets, sum)| {
                Value::Histogram(Histogram { bounds: &[1.0], buckets, sum })
            }),
        ];
        let series = (any_labels, value).prop_map(|(labels, value)| Series { labels, value });
        (desc, prop::collection::vec(series, 0..6))
            .prop_map(|(desc, series)| PageFamily { desc, series })
    }

    proptest! {
        #[test]
        fn the_order_of_the_input_does_not_matter(
            (families, shuffled) in prop::collection::vec(any_family(), 0..6)
                .prop_flat_map(|families| (Just(families.clone()), Just(families).prop_shuffle())),
        ) {
            // Debug text, because NaN is not equal to itself.
            prop_assert_eq!(format!("{:?}", Page::new(families)), format!("{:?}", Page::new(shuffled)));
        }

        #[test]
        fn no_series_stands_twice_and_none_is_lost_uncounted(
            families in prop::collection::vec(any_family(), 0..6),
        ) {
            let n_given: usize = families.iter().map(|family| family.series.len()).sum();
            let page = Page::new(families);
            let mut seen = BTreeSet::new();
            for family in page.families() {
                for series in &family.series {
                    prop_assert!(seen.insert((family.desc.name, series.labels.clone())));
                }
            }
            prop_assert_eq!(page.n_series() + page.n_settled(), n_given);
        }
    }
}
