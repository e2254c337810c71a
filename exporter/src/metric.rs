//! Vocabulary of what sources give: families of samples, each about a [`Subject`]. No IO, no clock.

use std::borrow::Cow;

use crate::subject::Subject;

/// The type of a family, as Prometheus names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while its subject lives.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Observations by size, with their sum.
    Histogram,
}

impl Kind {
    /// The word behind `# TYPE`, the same in both text formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The type of a family as a page may say it: that of Podmeter's own families, and those that only others expose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FamilyType {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Observations by size, with their sum.
    Histogram,
    /// Observations by quantile, with their sum.
    Summary,
    /// `OpenMetrics` only: labels that describe, with the value 1.
    Info,
    /// `OpenMetrics` only: one series per state, 0 or 1.
    StateSet,
    /// Not said, or not agreed upon.
    Unknown,
}

impl FamilyType {
    /// What the names of a family's samples end in, if they are not just the family's name.
    #[must_use]
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
            Self::Counter | Self::Gauge | Self::Info | Self::StateSet | Self::Unknown => &[],
        }
    }
}

impl From<Kind> for FamilyType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::Gauge => Self::Gauge,
            Kind::Histogram => Self::Histogram,
        }
    }
}

/// What one family is; every family that Podmeter itself measures has one, and docs/metrics.md is made of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Desc {
    /// The full name, with `_total` where it is a counter.
    pub name: &'static str,
    /// One full sentence.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The base unit that the name carries (`seconds`, `bytes`), for OpenMetrics' `# UNIT`; empty for a bare count.
    pub unit: &'static str,
    /// The measurement's own label names; those of the subject come from `labelling`.
    pub labels: &'static [&'static str],
    /// Where the number comes from: a kernel file or function.
    pub origin: &'static str,
}

/// All samples of one metric from one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// What it is.
    pub desc: &'static Desc,
    /// Its samples, in any order.
    pub samples: Vec<Sample>,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Whom it is about.
    pub subject: Subject,
    /// The measurement's own labels, in the order of [`Desc::labels`].
    pub labels: OwnLabels,
    /// The number.
    pub value: Value,
}

/// A measurement's own labels; most have none, and an empty `Vec` allocates nothing.
pub type OwnLabels = Vec<(&'static str, Cow<'static, str>)>;

/// The number of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A counter or a gauge.
    Number(f64),
    /// A histogram.
    Histogram(Histogram),
}

/// Observations by size.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bounds in the family's unit, rising, without `+Inf`.
    pub bounds: &'static [f64],
    /// Observations per bucket, not cumulative; one more than `bounds`.
    pub buckets: Vec<u64>,
    /// Sum of all observations in the family's unit.
    pub sum: f64,
}

impl Histogram {
    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}
