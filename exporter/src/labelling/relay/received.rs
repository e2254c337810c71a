//! A series as it was received, and the labels that it is given before any rule sees it.

use std::{borrow::Cow, mem};

use crate::{
    labelling::relabel::{LabelSet, labels::METRIC_NAME},
    source::upstream::exposition::{Fault, SeriesParts},
};

type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Name and labels of one series; no name stands twice, and an empty value is an absent label.
#[derive(Clone, Debug)]
pub(super) struct Received<'a> {
    name: Cow<'a, str>,
    labels: Vec<Label<'a>>,
    is_changed: bool,
}

/// What happens to a label that a series has already when one of that name is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HonorLabels {
    /// The series' own is renamed to `exported_…`: `honor_labels: false`.
    #[default]
    Rename,
    /// The series' own stays: `honor_labels: true`.
    Keep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NameOf {
    Metric,
    Label,
}

impl<'a> Received<'a> {
    /// Takes a series as it came; names beyond letters, digits and `_` get `_` for what is neither.
    ///
    /// That is Prometheus' escaping scheme `underscores`: both formats that are served know no other names.
    pub(super) fn new(parts: SeriesParts<'a>) -> Result<Self, Fault> {
        let mut received =
            Self { is_changed: !parts.is_canonical, name: parts.name, labels: parts.labels };
        if !is_plain(&received.name, NameOf::Metric) {
            received.name = Cow::Owned(with_underscores(&received.name, NameOf::Metric));
        }
        if !received.labels.iter().all(|(name, _)| is_plain(name, NameOf::Label)) {
            received.escape_names()?;
        }
        Ok(received)
    }

    /// The metric's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The value of a label; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Whether it came with that label and an empty value.
    pub(super) fn has_empty(&self, name: &str) -> bool {
        self.labels.iter().any(|(known, value)| known == name && value.is_empty())
    }

    /// Whether the series stands as it came, with the added labels behind it.
    pub(super) fn is_as_it_came(&self) -> bool {
        !self.is_changed
    }

    /// Adds labels; where the series has one already, that one stays or is renamed, as Prometheus does it.
    pub(super) fn add<'b: 'a>(
        &mut self,
        added: impl Iterator<Item = (&'b str, &'b str)>,
        honor: HonorLabels,
    ) {
        let mut renamed: Vec<Label<'a>> = Vec::new();
        for (name, value) in added.filter(|(_, value)| !value.is_empty()) {
            let Some((known, own)) = self.labels.iter_mut().find(|(known, _)| known == name) else {
                self.labels.push((Cow::Borrowed(name), Cow::Borrowed(value)));
                continue;
            };
            self.is_changed = true;
            if own.is_empty() {
                *own = Cow::Borrowed(value);
            } else if honor == HonorLabels::Rename {
                renamed.push((known.clone(), mem::replace(own, Cow::Borrowed(value))));
            }
        }
        // The shortest names find their new ones first.
        renamed.sort_by_key(|(name, _)| name.len());
        for (name, value) in renamed {
            let mut new_name = format!("exported_{name}");
            while !self.get(&new_name).is_empty() {
                new_name.insert_str(0, "exported_");
            }
            self.labels.retain(|(known, _)| *known != new_name);
            self.labels.push((Cow::Owned(new_name), value));
        }
    }

    /// Everything as rules see it.
    pub(super) fn to_label_set(&self) -> LabelSet<'_> {
        let name = (METRIC_NAME, self.name.as_ref());
        LabelSet::new([name].into_iter().chain(self.labels()))
    }

    /// The labels without the name, in the order in which they stand.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels_as_they_stand().filter(|(_, value)| !value.is_empty())
    }

    /// The same with those that are empty, which a strict reader tells from absent ones.
    pub(super) fn labels_as_they_stand(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    fn escape_names(&mut self) -> Result<(), Fault> {
        self.is_changed = true;
        for (name, _) in &mut self.labels {
            if !is_plain(name, NameOf::Label) {
                *name = Cow::Owned(with_underscores(name, NameOf::Label));
            }
        }
        let mut names: Vec<&str> = self.labels.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        let is_twice = names.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
        if is_twice { Err(Fault::DuplicateLabel) } else { Ok(()) }
    }
}

fn is_plain(name: &str, of: NameOf) -> bool {
    let is_kept = |byte: u8| {
        byte.is_ascii_alphanumeric() || byte == b'_' || (of == NameOf::Metric && byte == b':')
    };
    name.bytes().all(is_kept) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn with_underscores(name: &str, of: NameOf) -> String {
    let is_kept = |(idx, letter): (usize, char)| {
        letter.is_ascii_alphabetic()
            || letter == '_'
            || (idx > 0 && letter.is_ascii_digit())
            || (of == NameOf::Metric && letter == ':')
    };
    let letters = name.chars().enumerate();
    letters.map(|(idx, letter)| if is_kept((idx, letter)) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::{HonorLabels, Received};
    use crate::source::upstream::exposition::{Fault, parse_series};

    fn received(series: &str) -> Result<Received<'_>, Fault> {
        Received::new(parse_series(series.as_bytes()).expect("the test's series is one"))
    }

    fn text(received: &Received<'_>) -> String {
        let labels = received.labels().map(|(name, value)| format!("{name}={value}"));
        let labels: Vec<_> = labels.collect();
        let form = if received.is_as_it_came() { "as it came" } else { "changed" };
        format!("{} {} ({form})", received.name(), labels.join(" "))
    }

    #[test]
    fn labels_that_are_added_meet_those_that_are_there() {
        let check = |series, honor, expected: &str| {
            let mut received = received(series).expect("its names are free of duplicates");
            received.add([("job", "j"), ("exported_job", "e"), ("none", "")].into_iter(), honor);
            assert_eq!(text(&received), expected);
        };
        let (rename, keep) = (HonorLabels::Rename, HonorLabels::Keep);
        check(r#"a{b="c"}"#, rename, "a b=c job=j exported_job=e (as it came)");
        check(r#"a{job=""}"#, rename, "a job=j exported_job=e (changed)");
        check(r#"a{job="x"}"#, rename, "a job=j exported_job=e exported_exported_job=x (changed)");
        check(
            r#"a{exported_job="y",job="x"}"#,
            rename,
            "a exported_job=e job=j exported_exported_job=x exported_exported_exported_job=y (changed)",
        );
        check(r#"a{job="x"}"#, keep, "a job=x exported_job=e (changed)");
    }

    #[test]
    fn names_of_other_letters_get_underscores() {
        let check = |series, expected: &str| {
            assert_eq!(text(&received(series).expect("no name stands twice")), expected);
        };
        check(r#"{"my.metric:x","a.b:c"="d"}"#, "my_metric:x a_b_c=d (changed)");
        check(r#"{"1é","2"="d"}"#, "__ _=d (changed)");
        assert_eq!(received(r#"{"a","b.c"="1",b_c="2"}"#).err(), Some(Fault::DuplicateLabel));
    }
}
