//! The labels of one series while rules change them. Pure.

use std::borrow::Cow;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// The labels of one series, `__name__` among them; no name stands twice, and no value is empty.
///
/// What came with the series stands first, by name; what was set since follows in the order of its setting, which is
/// the order in which Prometheus walks over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSet<'a> {
    given: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    set: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> LabelSet<'a> {
    /// A set of these; of two with one name the first stays.
    pub fn new(
        labels: impl IntoIterator<Item = (impl Into<Cow<'a, str>>, impl Into<Cow<'a, str>>)>,
    ) -> Self {
        let given = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut given: Vec<(Cow<'a, str>, Cow<'a, str>)> =
            given.filter(|(_, value)| !value.is_empty()).collect();
        given.sort_by(|(a, _), (b, _)| a.cmp(b));
        given.dedup_by(|(later, _), (first, _)| later == first);
        Self { given, set: Vec::new() }
    }

    /// The value; empty where there is none, which is the same.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        if value.is_empty() {
            self.remove(&name);
            return;
        }
        if let Some((_, known)) = self.set.iter_mut().find(|(known, _)| *known == name) {
            *known = value;
            return;
        }
        self.given.retain(|(known, _)| *known != name);
        self.set.push((name, value));
    }

    /// Removes a label if it is there.
    pub fn remove(&mut self, name: &str) {
        self.given.retain(|(known, _)| known != name);
        self.set.retain(|(known, _)| known != name);
    }

    /// Keeps those that are asked for.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&str) -> bool) {
        self.given.retain(|(name, _)| is_kept(name));
        self.set.retain(|(name, _)| is_kept(name));
    }

    /// All of them, in the order in which rules see them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given.iter().chain(&self.set).map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Whether there is none left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.set.is_empty()
    }

    /// All of them by name, as a page has them.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&str, &str)> {
        let mut labels: Vec<_> = self.iter().collect();
        labels.sort_unstable();
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::LabelSet;

    #[test]
    fn the_last_word_on_a_name_holds_and_stands_last() {
        let mut labels = LabelSet::new([("b", "1"), ("a", "2"), ("c", ""), ("b", "3")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "1")]);
        labels.set("a", "4");
        labels.set("0", "5");
        labels.set("a", "6");
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("b", "1"), ("a", "6"), ("0", "5")]);
        assert_eq!(labels.sorted(), [("0", "5"), ("a", "6"), ("b", "1")]);
        labels.set("b", "");
        labels.remove("0");
        assert_eq!((labels.get("a"), labels.get("b")), ("6", ""));
        labels.remove("a");
        assert!(labels.is_empty());
    }
}
