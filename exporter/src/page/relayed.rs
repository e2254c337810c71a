//! What a target's page became: bytes to serve, and an index of their lines by family. Pure.
//!
//! A line that text 0.0.4 and `OpenMetrics` spell alike stands once, one that they do not stands twice.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    sync::Arc,
};

use bytes::Bytes;

use crate::metric::FamilyType;

/// The samples of one target, with their final labels, ready to be copied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RelayedPage {
    /// All lines, in the order of the target's page.
    pub bytes: Bytes,
    /// Where each line is.
    pub lines: Vec<Line>,
    /// Which lines belong to which family; together they are all lines.
    pub runs: Vec<Run>,
}

/// One line of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its first byte.
    pub start: u32,
    /// Its length, with its end.
    pub n_bytes: u32,
    /// In which format it is served.
    pub form: Form,
    /// What it is about: equal for all lines of one histogram, and for equal series of two targets.
    pub group: Group,
}

/// In which format a line is served, and whether it is written the same way in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The same in both.
    Same,
    /// The same but for its timestamp, which stands here in milliseconds.
    Timestamped,
    /// Text 0.0.4 only; the line behind it says the same in `OpenMetrics`.
    TextOnly,
    /// `OpenMetrics` only.
    OpenMetricsOnly,
}

impl Form {
    /// Whether the line is a sample of its own, not the other spelling of the one before it.
    #[must_use]
    pub fn is_sample(self) -> bool {
        self != Self::OpenMetricsOnly
    }
}

/// Successive lines of one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The family.
    pub family: Arc<FamilyMeta>,
    /// How many lines.
    pub n_lines: usize,
}

/// What a target says of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyMeta {
    /// Its name as text 0.0.4 has it: that of its samples, for a histogram or summary without their suffixes.
    pub name: Arc<str>,
    /// Its type.
    pub family_type: FamilyType,
    /// Its help, without escapes; empty if there was none.
    pub help: String,
    /// Its unit, which only `OpenMetrics` has; empty if there was none.
    pub unit: String,
}

/// A fingerprint of a family and of labels, without `le` and `quantile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Group(u64);

/// Makes fingerprints. Those of different hashers cannot be compared; a clone gives the same.
///
/// Two of a million series share one by chance with a probability of 1 in 30 million, and nobody can choose labels
/// that do, because the seed is random.
#[derive(Clone, Debug, Default)]
pub struct SeriesHasher(foldhash::quality::RandomState);

impl SeriesHasher {
    /// The fingerprint of a name and labels, whose order does not matter.
    pub fn group<'a>(
        &self,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Group {
        let of_labels = labels.into_iter().map(|(name, value)| self.pair(name, value));
        Group(of_labels.fold(self.pair(name, ""), u64::wrapping_add))
    }

    fn pair(&self, name: &str, value: &str) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(name.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(value.as_bytes());
        hasher.finish()
    }
}

impl RelayedPage {
    /// How many samples there are.
    #[must_use]
    pub fn n_samples(&self) -> usize {
        self.lines.iter().filter(|line| line.form.is_sample()).count()
    }

    /// The bytes of a line, with its end.
    #[must_use]
    pub fn line(&self, line: Line) -> &[u8] {
        let start = line.start as usize;
        self.bytes.get(start..start.saturating_add(line.n_bytes as usize)).unwrap_or_default()
    }

    /// The families with their lines, in the order of the page.
    pub fn families(&self) -> impl Iterator<Item = (&Arc<FamilyMeta>, &[Line])> {
        let mut rest = self.lines.as_slice();
        self.runs.iter().map(move |run| {
            let (lines, after) = rest.split_at_checked(run.n_lines).unwrap_or((rest, &[]));
            rest = after;
            (&run.family, lines)
        })
    }

    /// Keeps only the samples that `keep` wants; it is asked once for each, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&FamilyMeta, Line) -> bool) {
        let mut kept_lines = Vec::with_capacity(self.lines.len());
        let mut kept_runs = Vec::with_capacity(self.runs.len());
        for (family, lines) in self.families() {
            let n_before = kept_lines.len();
            let mut is_kept = true;
            for line in lines {
                if line.form.is_sample() {
                    is_kept = keep(family, *line);
                }
                if is_kept {
                    kept_lines.push(*line);
                }
            }
            let n_lines = kept_lines.len() - n_before;
            if n_lines > 0 {
                kept_runs.push(Run { family: Arc::clone(family), n_lines });
            }
        }
        self.lines = kept_lines;
        self.runs = kept_runs;
    }
}

#[cfg(test)]
mod tests {
    use super::SeriesHasher;

    #[test]
    fn fingerprints_do_not_mind_the_order_and_do_mind_the_rest() {
        let hasher = SeriesHasher::default();
        let group =
            |name: &str, labels: &[(&str, &str)]| hasher.group(name, labels.iter().copied());
        let one = group("a", &[("b", "c"), ("d", "e")]);
        assert_eq!(one, group("a", &[("d", "e"), ("b", "c")]));
        assert_eq!(one, hasher.clone().group("a", [("b", "c"), ("d", "e")]));
        for other in [
            group("b", &[("b", "c"), ("d", "e")]),
            group("a", &[("b", "e"), ("d", "c")]),
            group("a", &[("b", "c")]),
            group("a", &[]),
        ] {
            assert_ne!(one, other);
        }
    }
}
